"""The commands. Each reads its words, calls what does the work, and prints; what is heavy is imported late.

stdout is data, stderr is logs and everything that is said to a person about the work. Exit codes: 0 fine,
1 something failed or was refused, 2 the command or the configuration is wrong (one line says how to mend it).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watcher.errors import ConfigError, UsageError, WatcherError

if TYPE_CHECKING:
    from rich.console import Console

    from rules import Verdict
    from watcher.aws.event_files import SavedStep
    from watcher.backtest import Backtest
    from watcher.config import Config
    from watcher.manual_stop import Stopped
    from watcher.model import JobSnapshot
    from watcher.store.base import Store

app = typer.Typer(
    name="watcher",
    help="Watches Amazon SageMaker training jobs and tells people what went wrong.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The settings; watcher.toml in this folder if there is one."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log what is decided, too.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PlotFile = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw a picture: .png, .svg or .pdf.")
]
All = Annotated[bool, typer.Option("--all", help="Show long lists whole, on a terminal too.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What a user can cause never ends in a traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(args=words or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except WatcherError as error:
        code = _complain(str(error), 2 if isinstance(error, ConfigError | UsageError) else 1)
    except typer.TyperException as error:
        code = _complain(f"{error.format_message()} (see watcher --help)", 2)
    except typer.Abort:
        code = _complain("nothing was done", 1)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read has seen enough. Python would complain at its end if stdout still had a pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    return code or 0


def _complain(sentence: str, code: int) -> int:
    from watcher.log import Redactor

    typer.echo(f"watcher: {Redactor().text(' '.join(sentence.split()))}", err=True)
    return code


# -- watching -------------------------------------------------------------------------------------


@app.command()
def run(
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="JOB", help="Watch only these, until they are settled.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One pass over everything, deliver, exit.")] = False,
    config: ConfigFile = None,
    verbose: Verbose = False,
) -> int:
    """Watch training jobs, and alert."""
    settings = _start(config, verbose=verbose, usual=logging.INFO)
    if unused := settings.not_used_yet():
        import structlog

        structlog.get_logger(__name__).warning("not_used_yet", keys=unused)
    from watcher import app as daemon

    return daemon.run(settings, jobs or (), once)


@app.command()
def check(config: ConfigFile = None, as_json: Json = False, verbose: Verbose = False) -> int:
    """Try everything that `run` will need, and say what is missing."""
    from watcher.config import DEFAULT_FILE
    from watcher.preflight import State, preflight

    settings = _start(config, verbose=verbose)
    file = config or DEFAULT_FILE
    source = str(file) if file.exists() else f"no {file} here: every setting has its default"
    done = []
    with _err().status("checking …") as status:
        for result in preflight(settings, source):
            done.append(result)
            status.update(f"checked {result.name} …")
    if as_json:
        from dataclasses import asdict

        _print_json([asdict(result) for result in done])
    else:
        from watcher.tables import Table

        rows = [(result.state, result.name, result.found, result.mend) for result in done]
        Table(("state", "check", "found", "mend"), rows).print(_out())
    return 1 if any(result.state is State.FAILED for result in done) else 0


# -- what it knows --------------------------------------------------------------------------------


@app.command()
def status(config: ConfigFile = None, as_json: Json = False, verbose: Verbose = False) -> None:
    """Counts of jobs and findings, and what could not be delivered."""
    from watcher import tables, views

    settings = _start(config, verbose=verbose)
    with _known(settings) as store:
        document = views.status(store, settings.store.url)
    if as_json:
        _print_json(document)
    else:
        tables.print_status(document, _now(), _out())


@app.command()
def jobs(
    pattern: Annotated[str, typer.Argument(help="Glob on the job's name.")] = "*",
    show_all: All = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """The jobs that Watcher knows, newest first."""
    from watcher import tables, views

    with _known(_start(config, verbose=verbose)) as store:
        document = views.jobs(store, pattern)
    if as_json:
        _print_json(document)
    else:
        tables.print_jobs(document, _now(), _out(), show_all=show_all)


@app.command()
def show(
    job: Annotated[str, typer.Argument(help="The job's name or ARN.")],
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """One job: its rules, its findings, where they were told.

    Also who stopped it, and how each delivery ended.
    """
    from watcher import tables, views

    with _known(_start(config, verbose=verbose)) as store:
        document = views.show(store, job)
    if as_json:
        _print_json(document)
    else:
        tables.print_job(document, _now(), _out())


@app.command()
def findings(
    job: Annotated[str, typer.Option("--job", help="Glob on the job's name.")] = "*",
    show_all: All = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """What was found, newest first, and where it was told."""
    from watcher import tables, views

    with _known(_start(config, verbose=verbose)) as store:
        document = views.findings(store, job)
    if as_json:
        _print_json(document)
    else:
        tables.print_findings(document, _now(), _out(), show_all=show_all)


# -- what was saved -------------------------------------------------------------------------------


@app.command()
def tensors(
    place: Annotated[str, typer.Argument(metavar="JOB|PATH", help="A job, a place on S3, or a folder.")],
    *,
    name: Annotated[str, typer.Option("--name", help="Regular expression on the names; shows values.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Large tensors whole, in the JSON.")] = False,
    plot: PlotFile = None,
    show_all: All = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """The tensors that a job saved, and their values."""
    if full and (plot or not as_json):
        raise UsageError("--full is for --json alone: neither a table nor a picture shows large tensors")
    settings = _start(config, verbose=verbose)
    if plot:
        _can_plot(plot)
    from watcher import series
    from watcher.aws.session import Aws
    from watcher.saved import find

    fits = _expression(name)
    with_values = bool(as_json or name or plot)
    saved = find(place, Aws(settings.region))
    collector = series.Collector(fits, full=full)
    with _reading(saved.name) as tell:
        for step in saved.read(fits if with_values else series.once(fits)):
            collector.add(step)
            tell(step)
    found = collector.series()
    if plot:
        from watcher import plot as pictures

        pictures.save(pictures.of_tensors(found, saved.name), plot)
    if as_json:
        _print_json(series.document(found))
    elif not found:
        typer.echo(f"No tensor {f'whose name fits {name} ' if name else ''}is saved in {saved.output.uri}.")
    else:
        from watcher import tables

        (tables.print_values if name else tables.print_tensors)(found, _out(), show_all=show_all)


@app.command()
def evaluate(
    places: Annotated[list[str], typer.Argument(metavar="JOB|PATH", help="Jobs, places on S3, or folders.")],
    *,
    rule: Annotated[str, typer.Option("--rule", help="A rule's name; FILE.py:CLASS for a custom one.")],
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="K=V", help="In place of the job's own.")
    ] = None,
    sweeps: Annotated[
        list[str] | None, typer.Option("--sweep", metavar="K=V,V", help="Tries each of these values.")
    ] = None,
    plot: PlotFile = None,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Run a rule now on what was saved."""
    given = _pairs("--param", param or ())
    swept = {key: values.split(",") for key, values in _pairs("--sweep", sweeps or ()).items()}
    if both := given.keys() & swept.keys():
        raise UsageError(f"{min(both)} is both in --param and in --sweep")
    if len(places) > 1 and not swept:
        raise UsageError("several jobs want a --sweep, such as --sweep num_steps=5,10; or name one job")
    if plot and (swept or ":" in rule):
        raise UsageError("--plot draws a single evaluation of a built-in rule")
    settings = _start(config, verbose=verbose)
    if plot:
        _can_plot(plot)
    from functools import partial

    from watcher import backtest, tables
    from watcher.aws.session import Aws
    from watcher.saved import find

    find_saved = partial(find, aws=Aws(settings.region))
    combinations = [{**given, **combination} for combination in backtest.sweep(swept)]
    runs = [backtest.backtest(find_saved(place), rule, combinations, find_saved) for place in places]
    if swept:
        rows = [row for run in runs for row in _swept(run)]
        if as_json:
            _print_json(rows)
        else:
            tables.print_sweep(rows, list(swept), _out())
        return 0
    [run] = runs
    verdict = _evaluated(run, plot)
    if as_json:
        _print_json(backtest.evaluation(run, verdict))
    else:
        tables.print_evaluation(run, verdict, _out())
    return 1 if verdict.status in ("issues_found", "error") else 0


def _swept(run: Backtest) -> list[dict[str, Any]]:
    from watcher.backtest import row

    with _reading(run.saved.name) as tell:
        verdicts = run.run(tell)
    return [row(run.saved, *tried) for tried in zip(run.settings, verdicts, strict=True)]


def _evaluated(run: Backtest, plot: Path | None) -> Verdict:
    from watcher import series

    collector = series.Collector()
    with _reading(run.saved.name) as tell:

        def see(step: SavedStep) -> None:
            tell(step)
            if plot:
                collector.add(step)

        [verdict] = run.run(see, whole=plot is not None)
    if plot:
        from watcher import plot as pictures

        read = [one for one in collector.series() if one.tensor in verdict.tensors]
        pictures.save(pictures.of_verdict(read, verdict, run.rule, run.saved.name), plot)
    return verdict


@contextmanager
def _reading(job: str) -> Iterator[Callable[[SavedStep], object]]:
    """Tells a terminal how far it is; takes the steps as they come."""
    with _err().status(f"reading {job} …") as status:
        yield lambda step: status.update(f"reading {job} … step {step.step}")


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UsageError(f"{option} {text}: write {option} num_steps=10")
        if key in pairs:
            raise UsageError(f"{option} {key} is given twice")
        pairs[key] = value
    return pairs


def _expression(text: str) -> Callable[[str], bool]:
    import re

    try:
        found = re.compile(text).search
    except re.error as error:
        raise UsageError(f"--name {text}: {error}") from error
    return lambda name: found(name) is not None


def _can_plot(file: Path) -> None:
    """Asked first: nobody wants to hear it after minutes of reading."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise UsageError("matplotlib is missing: --plot needs it (pip install 'debugger-watcher[plot]')")
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {file}: its name should end in .png, .svg or .pdf")
    if not file.parent.is_dir():
        raise UsageError(f"--plot {file}: there is no folder {file.parent}")


# -- stopping -------------------------------------------------------------------------------------


@app.command()
def stop(
    names: Annotated[list[str] | None, typer.Argument(metavar="JOB", help="Names or ARNs.")] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all-in-progress", help="Every job in progress that is watched.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be stopped, stop nothing.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel a stop that still waits for the end of stop.grace.")
    ] = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Stop training jobs, with the guards of the daemon; asks first."""
    if bool(names) == everything:
        raise UsageError("name the jobs to stop, or say --all-in-progress")
    if cancel:
        if everything or dry_run:
            raise UsageError("--cancel wants the names of the jobs, and nothing else")
        return _cancel(names or (), _start(config, verbose=verbose), as_json=as_json)
    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError("nobody can be asked here, since this is no terminal: say --yes")
    settings = _start(config, verbose=verbose)
    if dry_run:
        rehearsal = settings.stop.model_copy(update={"dry_run": True})
        settings = settings.model_copy(update={"stop": rehearsal})

    from contextlib import closing

    from watcher import manual_stop
    from watcher.aws.sagemaker import TrainingJobs
    from watcher.aws.session import Aws
    from watcher.stop import Stopper
    from watcher.store import open_store

    training_jobs = TrainingJobs(Aws(settings.region))
    with closing(open_store(settings.store.url)) as store:
        with _err().status("looking at the jobs …"):
            chosen = (
                list(manual_stop.all_in_progress(training_jobs, settings.watch))
                if everything
                else manual_stop.named(training_jobs, names or ())
            )
        if chosen:
            _list_to_stop(chosen, store)
        if chosen and not (yes or dry_run):
            typer.confirm(
                f"Stop {'this job' if len(chosen) == 1 else f'these {len(chosen)} jobs'}?",
                abort=True,
                err=True,
            )
        stopper = Stopper(training_jobs, store, settings.stop, _now)
        ended = _with_progress(
            manual_stop.stop(stopper, chosen, actor=f"watcher stop by {_user()}"), len(chosen)
        )
    if as_json:
        _print_json([_stopped(each) for each in ended])
    elif not chosen:
        typer.echo("No watched job is in progress.")
    else:
        from watcher.tables import Table

        rows = [(each.job.name, each.state, each.sentence) for each in ended]
        Table(("job", "state", "what happened"), rows).print(_out())
    return 0 if all(each.as_wanted for each in ended) else 1


def _list_to_stop(chosen: Sequence[JobSnapshot], store: Store) -> None:
    from collections import Counter

    from watcher.tables import Table, ago, instances

    findings = Counter(finding.job_arn for finding in store.findings())
    rows = [
        (
            job.name,
            job.status,
            ago(job.started_at or job.created_at, _now()),
            instances(job.instance_type, job.instance_count),
            str(findings[job.arn] or ""),
        )
        for job in chosen
    ]
    Table(("job", "status", "started", "instances", "findings"), rows).print(_err())


def _with_progress(stops: Iterator[Stopped], total: int) -> list[Stopped]:
    from rich.progress import Progress

    with Progress(console=_err(), transient=True, disable=not sys.stderr.isatty()) as progress:
        return list(progress.track(stops, total=total, description="stopping"))


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        return f"user {os.getuid()}"


def _stopped(each: Stopped) -> Mapping[str, str]:
    return {"job": each.job.name, "arn": each.job.arn, "state": each.state, "sentence": each.sentence}


def _cancel(names: Sequence[str], settings: Config, *, as_json: bool) -> int:
    from watcher import manual_stop, views

    cancelled = []
    with _known(settings) as store:
        for job in [views.find(store, name).snapshot for name in names]:
            cancelled.append((job, manual_stop.cancel(store, job.arn, _user(), _now()) > 0))
    if as_json:
        _print_json([{"job": job.name, "arn": job.arn, "cancelled": done} for job, done in cancelled])
    else:
        for job, done in cancelled:
            typer.echo(
                f"The stop of {job.name} is cancelled: the job goes on."
                if done
                else f"No stop of {job.name} is waiting, so there is nothing to cancel."
            )
    return 0 if all(done for _, done in cancelled) else 1


# -- trying it ------------------------------------------------------------------------------------


@app.command()
def demo() -> int:
    """The main job on a local SageMaker: training, alert, stop."""
    _need_sandbox_extra()
    from watcher.sandbox.demo import main as demonstrate

    return demonstrate()


@app.command()
def sandbox(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free port.")] = 5000,
) -> None:
    """A local SageMaker to try things on. Prints the environment to export."""
    _need_sandbox_extra()
    from watcher.sandbox.server import serve

    serve(port)


def _need_sandbox_extra() -> None:
    """Asked first, since the sandbox and its jobs are processes of their own, which could only crash."""
    from importlib.util import find_spec

    for module in ("moto", "pandas", "psutil", "requests", "sagemaker", "sklearn", "smdebug", "xgboost"):
        if find_spec(module) is None:
            raise UsageError(
                f"{module} is missing: the sandbox needs its extra (pip install 'debugger-watcher[sandbox]')"
            )


# -- what they share ------------------------------------------------------------------------------


def _start(file: Path | None, *, verbose: bool, usual: int = logging.WARNING) -> Config:
    """The settings, with the log set up so that it shows none of their secrets.

    Commands that print what they did usually log only what went wrong.
    """
    from watcher import log
    from watcher.config import load

    settings = load(file, os.environ)
    credentials = (os.environ.get(name, "") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
    level = logging.DEBUG if verbose else usual
    log.configure(sys.stderr, level=level, secrets=[*settings.secrets(), *credentials])
    return settings


@contextmanager
def _known(settings: Config) -> Iterator[Store]:
    """The store, to read what is known; it is not created by somebody who only asks."""
    from watcher.store import open_store

    store = open_store(settings.store.url, create=False)
    try:
        yield store
    finally:
        store.close()


def _print_json(document: Any) -> None:
    from watcher.views import to_json

    typer.echo(to_json(document))


def _out() -> Console:
    from rich.console import Console

    return Console()


def _err() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _now() -> datetime:
    return datetime.now(UTC)
