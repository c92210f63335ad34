"""`compare`: puts runs side by side, the best first."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.terminal import (
    All,
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
    write,
)
from watcher.errors import OptionsError, StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watcher.aws.accounts import Accounts
    from watcher.comparison.compare import Comparison, Wanted
    from watcher.comparison.document import ComparisonView, Curves
    from watcher.comparison.runs import Run
    from watcher.config.settings import Config

MAX_RUNS_ASKED = 50
"""For so many runs, the store is asked one by one. With more, reading all of its findings is cheaper."""

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
    show_all: All = False,
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
    from watcher.cli.comparison_tables import print_comparison, print_curves
    from watcher.comparison.compare import Wanted
    from watcher.comparison.document import Around, curves, document
    from watcher.comparison.document import as_csv as written_as_csv
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
    around = Around(_findings(comparison, settings), settings.prices, now())
    shown = document(comparison, around)
    drawn, over = curves(shown)
    if plot:
        _draw(shown, drawn, over, plot)
    if as_json:
        print_json(shown)
    elif as_csv:
        write(written_as_csv(shown))
    else:
        print_comparison(shown, out(), show_all=show_all)
        print_curves(drawn, over, out())


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


def _draw(shown: ComparisonView, curves: Curves, over: str, file: Path) -> None:
    if not curves or shown["metric"] is None:
        raise UsageError("there is nothing to draw: none of these runs has more than one value of a metric")
    from watcher.alerts import plots

    title = f"{shown['metric']} of {len(curves)} runs"
    plots.save(plots.of_curves(curves, title, over, shown["metric"]), file)


def _findings(comparison: Comparison, settings: Config) -> dict[str, list[str]]:
    """What is wrong with the runs themselves, as the store has it, by the identity of the run: the rules that
    found an issue, and `job_failed` or `job_stopped`. Empty without a store."""
    from watcher.model import FindingKind

    jobs = {run.job.run for run in comparison.runs if run.job}
    of_the_run = {FindingKind.RULE_ISSUE, FindingKind.JOB_FAILED, FindingKind.JOB_STOPPED}
    found: dict[str, list[str]] = {}
    try:
        with existing_store(settings) as store:
            few = len(jobs) <= MAX_RUNS_ASKED
            for finding in chain.from_iterable(map(store.findings, jobs)) if few else store.findings():
                if finding.run in jobs and finding.kind in of_the_run:
                    found.setdefault(finding.run, []).append(finding.rule or finding.kind)
    except StoreError:
        return {}
    return found
