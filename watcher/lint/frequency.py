"""Checks whether the tensors that the rule reads are saved often enough."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

from watcher.lint.hook import HookMode, Schedule, saved_by_any
from watcher.lint.subject import Check, Length, Problem, Reason, Subject

_MAX_STEPS_COUNTED = 1e6
"""A rule that needs more saved steps than this is not checked, because they are counted one by one."""
_MAX_FIRST_STEPS = 1e9
_MAX_DISTANCE_STEPS = 1e18
"""No run has so many steps. A parameter may have thousands of digits, which no sentence should repeat."""


def _steps_apart(subject: Subject) -> Iterator[Problem]:
    from rules import StepsApart

    run, needed = subject.length, subject.rule and subject.rule.steps_needed()
    if not isinstance(needed, StepsApart) or run is None or not subject.schedules:
        return
    parameter, distance = needed
    if distance > _MAX_DISTANCE_STEPS:
        return
    first = next(saved_by_any(subject.schedules, run.steps), None)
    last = max((s.last(run.steps) or 0 for s in subject.schedules), default=0)
    if first is None or last - first < distance:
        sentence = f"{_saved(subject, run)}; the rule compares steps that are {distance} apart ({parameter})"
        lower = f"set {parameter} well below {run.steps}"
        fix = _save(subject, distance) if distance < run.steps else lower
        yield Problem(Reason.TOO_FEW_STEPS, sentence, fix)


def _enough_steps(subject: Subject) -> Iterator[Problem]:
    from rules import SavedSteps

    run, needed = subject.length, subject.rule and subject.rule.steps_needed()
    if not isinstance(needed, SavedSteps) or run is None or not subject.schedules:
        return
    parameter, number = needed
    if number >= _MAX_STEPS_COUNTED:
        return
    have = sum(1 for _ in islice(saved_by_any(subject.schedules, run.steps), number))
    if have < number:
        sentence = f"{_saved(subject, run)}; the rule needs {number} of them ({parameter})"
        if number <= run.steps:
            fix = _save(subject, max((run.steps - 1) // max(number - 1, 1), 1))
        else:
            fix = f"set {parameter} well below {run.steps}"
        yield Problem(Reason.TOO_FEW_STEPS, sentence, fix)


def _more_than_the_first_step(subject: Subject) -> Iterator[Problem]:
    run = subject.length
    if subject.rule is None or not subject.rule.judges_progress:
        return
    if run is None or run.steps < 2 or not subject.schedules:
        return
    if len(list(islice(saved_by_any(subject.schedules, run.steps), 2))) < 2:
        sentence = f"{_saved(subject, run)}: the rule cannot see how the model develops"
        yield Problem(Reason.FIRST_STEP_ONLY, sentence, _save(subject, max((run.steps - 1) // 10, 1)))


def _same_interval(subject: Subject) -> Iterator[Problem]:
    """With a larger save_interval than the rule's own, no two saved steps are compared."""
    from rules import SameInterval

    needed = subject.rule and subject.rule.steps_needed()
    if not isinstance(needed, SameInterval):
        return
    parameter, interval = needed
    if interval > _MAX_DISTANCE_STEPS:
        return
    schedules = subject.hook.schedules(subject.collections, (HookMode.GLOBAL, HookMode.TRAIN))
    intervals = {schedule.interval for schedule in schedules}
    explicit_steps = any(schedule.steps for schedule in schedules)
    if intervals and not explicit_steps and interval not in intervals:
        closest = min(intervals)
        effect = (
            "no two saved steps lie so close together, so none are compared"
            if closest > interval
            else f"Debugger wants both to be the same, and compares other steps than {parameter} says"
        )
        names = ", ".join(subject.collections)
        sentence = f"{names} are saved every {closest} steps, and {parameter} is {interval}: {effect}"
        yield Problem(Reason.INTERVAL_IS_NOT_NUM_STEPS, sentence, _save(subject, interval, "train."))


def _first_steps(subject: Subject) -> Iterator[Problem]:
    from rules import FirstSteps

    needed = subject.rule and subject.rule.steps_needed()
    if not isinstance(needed, FirstSteps) or subject.framework is None:
        return
    parameter, number = needed
    if not 1 < number < _MAX_FIRST_STEPS:
        return
    schedules = subject.hook.schedules((), (HookMode.GLOBAL, HookMode.TRAIN))
    saved = len(list(islice(saved_by_any(schedules, math.ceil(number)), 2)))
    if saved < 2:
        sentence = (
            f"the rule looks only at the first {number:g} steps ({parameter}), and with "
            f"{_interval(schedules)} {'one' if saved else 'none'} of them is saved: it cannot see whether "
            "the loss falls"
        )
        fix = 'set "save_interval": "1" and an "end_step" for the collections that the rule reads'
        yield Problem(Reason.TOO_FEW_STEPS, sentence, fix)


def _saved(subject: Subject, run: Length) -> str:
    steps = list(islice(saved_by_any(subject.schedules, run.steps), 4))
    shown = ", ".join(str(step) for step in steps[:3]) + (" …" if len(steps) > 3 else "")
    what = f"only step {shown} is" if len(steps) == 1 else f"the steps {shown} are" if steps else "no step is"
    return f"of the run's {run.steps} steps ({run.source}) {what} saved with {_interval(subject.schedules)}"


def _interval(schedules: set[Schedule]) -> str:
    return f"save_interval {min(schedule.interval for schedule in schedules)}"


def _save(subject: Subject, interval: int, mode: str = "") -> str:
    names = ", ".join(subject.collections)
    where = f"of the collection {names}" if names else "of the collections that the rule reads"
    return f'set "{mode}save_interval": "{interval}" in the parameters {where}'


CHECKS: tuple[Check, ...] = (
    _steps_apart,
    _enough_steps,
    _same_interval,
    _more_than_the_first_step,
    _first_steps,
)
