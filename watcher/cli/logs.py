"""`logs`: prints the logs of a job's rules, or of the training job itself."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import cycle
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.terminal import ConfigFile, Json, Verbose, load_settings, now, say
from watcher.errors import OptionsError
from watcher.logs.since import parse as parse_since

if TYPE_CHECKING:
    from watcher.logs.follow import Line

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")


def logs(
    job: Annotated[str, typer.Argument(help="The job's name or ARN, the beginning of its name, or latest.")],
    *,
    rule: Annotated[str | None, typer.Option("--rule", help="Only the log of this rule.")] = None,
    training: Annotated[
        bool, typer.Option("--training", help="The log of the training job instead.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the job has ended and its last line is in.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", "-s", help="Lines from then on: 1h30m, 2d, or 2026-11-20T10:00Z."),
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option("--grep", metavar="PATTERN", help="Only lines that match this regular expression."),
    ] = None,
    utc: Annotated[
        bool, typer.Option("--utc", help="Print times in UTC, not in this machine's time zone.")
    ] = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Print the logs of a job's rules in order of time.

    --json prints one object per line: time, rule, stream, message.
    """
    if training and rule:
        raise OptionsError("--training is the log of the job, --rule the log of a rule: use one of them")
    wanted = _expression(grep)
    begin = parse_since(since, now()) if since is not None else None
    settings = load_settings(config, verbose=verbose)
    from watcher.aws.accounts import Accounts
    from watcher.cli.job_names import described_job, whole_name
    from watcher.logs import follow as following

    accounts = Accounts(settings.region, settings.account)
    log: following.JobLog
    if training:
        log = following.TrainingLog(accounts, whole_name(job, settings, accounts), begin)
    else:
        described = described_job(job, settings, accounts).snapshot
        log = following.RulesLog(accounts, described, settings.rules, rule, begin)
    read = shown = 0

    def print_lines(lines: Iterator[Line]) -> int:
        nonlocal read, shown
        before = read
        text = _json if as_json else _text(log.labels, wanted, utc=utc)
        try:
            for line in lines:
                read += 1
                if wanted is None or wanted.search(line.text):
                    shown += 1
                    sys.stdout.write(text(line))
        finally:
            sys.stdout.flush()
        return read - before

    if follow:
        following.follow(log, print_lines, _print_message, now=now(), clock=time.monotonic, wait=time.sleep)
    else:
        log.look()
        print_lines(log.read())
    if not shown:
        _print_message(f"no line matches {grep}" if read else log.why_empty())


def _print_message(text: str) -> None:
    say(f"watcher: {text}", to_stderr=True)


def _text(labels: Iterable[str], wanted: re.Pattern[str] | None, *, utc: bool) -> Callable[[Line], str]:
    """Formats a line: coloured and aligned on a terminal, plain fields elsewhere. Each line of a message of
    several lines starts with the label and the time."""
    from watcher.logs import terminal_lines
    from watcher.text import in_row

    def shown_of(line: Line) -> str:
        return "\n".join(terminal_lines.lines(line.text)).strip("\n")

    when = lru_cache(maxsize=4)(_utc if utc else _local)
    if not sys.stdout.isatty():

        def plain(line: Line) -> str:
            return _labelled(f"{in_row(line.label)} {when(line.timestamp // 1000)} ", shown_of(line))

        return plain
    names = sorted(labels)
    width = max((len(in_row(name)) for name in names), default=0)
    styled = {
        name: typer.style(in_row(name).ljust(width), fg=colour)
        for name, colour in zip(names, cycle(COLOURS), strict=False)
    }

    def coloured(line: Line) -> str:
        shown = shown_of(line)
        if wanted:
            shown = wanted.sub(lambda match: typer.style(match[0], bold=True, fg="red"), shown)
        at = typer.style(when(line.timestamp // 1000), dim=True)
        return _labelled(f"{styled[line.label]} {at} ", shown)

    return coloured


def _labelled(label: str, text: str) -> str:
    if "\n" in text:
        text = text.replace("\n", f"\n{label}")
    return f"{label}{text}\n"


def _json(line: Line) -> str:
    import json

    seconds, milliseconds = divmod(line.timestamp, 1000)
    at = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
    document = {"time": at, "rule": line.rule, "stream": line.stream, "message": line.text}
    return f"{json.dumps(document)}\n"


def _utc(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _local(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")


def _expression(text: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise OptionsError(f"--grep {text}: {error}") from error
