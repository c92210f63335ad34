"""`metrics`: a job's training metrics in CloudWatch, as a table and as curves."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import typer

from watcher.cli.terminal import (
    ConfigFile,
    Json,
    PlotFile,
    Verbose,
    err,
    load_settings,
    now,
    out,
    print_json,
    require_plot,
)
from watcher.errors import UsageError

MAX_NAMES = 5
"""How many metrics a sentence names."""


def metrics(
    name: Annotated[str, typer.Argument(metavar="JOB", help="The job.")],
    *,
    pattern: Annotated[str, typer.Option("--name", metavar="GLOB", help="Only these metrics.")] = "*",
    plot: PlotFile = None,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show the metrics that a job wrote to CloudWatch."""
    if plot:
        require_plot(plot)
    settings = load_settings(config, verbose=verbose)
    from watcher.aws.accounts import Accounts
    from watcher.cli import comparison_tables
    from watcher.cli.job_names import described_job
    from watcher.cli.tables import print_line
    from watcher.comparison import measurements
    from watcher.evaluation.metric_steps import names

    accounts = Accounts(settings.region, settings.account)
    job = described_job(name, settings, accounts).snapshot
    has = names(job)
    if not has:
        raise UsageError(
            f"{job.name} has no metrics: it was started without MetricDefinitions. What it saved is shown by "
            f"watcher tensors {job.name}"
        )
    asked = [each for each in has if fnmatchcase(each, pattern)]
    if not asked:
        raise UsageError(f"no metric of {job.name} matches {pattern}: it has {_several(has)}")
    with err().status(f"reading the metrics of {job.name} …"):
        found = measurements.of_job(accounts.of(job.arn), job, asked, now())
    none = f"CloudWatch has no value of {_several(asked)}"
    curves = {each: one.curve for each, one in found.items() if one.curve}
    if plot:
        if not curves:
            raise UsageError(f"there is nothing to draw: {none}")
        from watcher.alerts import plots

        plots.save(plots.of_panels(curves, job.name, "minutes of training"), plot)
    if as_json:
        print_json({"job": job.name, "arn": job.arn, "began_at": job.started_at, "metrics": _document(found)})
    elif not found:
        print_line(out(), f"{none}{'' if job.ended else ' yet'}.")
    else:
        comparison_tables.print_metrics(found, out())
        comparison_tables.print_curves(curves, "minutes of training", out())


def _several(names: Sequence[str]) -> str:
    """A built-in algorithm defines dozens of metrics."""
    more = len(names) - MAX_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MAX_NAMES])} and {more} more metrics"


def _document(found: Any) -> dict[str, Any]:
    return {
        name: {
            "last": one.last,
            "min": one.min,
            "max": one.max,
            "minutes": [minute for minute, _ in one.curve],
            "values": [value for _, value in one.curve],
        }
        for name, one in found.items()
    }
