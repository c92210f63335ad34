"""The runs of a comparison, and which of them is best. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from rules.directions import Direction, direction
from rules.losses import Split, split_in
from watcher.errors import UsageError
from watcher.model import JobSnapshot

Point = tuple[float, float]
"""A minute of training or a step, and the value there."""


class By(StrEnum):
    """The number of a metric by which runs are ranked."""

    LAST = "last"
    MIN = "min"
    MAX = "max"


class Source(StrEnum):
    """Where the numbers of a metric are from."""

    CLOUDWATCH = "cloudwatch"
    EXPERIMENT = "experiment"
    """The trial component's own summary."""
    TENSORS = "tensors"


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one run. None where a number is not known."""

    source: Source
    last: float | None = None
    min: float | None = None
    max: float | None = None
    curve: Sequence[Point] = ()
    """Over minutes of training, or over steps if the source is tensors."""

    def by(self, by: By) -> float | None:
        return {By.LAST: self.last, By.MIN: self.min, By.MAX: self.max}[by]


@dataclass(frozen=True, slots=True)
class Run:
    """One training job or, of an experiment, one component that no training job made."""

    id: str
    """The ARN of the job, or the name of the component."""
    name: str
    """For people. Two components of an experiment may have the same."""
    status: str
    created_at: datetime
    parameters: Mapping[str, str]
    """As its owner wrote them, secrets too."""
    began_at: datetime | None = None
    ended_at: datetime | None = None
    job: JobSnapshot | None = None
    summaries: Mapping[str, Measured] = field(default_factory=dict)
    """What the experiment knows of each metric. Empty outside of experiments."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that it can have without its tensors. A built-in algorithm defines all
        that it knows, of which a run writes a few."""
        return tuple(dict.fromkeys((*self.recorded, *(self.job.metrics if self.job else ()))))

    @property
    def recorded(self) -> tuple[str, ...]:
        """The names of the metrics that it has a value of, as the record of the job or of the experiment
        says. The record of a job in progress may have none yet."""
        of_job = (each.name for each in self.job.final_metrics) if self.job else ()
        return tuple(dict.fromkeys((*self.summaries, *of_job)))

    def duration(self, now: datetime) -> timedelta | None:
        """How long it has trained; None if it has not begun."""
        return None if self.began_at is None else max((self.ended_at or now) - self.began_at, timedelta(0))


@dataclass(frozen=True, slots=True)
class Goal:
    """What makes one run better than another."""

    metric: str
    """Empty if no run has one."""
    rises: bool
    by: By
    assumed: bool = False
    """Nothing says whether the metric should rise or fall; `rises` is a guess."""

    @property
    def best(self) -> By:
        """The best value that a run has reached."""
        return By.MAX if self.rises else By.MIN


def goal(metric: str, by: By | None, rises: bool | None) -> Goal:
    """By the best value that each run has reached, unless `by` says otherwise. `rises` is what the caller
    knows; else the metric's name decides, and a name that says nothing is taken for one that falls."""
    named = direction(metric)
    up = named is Direction.RISES if rises is None else rises
    return Goal(metric, up, by or (By.MAX if up else By.MIN), assumed=rises is None and named is None)


def ranked(runs: Iterable[Run], measured: Mapping[str, Measured], goal: Goal) -> list[Run]:
    """The best first. Runs without the number come last, newest first. `measured` is by the run's id."""

    def place(run: Run) -> tuple[bool, float]:
        one = measured.get(run.id)
        value = one.by(goal.by) if one else None
        if value is None or math.isnan(value):
            return True, 0.0
        return False, -value if goal.rises else value

    newest_first = sorted(runs, key=lambda run: run.created_at, reverse=True)
    return sorted(newest_first, key=place)


def differing(parameters: Sequence[Mapping[str, str]]) -> list[str]:
    """The names whose values are not the same in all runs, in the order in which they appear."""
    named = dict.fromkeys(name for each in parameters for name in each)
    return [name for name in named if len({each.get(name) for each in parameters}) > 1]


def chosen_metric(names: Sequence[Sequence[str]], asked: str) -> str:
    """The metric to compare. `names` has those of each run.

    `asked` may be empty: then the one that most runs have, and among these one of validation that should
    fall, because that is what a training is for; empty if no run has a metric. Raises `UsageError` if none
    has the one that was asked for.
    """
    counts = Counter(name for of_run in names for name in dict.fromkeys(of_run))
    if asked:
        if asked in counts:
            return asked
        alike = [name for name in counts if same_metric(name, asked)]
        if len(alike) == 1:
            return alike[0]
        has = f"they have {', '.join(sorted(counts))}" if counts else "they have none"
        raise UsageError(f"none of these runs has the metric {asked}: {has}")
    return min(counts, key=lambda name: (-counts[name], *_preference(name), name), default="")


def _preference(name: str) -> tuple[int, int]:
    split, _ = split_in(name)
    return (
        {Direction.FALLS: 0, Direction.RISES: 1, None: 2}[direction(name)],
        {Split.VALIDATION: 0, None: 1, Split.TRAIN: 2}[split],
    )


def same_metric(one: str, other: str) -> bool:
    """Whether two names are spellings of one metric: `validation:rmse` and `validation-rmse`."""
    return one == other or _letters(one) == _letters(other)


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
