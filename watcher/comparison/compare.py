"""Compares runs by one metric: chooses it, reads it where it is, and ranks the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from watcher.aws.accounts import Accounts
from watcher.comparison import measurements
from watcher.comparison.runs import By, Goal, Measured, Run, chosen_metric, goal, ranked
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
    problems: dict[str, str] = {}
    names: Sequence[Sequence[str]] = [run.metrics for run in runs]
    if not any(wanted.metric in each for each in names) and (wanted.metric or not any(names)):
        saved = measurements.saved_names(runs, accounts, losses_only=not wanted.metric)
        names = [(*of_run, *of_tensors) for of_run, of_tensors in zip(names, saved, strict=True)]
    metric = chosen_metric(names, wanted.metric)
    aim = goal(metric, wanted.by, wanted.rises)
    if not metric:
        return Comparison(aim, ranked(runs, {}, aim), {}, {})
    known = {run.id: run.summaries[metric] for run in runs if metric in run.summaries}
    found = measurements.together(known, measurements.from_cloudwatch(runs, metric, accounts, now))
    # Where CloudWatch ought to have it, a run without a value has written none yet.
    if others := [run for run in runs if run.id not in found and metric not in run.metrics]:
        of_tensors, problems = measurements.from_tensors(others, metric, accounts, progress)
        found |= of_tensors
    return Comparison(aim, ranked(runs, found, aim), found, problems)
