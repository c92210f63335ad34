"""Compares runs by one metric: chooses it, reads it where it is, and ranks the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from watcher.aws.accounts import Accounts
from watcher.comparison import measurements
from watcher.comparison.runs import By, Goal, Measured, Run, chosen_metric, goal, ranked, same_metric
from watcher.debug_output.event_files import SavedStep


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asked for."""

    metric: str = ""
    """Empty: the comparison chooses one."""
    by: By | None = None
    """None: by the best value."""
    rises: bool | None = None
    """Whether a higher value is better; None: the metric's name says so."""


@dataclass(frozen=True, slots=True)
class Comparison:
    goal: Goal
    runs: Sequence[Run]
    """The best first."""
    measured: Mapping[str, Measured]
    """By the id of the run; those without a value of the metric are missing."""
    problems: Mapping[str, str]
    """Why the tensors of a run could not be read, by its id."""


def compare(
    runs: Sequence[Run],
    wanted: Wanted,
    accounts: Accounts,
    now: datetime,
    progress: Callable[[str, SavedStep], object],
) -> Comparison:
    """Tensors are read of those runs alone that have the metric nowhere else.

    Raises `UsageError` if no run has the metric that was asked for, and `AwsError`.
    """
    for names in _named(runs, wanted.metric, accounts, now):
        metric = chosen_metric(names, wanted.metric)
        found, problems = _measured(runs, metric, accounts, now, progress) if metric else ({}, {})
        if found or problems or wanted.metric:
            aim = goal(metric, wanted.by, wanted.rises)
            return Comparison(aim, ranked(runs, found, aim), found, problems)
    aim = goal("", wanted.by, wanted.rises)
    return Comparison(aim, ranked(runs, {}, aim), {}, {})


def _named(
    runs: Sequence[Run], asked: str, accounts: Accounts, now: datetime
) -> Iterator[Sequence[Sequence[str]]]:
    """The names of the metrics of each run. Without one that was asked for, first those that a run surely
    has, and then, until one of them has a value, those that it may have."""
    defined = [run.metrics for run in runs]
    if asked:
        if not any(same_metric(name, asked) for of_run in defined for name in of_run):
            saved = measurements.saved_names(runs, accounts, losses_only=False)
            defined = [(*of_run, *of_tensors) for of_run, of_tensors in zip(defined, saved, strict=True)]
        yield defined
        return
    recorded = [run.recorded for run in runs]
    if any(recorded):
        yield recorded
    if any(defined):
        yield defined
        yield measurements.written_names(runs, accounts, now)
    yield measurements.saved_names(runs, accounts, losses_only=True)


def _measured(
    runs: Sequence[Run],
    metric: str,
    accounts: Accounts,
    now: datetime,
    progress: Callable[[str, SavedStep], object],
) -> tuple[dict[str, Measured], dict[str, str]]:
    """The metric of each run that has it, and why tensors could not be read; both by the runs' ids."""
    known = {run.id: run.summaries[metric] for run in runs if metric in run.summaries}
    found = measurements.together(known, measurements.from_cloudwatch(runs, metric, accounts, now))
    # Where CloudWatch ought to have it, a run without a value has written none yet.
    if others := [run for run in runs if run.id not in found and metric not in run.metrics]:
        of_tensors, problems = measurements.from_tensors(others, metric, accounts, progress)
        return found | of_tensors, problems
    return found, {}
