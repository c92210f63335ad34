"""What every rule is: fed saved steps one at a time, it says what it found, and why.

A rule is pure: it is handed steps, values and the time, and does no I/O. What it remembers is small and
can be carried across a restart as JSON, so a long job is never read from its beginning twice.

How one is used:

    rule = rules.load("LossNotDecreasing", {"num_steps": "10"})
    rule.learn(collections)                        # as soon as they are known, and after a restore
    for step, tensors in saved:                    # ascending, each step once
        if verdict := rule.observe(step, tensors):
            break                                  # as at Debugger, a rule ends when it first fires
    else:
        verdict = rule.verdict(ended=True)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.selection import Collection, Selection

Value = float | NDArray[Any]
"""A tensor's value. A saved scalar may come as a 0-d array or as one of a single element."""


class Mode(StrEnum):
    """smdebug's `ModeKeys`. XGBoost saves everything as `GLOBAL`."""

    GLOBAL = "GLOBAL"
    TRAIN = "TRAIN"
    EVAL = "EVAL"
    PREDICT = "PREDICT"


class Step(NamedTuple):
    """A saved step. SageMaker's StatusDetails name the global one, `number`."""

    number: int
    mode: Mode = Mode.GLOBAL
    mode_step: int | None = None
    """The step as its own mode counts; None where that is the global count."""

    def counted_in(self, mode: Mode) -> int:
        return self.number if mode is Mode.GLOBAL or self.mode_step is None else self.mode_step


class Status(StrEnum):
    ISSUES_FOUND = "issues_found"
    NO_ISSUES_FOUND = "no_issues_found"
    NOT_EVALUATED = "not_evaluated"
    """Nothing was judged, and `reason` says why. Debugger reports NoIssuesFound here."""
    IN_PROGRESS = "in_progress"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One comparison that decided. Steps are global ones."""

    tensor: str
    step: int
    value: float
    previous_step: int | None = None
    previous_value: float | None = None
    threshold: float | None = None
    """What the parameter asks for, in the parameter's unit."""
    missed_by: float | None = None
    """How far the values are from `threshold`, in the same unit; None where no number can say it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Status
    reason: str = ""
    """One word to log and count, from the rule's own list; empty for `no_issues_found`."""
    explanation: str = ""
    """The reason with its numbers, in a sentence for people."""
    step: int | None = None
    """The global step that decided, or the newest that was seen."""
    steps_checked: int = 0
    """On how many steps something was judged; a step that is only remembered does not count."""
    tensors: tuple[str, ...] = ()
    """The tensors the rule reads, by name."""
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()
    """What a person should know about how the rule read its input: tensors left out, and why."""


class Rule(ABC):
    """One evaluation of one rule on one job. A new evaluation needs a new object."""

    name: ClassVar[str]
    """Debugger's name of it, which is what `rule_to_invoke` holds."""
    complaint: ClassVar[str]
    """What it has to say when it fires, in a few words."""
    selections: tuple[Selection, ...] = ()
    """Which tensors it reads; one selection for each role that a tensor plays."""

    @abstractmethod
    def __init__(self, parameters: Mapping[str, str]) -> None:
        """Takes RuleParameters as SageMaker has them: strings. Raises `ParameterError`."""

    def learn(self, collections: Mapping[str, Collection]) -> None:
        """What the job's collections hold; may be told again whenever that has grown."""
        for selection in self.selections:
            selection.learn(collections)

    def wants(self, tensor: str) -> bool:
        """Whether the rule reads this tensor, so that others need not be decoded at all."""
        return any(tensor in selection for selection in self.selections)

    @abstractmethod
    def observe(self, step: Step, tensors: Mapping[str, Value]) -> Verdict | None:
        """Look at one saved step. A verdict means that the rule fired, and is finished."""

    def tick(self, now: float) -> Verdict | None:  # noqa: ARG002 - only rules about time look at it
        """Time went by without a new step. `now` is in seconds since the epoch."""
        return None

    @abstractmethod
    def verdict(self, *, ended: bool) -> Verdict:
        """Where a rule that has not fired stands. `ended`: the job has, and no step will follow."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that the rule remembers, for `json.dumps`. The collections are not part of it."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the rule of the same parameters was that gave this `state`."""


def scalar(value: Value) -> float | None:
    """The number in a saved scalar, of whatever shape; None for anything larger, or not a number."""
    if isinstance(value, np.ndarray):
        return float(value.item()) if value.size == 1 and value.dtype.kind in "biuf" else None
    return float(value)
