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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.left_out import LeftOut
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
    needed: float | None = None
    """The value that would just have satisfied the rule; None where it judges something else, such as a
    share of the tensor's elements."""


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


class Breach(NamedTuple):
    """One thing that is wrong at a step, for which a rule fires."""

    reason: str
    """One word, from the rule's own list."""
    explanation: str
    """A sentence for people, with the numbers."""
    evidence: Evidence


class Rule(ABC):
    """One evaluation of one rule on one job. A new evaluation needs a new object.

    A rule says what it reads (`selections`), judges one step (`_judge`), and carries what it remembers
    in `_state`. All else is the same for every rule, and is here.
    """

    name: ClassVar[str]
    """Debugger's name of it, which is what `rule_to_invoke` holds."""
    complaint: ClassVar[str]
    """What it has to say when it fires, in a few words."""
    selections: tuple[Selection, ...] = ()
    """Which tensors it reads; one selection for each role that a tensor plays."""

    @abstractmethod
    def __init__(self, parameters: Mapping[str, str]) -> None:
        """Takes RuleParameters as SageMaker has them: strings. Raises `ParameterError`."""
        self._newest: int | None = None
        self._checked = 0
        self._read: set[str] = set()
        self._left_out = LeftOut()

    # -- what is the same for every rule ----------------------------------------------------------

    def learn(self, collections: Mapping[str, Collection]) -> None:
        """What the job's collections hold; may be told again whenever that has grown."""
        for selection in self.selections:
            selection.learn(collections)

    def wants(self, tensor: str) -> bool:
        """Whether the rule reads this tensor, so that others need not be decoded at all."""
        return any(tensor in selection for selection in self.selections)

    def observe(self, step: Step, tensors: Mapping[str, Value]) -> Verdict | None:
        """Look at one saved step. A verdict means that the rule fired, and is finished."""
        self._newest = step.number
        breaches = self._judge(step, tensors)
        if breaches is None:
            return None
        self._checked += 1
        return self._fired(step.number, breaches) if breaches else None

    def verdict(self, *, ended: bool) -> Verdict:
        """Where a rule that has not fired stands. `ended`: the job has, and no step will follow."""
        if not ended:
            return self._verdict(Status.IN_PROGRESS)
        if self._checked:
            return self._verdict(Status.NO_ISSUES_FOUND)
        reason, explanation = self._why_nothing_was_judged()
        return self._verdict(Status.NOT_EVALUATED, reason=reason, explanation=explanation)

    def state(self) -> dict[str, Any]:
        """All that the rule remembers, for `json.dumps`. The collections are not part of it."""
        return {
            "newest": self._newest,
            "checked": self._checked,
            "read": sorted(self._read),
            "left_out": self._left_out.state(),
            **self._state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the rule of the same parameters was that gave this `state`.

        What it remembers of large tensors is not in the state: hand it the steps of `recalls` anew.
        """
        self._newest, self._checked, self._read = state["newest"], state["checked"], set(state["read"])
        self._left_out.restore(state["left_out"])
        self._restore(state)

    # -- what a rule may add ----------------------------------------------------------------------

    def tick(self, now: float) -> Verdict | None:  # noqa: ARG002 - only rules about time look at it
        """Time went by without a new step. `now` is in seconds since the epoch."""
        return None

    def recalls(self) -> tuple[int, ...]:
        """The saved steps (global) whose tensors the rule has to see again after `restore`, through
        `recall` and before the next `observe`: they are too large for its state."""
        return ()

    def recall(self, step: Step, tensors: Mapping[str, Value]) -> None:  # noqa: B027 - most rules need none
        """See a step of `recalls` again. Nothing is judged."""

    # -- what a rule is ---------------------------------------------------------------------------

    @abstractmethod
    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        """What is wrong at this step; empty where all is well, None where nothing was judged.

        Adds the tensors it reads to `_read`, and those that it selects and cannot judge to `_left_out`.
        """

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        """Why nothing may have been judged: whether it is so, one word, a sentence. The first that holds
        is told, before those that every rule has."""
        yield from self._left_out.unjudged()

    def _notes(self) -> tuple[str, ...]:
        """What a person should know about how the rule read its input."""
        return self._left_out.notes()

    def _state(self) -> dict[str, Any]:
        """What this rule remembers beyond what every rule does."""
        return {}

    def _restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most rules need none
        """The counterpart of `_state`."""

    # ---------------------------------------------------------------------------------------------

    def _fired(self, step: int | None, breaches: Sequence[Breach]) -> Verdict:
        return self._verdict(
            Status.ISSUES_FOUND,
            step=step,
            reason=breaches[0].reason,
            explanation="; ".join(breach.explanation for breach in breaches),
            evidence=tuple(breach.evidence for breach in breaches),
        )

    def _verdict(
        self,
        status: Status,
        *,
        step: int | None = None,
        reason: str = "",
        explanation: str = "",
        evidence: tuple[Evidence, ...] = (),
    ) -> Verdict:
        return Verdict(
            status,
            reason=reason,
            explanation=explanation,
            step=self._newest if step is None else step,
            steps_checked=self._checked,
            tensors=tuple(sorted(self._read)),
            evidence=evidence,
            notes=self._notes(),
        )

    def _why_nothing_was_judged(self) -> tuple[str, str]:
        missing = [name for selection in self.selections for name in selection.missing]
        causes = (
            (self._newest is None, "nothing_saved", "the job saved no step"),
            *self._unjudged(),
            (bool(missing), "no_such_collection", f"the job has no collection {', '.join(missing)}"),
            (not self._read, "no_tensor_matches", "none of the saved tensors is one that the rule reads"),
            (True, "too_few_steps", "too few steps were saved to judge any"),
        )
        return next((reason, explanation) for holds, reason, explanation in causes if holds)


def scalar(value: Value) -> float | None:
    """The number in a saved scalar, of whatever shape; None for anything larger, or not a number."""
    if isinstance(value, np.ndarray):
        return float(value.item()) if value.size == 1 and value.dtype.kind in "biuf" else None
    return float(value)
