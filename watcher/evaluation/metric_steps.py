"""Turns the metrics of a training job into steps for rules. Pure.

- Step N is the N-th minute of training, from the minute in which it began. If CloudWatch has only averages
  over more than a minute, the step is the minute in which that period begins.
- The beginning of a metric's name says on which data it was computed: `train:error` has the mode TRAIN,
  `validation:error` (`valid_…`, `val_…`, `eval-…`, `test:…`) EVAL. Any other name has GLOBAL, but `loss`
  has TRAIN if there is a `val_loss`.
- The collection `metrics` holds all metrics, `losses` those whose name says that they should fall.
- CloudWatch stores neither NaN nor infinity: a metric that becomes one just ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from rules import Collection, Mode, Rule
from rules.directions import falls
from rules.losses import Split, split_in
from watcher.aws.metrics import Average
from watcher.debug_output.event_files import SavedStep
from watcher.model import JobSnapshot

STEP = timedelta(minutes=1)
WORKER = "cloudwatch"

_ORDER = (Mode.TRAIN, Mode.EVAL, Mode.GLOBAL)
"""The order of the metrics of one minute."""


def names(job: JobSnapshot) -> tuple[str, ...]:
    """The names of the metrics that CloudWatch can have: those that the job's record defines, or has values
    of.

    CloudWatch refuses names that are not ASCII ("MetricName must not contain Non-ASCII characters"). A
    job's record may hold one, and then CloudWatch would refuse the whole request.
    """
    named = dict.fromkeys((*job.metrics, *(metric.name for metric in job.final_metrics)))
    return tuple(name for name in named if name.isascii())


def meaning(period: int) -> str:
    """A sentence that says what a step and its value are. The period is in seconds."""
    return f"a step is a minute of training, its value CloudWatch's average over {period} s"


def note(rule: Rule, period: int) -> str:
    """What to add to a verdict on metrics."""
    blind = ", which is never NaN or infinite" if rule.looks_for_non_finite else ""
    return f"{meaning(period)}{blind}"


def collections(metrics: Sequence[str]) -> dict[str, Collection]:
    losses = (name for name in metrics if falls(name))
    return {
        "metrics": Collection(tensor_names=frozenset(metrics)),
        "losses": Collection(tensor_names=frozenset(losses)),
    }


def modes(metrics: Sequence[str]) -> dict[str, Mode]:
    """By the metric's name."""
    split = {name: split_in(name) for name in metrics}
    of_training = {rest for data, rest in split.values() if data is Split.TRAIN}
    of_validation = {rest for data, rest in split.values() if data is Split.VALIDATION}
    trained = of_validation - of_training
    by_split = {Split.TRAIN: Mode.TRAIN, Split.VALIDATION: Mode.EVAL}
    return {
        name: by_split[data] if data else Mode.TRAIN if name in trained else Mode.GLOBAL
        for name, (data, _) in split.items()
    }


def minute_of(at: datetime) -> datetime:
    """The beginning of the minute."""
    return at.replace(second=0, microsecond=0)


def step_at(at: datetime, began: datetime) -> int:
    """0 for a time before the job began, because a longer period may have begun before it."""
    return max((minute_of(at) - minute_of(began)) // STEP, 0)


def time_of(step: int, began: datetime) -> datetime:
    return minute_of(began) + step * STEP


def steps(
    averages: Mapping[str, Sequence[Average]], mode_of: Mapping[str, Mode], began: datetime
) -> Iterator[SavedStep]:
    """The steps in order. A minute with metrics of several modes is a step in each of these modes."""
    saved: defaultdict[tuple[int, int], dict[str, NDArray[np.float64]]] = defaultdict(dict)
    for name, series in averages.items():
        for at, value in series:
            saved[step_at(at, began), _ORDER.index(mode_of[name])][name] = np.array(value)
    for (step, mode), tensors in sorted(saved.items(), key=lambda item: item[0]):
        yield SavedStep(step, WORKER, _ORDER[mode], step, tensors, tuple(tensors))
