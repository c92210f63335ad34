"""Whether what the rule reads is saved often enough."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from watcher.lint.hook import Mode, Schedule, saved_by_any
from watcher.lint.subject import Check, Length, Problem, Reason, Subject


def _num_steps_apart(subject: Subject) -> Iterator[Problem]:
    """LossNotDecreasing compares saved steps that lie `num_steps` apart."""
    run = subject.length
    if subject.name != "LossNotDecreasing" or run is None or not subject.schedules:
        return
    apart = subject.number("num_steps")
    first = next(saved_by_any(subject.schedules, run.steps), None)
    last = max((s.last(run.steps) or 0 for s in subject.schedules), default=0)
    if first is None or last - first < apart:
        sentence = f"{_saved(subject, run)}; the rule compares steps that lie {apart:g} apart (num_steps)"
        if apart < run.steps:
            yield Problem(Reason.TOO_FEW_STEPS, sentence, _save(subject, int(apart)))
        else:
            yield Problem(Reason.TOO_FEW_STEPS, sentence, f"set num_steps well below {run.steps}")


class _Needed(NamedTuple):
    """How many saved steps the first verdict takes."""

    parameter: str
    beyond: int
    """So many more than the parameter says."""


_NEEDED = {
    "UnchangedTensor": _Needed("num_steps", 0),
    "Overfit": _Needed("patience", 0),
    "Overtraining": _Needed("patience_validation", 1),
}


def _enough_steps(subject: Subject) -> Iterator[Problem]:
    run = subject.length
    if run is None or subject.name not in _NEEDED or not subject.schedules:
        return
    parameter, beyond = _NEEDED[subject.name]
    needed = subject.number(parameter) + beyond
    if not needed < 1e6:  # or it is no number
        return
    have = sum(1 for _ in islice(saved_by_any(subject.schedules, run.steps), int(needed)))
    if have < needed:
        sentence = f"{_saved(subject, run)}; the rule needs {needed:g} of them ({parameter})"
        if needed <= run.steps:
            mend = _save(subject, max((run.steps - 1) // max(int(needed) - 1, 1), 1))
        else:
            mend = f"set {parameter} well below {run.steps}"
        yield Problem(Reason.TOO_FEW_STEPS, sentence, mend)


_ON_THE_WAY = frozenset(
    {"AllZero", "ClassImbalance", "Confusion", "DeadRelu", "ExplodingTensor", "FeatureImportanceOverweight"}
    | {"SaturatedActivation", "TensorVariance", "TreeDepth", "VanishingGradient", "WeightUpdateRatio"}
)
"""Rules about how a model develops: one look at step 0 tells nothing, and WeightUpdateRatio not even that."""


def _more_than_the_first_step(subject: Subject) -> Iterator[Problem]:
    run = subject.length
    if run is None or run.steps < 2 or subject.name not in _ON_THE_WAY or not subject.schedules:
        return
    if len(list(islice(saved_by_any(subject.schedules, run.steps), 2))) < 2:
        sentence = f"{_saved(subject, run)}: the rule sees nothing of how the model develops"
        yield Problem(Reason.FIRST_STEP_ONLY, sentence, _save(subject, max((run.steps - 1) // 10, 1)))


def _interval_is_num_steps(subject: Subject) -> Iterator[Problem]:
    """AWS wants `train.save_interval` to be `num_steps`; where it is larger, nothing is ever compared."""
    if subject.name != "WeightUpdateRatio" or not subject.text("num_steps"):
        return
    num_steps = subject.number("num_steps")
    schedules = subject.hook.schedules(subject.collections, (Mode.GLOBAL, Mode.TRAIN))
    intervals = {schedule.interval for schedule in schedules}
    steps_of_their_own = any(schedule.steps for schedule in schedules)
    if intervals and not steps_of_their_own and num_steps not in intervals and not math.isnan(num_steps):
        closest = min(intervals)
        effect = (
            "no two saved steps lie so close together, so none are compared"
            if closest > num_steps
            else "Debugger wants both to be the same, and compares other steps than num_steps says"
        )
        sentence = f"weights are saved every {closest} steps, and num_steps is {num_steps:g}: {effect}"
        yield Problem(Reason.INTERVAL_IS_NOT_NUM_STEPS, sentence, _save(subject, int(num_steps), "train."))


def _first_steps(subject: Subject) -> Iterator[Problem]:
    """PoorWeightInitialization looks at the first `steps` steps only."""
    if subject.name != "PoorWeightInitialization" or subject.framework is None:
        return
    steps = subject.number("steps")
    if not 1 < steps < 1e9:
        return
    schedules = subject.hook.schedules((), (Mode.GLOBAL, Mode.TRAIN))
    saved = len(list(islice(saved_by_any(schedules, math.ceil(steps)), 2)))
    if saved < 2:
        sentence = (
            f"only the first {steps:g} steps are looked at (steps), and with {_interval(schedules)} "
            f"{'one' if saved else 'none'} of them is saved: whether the loss falls cannot be seen"
        )
        mend = 'set "save_interval": "1" and an "end_step" for the collections that the rule reads'
        yield Problem(Reason.TOO_FEW_STEPS, sentence, mend)


def _saved(subject: Subject, run: Length) -> str:
    steps = list(islice(saved_by_any(subject.schedules, run.steps), 4))
    shown = ", ".join(str(step) for step in steps[:3]) + (" …" if len(steps) > 3 else "")
    what = f"only step {shown} is" if len(steps) == 1 else f"the steps {shown} are" if steps else "no step is"
    return f"of the run's {run.steps} steps ({run.told_by}) {what} saved with {_interval(subject.schedules)}"


def _interval(schedules: set[Schedule]) -> str:
    return f"save_interval {min(schedule.interval for schedule in schedules)}"


def _save(subject: Subject, interval: int, mode: str = "") -> str:
    names = ", ".join(subject.collections)
    where = f"of the collection {names}" if names else "of the collections that the rule reads"
    return f'set "{mode}save_interval": "{interval}" in the parameters {where}'


CHECKS: tuple[Check, ...] = (
    _num_steps_apart,
    _enough_steps,
    _interval_is_num_steps,
    _more_than_the_first_step,
    _first_steps,
)
