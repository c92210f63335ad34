"""`tensors`: shows the tensors that a job saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from watcher.cli.terminal import (
    All,
    ConfigFile,
    Json,
    PlotFile,
    Verbose,
    load_settings,
    now,
    out,
    print_json,
    reading_progress,
    require_plot,
    say,
)
from watcher.errors import OptionsError


def tensors(
    place: Annotated[str, typer.Argument(metavar="JOB|PATH", help="A job, an S3 address, or a folder.")],
    *,
    name: Annotated[str, typer.Option("--name", help="Print the values of tensors whose names match.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Print large tensors in full in the JSON.")] = False,
    plot: PlotFile = None,
    show_all: All = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List the tensors that a job saved, or print their values."""
    if full and (plot or not as_json):
        raise OptionsError("--full needs --json: tables and plots do not show large tensors")
    settings = load_settings(config, verbose=verbose)
    if plot:
        require_plot(plot)
    from watcher.aws.accounts import Accounts
    from watcher.cli.job_names import whole_name
    from watcher.debug_output import series
    from watcher.evaluation.saved_data import find

    matches = _expression(name)
    with_values = bool(as_json or name or plot)
    accounts = Accounts(settings.region, settings.account)
    saved = find(whole_name(place, settings, accounts), accounts, now)
    uri = saved.tensors.uri
    collector = series.Collector(matches, full=full)
    with reading_progress(saved.name) as show_step:
        for step in saved.read(matches if with_values else series.once(matches)):
            collector.add(step)
            show_step(step)
    found = collector.series()
    if plot:
        from watcher.alerts import plots

        plots.save(plots.of_tensors(found, saved.name), plot)
    if as_json:
        print_json(series.document(found))
    elif not found:
        say(f"No tensor {f'whose name matches {name} ' if name else ''}is saved in {uri}.")
    else:
        from watcher.cli import tensor_tables

        print_found = tensor_tables.print_values if name else tensor_tables.print_tensors
        print_found(found, out(), show_all=show_all)


def _expression(text: str) -> Callable[[str], bool]:
    import re

    try:
        found = re.compile(text).search
    except re.error as error:
        raise OptionsError(f"--name {text}: {error}") from error
    return lambda name: found(name) is not None
