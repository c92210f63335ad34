"""What jobs saved: `tensors`, and `evaluate`, which runs a rule on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watcher.cli.terminal import All, ConfigFile, Json, PlotFile, Verbose, err, now, out, print_json, start
from watcher.errors import UsageError, install_extra

if TYPE_CHECKING:
    from rules import Verdict
    from watcher.debug_output.event_files import SavedStep
    from watcher.evaluation.backtest import Backtest


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
    settings = start(config, verbose=verbose)
    if plot:
        _can_plot(plot)
    from watcher.aws.accounts import Accounts
    from watcher.debug_output import series
    from watcher.evaluation.saved_data import find

    fits = _expression(name)
    with_values = bool(as_json or name or plot)
    saved = find(place, Accounts(settings.region, settings.account), now)
    uri = saved.tensors.uri
    collector = series.Collector(fits, full=full)
    with _reading(saved.name) as tell:
        for step in saved.read(fits if with_values else series.once(fits)):
            collector.add(step)
            tell(step)
    found = collector.series()
    if plot:
        from watcher.alerts import plots as pictures

        pictures.save(pictures.of_tensors(found, saved.name), plot)
    if as_json:
        print_json(series.document(found))
    elif not found:
        typer.echo(f"No tensor {f'whose name fits {name} ' if name else ''}is saved in {uri}.")
    else:
        from watcher.cli import tables

        (tables.print_values if name else tables.print_tensors)(found, out(), show_all=show_all)


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
    settings = start(config, verbose=verbose)
    if plot:
        _can_plot(plot)
    from functools import partial

    from watcher.aws.accounts import Accounts
    from watcher.cli import tables
    from watcher.evaluation import backtest
    from watcher.evaluation.saved_data import find

    find_saved = partial(find, accounts=Accounts(settings.region, settings.account), clock=now)
    combinations = [{**given, **combination} for combination in backtest.sweep(swept)]
    runs = [backtest.backtest(find_saved(place), rule, combinations, find_saved) for place in places]
    if swept:
        rows = [row for run in runs for row in _swept(run)]
        if as_json:
            print_json(rows)
        else:
            tables.print_sweep(rows, list(swept), out())
        return 0
    [run] = runs
    verdict = _evaluated(run, plot)
    if as_json:
        print_json(backtest.evaluation(run, verdict))
    else:
        tables.print_evaluation(run, verdict, out())
    return 1 if verdict.status in ("issues_found", "error") else 0


def _swept(run: Backtest) -> list[dict[str, Any]]:
    from watcher.evaluation.backtest import row

    with _reading(run.saved.name) as tell:
        verdicts = run.run(tell)
    return [row(run.saved, *tried) for tried in zip(run.settings, verdicts, strict=True)]


def _evaluated(run: Backtest, plot: Path | None) -> Verdict:
    from watcher.debug_output import series

    collector = series.Collector()
    with _reading(run.saved.name) as tell:

        def see(step: SavedStep) -> None:
            tell(step)
            if plot:
                collector.add(step)

        [verdict] = run.run(see, whole=plot is not None)
    if plot:
        from watcher.alerts import plots as pictures

        read = [one for one in collector.series() if one.tensor in verdict.tensors]
        pictures.save(pictures.of_verdict(read, verdict, run.rule, run.saved.name), plot)
    return verdict


@contextmanager
def _reading(job: str) -> Iterator[Callable[[SavedStep], object]]:
    """Tells a terminal how far it is; takes the steps as they come."""
    with err().status(f"reading {job} …") as status:
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
    """Called before the tensors are read, which can take minutes."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise UsageError(f"matplotlib is missing, which --plot needs; {install_extra('plot')}")
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {file}: its name should end in .png, .svg or .pdf")
    if not file.parent.is_dir():
        raise UsageError(f"--plot {file}: there is no folder {file.parent}")
