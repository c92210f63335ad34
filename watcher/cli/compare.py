"""`compare`: puts runs side by side, the best first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.terminal import (
    ConfigFile,
    Json,
    PlotFile,
    Verbose,
    err,
    existing_store,
    load_settings,
    now,
    out,
    print_json,
    require_plot,
)
from watcher.errors import OptionsError, StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watcher.aws.accounts import Accounts
    from watcher.comparison.compare import Comparison, Wanted
    from watcher.comparison.document import ComparisonView, Curves
    from watcher.comparison.runs import Run
    from watcher.config.settings import Config

Direction = Annotated[
    bool | None,
    typer.Option("--maximize/--minimize", help="Whether a higher value is better. Default: by its name."),
]


def compare(
    jobs: Annotated[list[str] | None, typer.Argument(metavar="JOB", help="The jobs to compare.")] = None,
    *,
    experiment: Annotated[str, typer.Option("--experiment", help="The runs of this experiment.")] = "",
    tuning_job: Annotated[
        str, typer.Option("--tuning-job", help="The jobs of this tuning job, by its objective.")
    ] = "",
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="K=V", help="The jobs with this tag.")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="The metric to compare.")] = "",
    by: Annotated[
        str, typer.Option("--by", metavar="last|min|max", help="Rank by this. Default: the best value.")
    ] = "",
    maximize: Direction = None,
    plot: PlotFile = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Put runs side by side, best first, and say what differs."""
    given = [bool(each) for each in (jobs, experiment, tuning_job, tag)]
    if sum(given) != 1:
        raise OptionsError(
            "name the jobs to compare, or give one of --experiment NAME, --tuning-job NAME and --tag K=V"
        )
    if as_csv and as_json:
        raise OptionsError("--csv and --json exclude each other")
    if plot:
        require_plot(plot)
    from watcher.comparison.compare import Wanted
    from watcher.comparison.runs import By

    if by and by not in set(By):
        raise OptionsError(f"--by {by}: it is last, min or max")
    wanted = Wanted(metric, By(by) if by else None, maximize)
    settings = load_settings(config, verbose=verbose)
    from watcher.aws.accounts import Accounts

    accounts = Accounts(settings.region, settings.account)
    if tuning_job:
        runs, wanted = _of_tuning_job(tuning_job, accounts, wanted)
    else:
        runs = _runs(jobs or (), experiment, tag or (), accounts, settings)
    comparison = _compared(runs, wanted, accounts)
    _print(comparison, settings, plot, as_csv=as_csv, as_json=as_json)


def _runs(
    jobs: Sequence[str], experiment: str, tags: Sequence[str], accounts: Accounts, settings: Config
) -> list[Run]:
    from watcher.cli.job_names import described_job
    from watcher.comparison import selection

    with err().status("asking SageMaker for the runs …"):
        if jobs:
            return selection.named(
                jobs, accounts, lambda word: described_job(word, settings, accounts).snapshot
            )
        if experiment:
            return selection.of_experiment(experiment, accounts)
        found = selection.with_tags([_pair(tag) for tag in tags], accounts)
    if not found:
        raise UsageError(f"no training job has the tag {' and '.join(tags)}")
    return found


def _pair(tag: str) -> tuple[str, str]:
    key, equals, value = tag.partition("=")
    if not key or not equals:
        raise OptionsError(f"--tag {tag}: write it as --tag KEY=VALUE")
    return key, value


def _of_tuning_job(name: str, accounts: Accounts, wanted: Wanted) -> tuple[list[Run], Wanted]:
    """Its runs, and what to compare them by: its own objective, unless a person asked for another metric."""
    from watcher.comparison import selection
    from watcher.comparison.compare import Wanted

    with err().status(f"asking SageMaker for the runs of {name} …"):
        runs, tuning = selection.of_tuning_job(name, accounts)
    if not runs:
        raise UsageError(f"the tuning job {name} has started no training job yet")
    if wanted.metric and wanted.metric != tuning.metric:
        return runs, wanted
    rises = tuning.rises if wanted.rises is None else wanted.rises
    return runs, Wanted(tuning.metric, wanted.by, rises)


def _compared(runs: Sequence[Run], wanted: Wanted, accounts: Accounts) -> Comparison:
    from watcher.comparison.compare import compare as compared

    with err().status(f"reading the metrics of {len(runs)} runs …") as status:
        return compared(
            runs,
            wanted,
            accounts,
            now(),
            lambda job, step: status.update(f"reading the tensors of {job} … step {step.step}"),
        )


def _print(
    comparison: Comparison, settings: Config, plot: Path | None, *, as_csv: bool, as_json: bool
) -> None:
    from watcher.cli import comparison_tables
    from watcher.comparison import document

    around = document.Around(_findings(comparison, settings), settings.prices, now())
    shown = document.document(comparison, around)
    curves, over = document.curves(shown)
    if plot:
        _draw(shown, curves, over, plot)
    if as_json:
        print_json(shown)
    elif as_csv:
        typer.echo(document.as_csv(shown), nl=False)
    else:
        console = out()
        comparison_tables.print_comparison(shown, console)
        comparison_tables.print_curves(curves, over, console)


def _draw(shown: ComparisonView, curves: Curves, over: str, file: Path) -> None:
    if not curves or shown["metric"] is None:
        raise UsageError("there is nothing to draw: none of these runs has more than one value of a metric")
    from watcher.alerts import plots

    title = f"{shown['metric']} of {len(curves)} runs"
    plots.save(plots.of_curves(curves, title, over, shown["metric"]), file)


def _findings(comparison: Comparison, settings: Config) -> dict[str, list[str]]:
    """The rules of the findings that the store has, by the identity of the run; none without a store."""
    jobs = {run.job.run for run in comparison.runs if run.job}
    found: dict[str, list[str]] = {}
    try:
        with existing_store(settings) as store:
            for finding in store.findings():
                if finding.run in jobs:
                    found.setdefault(finding.run, []).append(finding.rule or finding.kind)
    except StoreError:
        return {}
    return found
