"""`init`: writes a first `watcher.toml` from a few answers."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.terminal import say, write
from watcher.errors import UsageError

if TYPE_CHECKING:
    from watcher.config.starter import Answers

_CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]{7,}")


def init(
    file: Annotated[
        Path | None, typer.Option("--config", "-c", help="The file to write. Default: watcher.toml.")
    ] = None,
    *,
    region: Annotated[str | None, typer.Option("--region", help="The AWS region.")] = None,
    jobs: Annotated[
        list[str] | None,
        typer.Option("--job", metavar="GLOB", help="Watch jobs whose name matches. Can be repeated."),
    ] = None,
    channel: Annotated[
        str | None, typer.Option("--slack-channel", metavar="#NAME", help="Send alerts to this channel.")
    ] = None,
    stop: Annotated[
        bool | None, typer.Option("--stop/--no-stop", help="Stop a job when a rule finds an issue.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
) -> None:
    """Write a commented watcher.toml.

    On a terminal it asks for what no option gives. Elsewhere it takes the defaults: the region of the
    environment, all jobs, alerts on the console, no stopping.
    """
    from watcher.config.load import DEFAULT_FILE
    from watcher.config.starter import Answers, problem, starter

    target = file or DEFAULT_FILE
    terminal = sys.stdin.isatty()
    overwrite = target.exists() and (force or _may_overwrite(target, terminal=terminal))
    answers = Answers(region or "", tuple(jobs or "*"), _channel(channel or ""), bool(stop))
    if why := problem(starter(answers), os.environ):
        raise UsageError(why)
    if terminal:
        if region is None:
            answers = _ask(
                "AWS region",
                os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", ""),
                _with_region,
                answers,
            )
        if jobs is None:
            answers = _ask("Jobs to watch, as globs on their names", "*", _with_jobs, answers)
        if channel is None:
            answers = _ask("Slack channel for alerts (empty: the console)", "", _with_channel, answers)
        if stop is None:
            wanted = typer.confirm("Stop a job when one of its rules finds an issue?", err=True)
            answers = replace(answers, stop=wanted)
    with target.open("w" if overwrite else "x", encoding="utf-8") as written:
        written.write(starter(answers))
    _print_next_steps(answers, target)


def _may_overwrite(file: Path, *, terminal: bool) -> bool:
    if not terminal:
        raise UsageError(f"{file} exists: overwrite it with --force, or name another file with --config")
    return typer.confirm(f"{file} exists. Overwrite it?", abort=True, err=True)


# -- questions ------------------------------------------------------------------------------------


def _ask(question: str, default: str, put: Callable[[Answers, str], Answers], answers: Answers) -> Answers:
    """Asks until the answer is one that the settings can hold."""
    from watcher.config.starter import problem, starter

    while True:
        text = typer.prompt(question, default=default, show_default=bool(default), err=True)
        changed = put(answers, text.strip())
        if not (why := problem(starter(changed), os.environ)):
            return changed
        say(why, to_stderr=True)


def _with_region(answers: Answers, text: str) -> Answers:
    return replace(answers, region=text)


def _with_jobs(answers: Answers, text: str) -> Answers:
    return replace(answers, jobs=tuple(re.split(r"[,\s]+", text)))


def _with_channel(answers: Answers, text: str) -> Answers:
    return replace(answers, channel=_channel(text))


def _channel(text: str) -> str:
    """With the `#` that people leave out, which the shell would take for a comment."""
    complete = not text or text.startswith(("#", "${")) or _CHANNEL_ID.fullmatch(text)
    return text if complete else f"#{text}"


# -- what comes next ------------------------------------------------------------------------------


def _print_next_steps(answers: Answers, file: Path) -> None:
    from watcher.config.load import DEFAULT_FILE, TEXT_VARIABLE
    from watcher.config.starter import TOKEN_VARIABLE

    # The variable would be read in place of the default file.
    named = file != DEFAULT_FILE or os.environ.get(TEXT_VARIABLE)
    option = f" --config {shlex.quote(str(file))}" if named else ""
    say(f"Wrote {file}. Next:")
    if answers.channel and not os.environ.get(TOKEN_VARIABLE):
        write(f"  export {TOKEN_VARIABLE}=xoxb-…\n")
    write(f"  watcher check{option}\n")
    write(f"  watcher run{option}\n")
