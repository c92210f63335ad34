"""The base class of every rule. A rule gets the saved steps one at a time, and says what it found and why.

A rule is pure: it is given steps, values and the time, and does no I/O. Its state is small and can be saved
as JSON, so that a long job is not read from its beginning again after a restart.

A rule also describes itself: what a person should do when it fires, what it can judge, and what it needs of
a job. Watcher reads the description and never tests for the name of a rule, so a rule of another
distribution can do all that a built-in one can.

How one is used:

    rule = rules.load("LossNotDecreasing", {"num_steps": "10"})
    rule.learn(collections)                        # as soon as they are known, and after a restore
    for step, tensors in saved:                    # ascending, each step once
        if verdict := rule.observe(step, tensors):
            break                                  # as at Debugger, a rule ends when it first fires
    else:
        verdict = rule.verdict(ended=True)

Who wants to know whether it recovers goes on with a successor:

    rule = rule.successor(verdict)                 # None: what it found cannot recover
    rule.learn(collections)
    for step, tensors in the steps after that:
        rule.observe(step, tensors)                # fires again: a successor again
        if recovered := rule.recovered():          # given once; it may fire again later
            ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rules.left_out import LeftOut
from rules.needs import FixedOutcome, Forest, ModelKind, MxnetNames, RisingMetrics, StepsNeeded
from rules.parameters import step_range
from rules.recovery import Recovered, Recovery
from rules.selection import Collection, Selection

Value = float | NDArray[Any]
"""A tensor's value. A saved scalar may be a 0-d array, or an array of one element."""


class Mode(StrEnum):
    """smdebug's `ModeKeys`. XGBoost saves everything as `GLOBAL`."""

    GLOBAL = "GLOBAL"
    TRAIN = "TRAIN"
    EVAL = "EVAL"
    PREDICT = "PREDICT"


class Step(NamedTuple):
    """A saved step. SageMaker's StatusDetails name the global step, `number`."""

    number: int
    mode: Mode = Mode.GLOBAL
    mode_step: int | None = None
    """The step in the count of its own mode; None if that is the global count."""

    def counted_in(self, mode: Mode) -> int:
        return self.number if mode is Mode.GLOBAL or self.mode_step is None else self.mode_step


class Status(StrEnum):
    ISSUES_FOUND = "issues_found"
    NO_ISSUES_FOUND = "no_issues_found"
    NOT_EVALUATED = "not_evaluated"
    """Nothing was judged, and `reason` says why. Debugger reports NoIssuesFound in this case."""
    IN_PROGRESS = "in_progress"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One comparison that decided the verdict. Steps are global ones."""

    tensor: str
    step: int
    value: float
    previous_step: int | None = None
    previous_value: float | None = None
    threshold: float | None = None
    """The parameter's value, in its unit."""
    missed_by: float | None = None
    """How far the values are from `threshold`, in the same unit; None if no number can say it."""
    needed: float | None = None
    """The value that would just have satisfied the rule; None if the rule judges something else, such as a
    share of the tensor's elements."""


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Status
    reason: str = ""
    """One word to log and count, from the rule's own list; empty for `no_issues_found`."""
    explanation: str = ""
    """The reason with its numbers, in a sentence for people."""
    step: int | None = None
    """The global step that decided, or the newest one that was observed."""
    steps_checked: int = 0
    """The number of steps at which something was judged; a step that is only remembered does not count."""
    tensors: tuple[str, ...] = ()
    """The names of the tensors that the rule read."""
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()
    """How the rule read its input: which tensors it left out, and why."""


class Breach(NamedTuple):
    """One thing that is wrong at a step, for which a rule fires."""

    reason: str
    """One word, from the rule's own list."""
    explanation: str
    """A sentence for people, with the numbers."""
    evidence: Evidence


EVERY_STEP_CHECKS = 3
"""`checks_to_recover` of a rule that judges each step by itself: a single good step may be chance."""


class Rule(ABC):
    """One evaluation of one rule on one job. A new evaluation needs a new object.

    A subclass says which tensors it reads (`selections`), judges one step (`_judge`), and gives its own
    state in `_state`. The attributes below describe it; the defaults suit a rule that judges tensors of any
    framework, step by step.
    """

    name: ClassVar[str]
    """Debugger's name for the rule, as in `rule_to_invoke`."""
    complaint: ClassVar[str] = "The rule found an issue"
    """What is wrong when it fires, in a few words."""
    advice: ClassVar[str] = ""
    """What to do when it fires: a sentence for the person who reads the alert."""
    model_kind: ClassVar[ModelKind | None] = None
    """The kind of model whose tensors it reads; None for any."""
    judges_metrics: ClassVar[bool] = False
    """Whether single numbers are enough for it, so that it can judge the metrics of a job without tensors."""
    looks_for_non_finite: ClassVar[bool] = False
    """Whether it looks for NaN and infinity. Metrics in CloudWatch are never NaN or infinite, and its verdict
    on them says so."""
    counts_every_step: ClassVar[bool] = False
    """Whether it has to see every saved step, even one without a tensor that it `wants`."""
    judges_progress: ClassVar[bool] = False
    """Whether it judges how a model develops, so that the first step alone tells it nothing."""
    looks_back: ClassVar[bool] = False
    """Whether it compares a step with earlier ones: then these may come from before `start_step`."""
    compares_runs: ClassVar[bool] = False
    """Whether it compares the job with another one: then it has `other_trial` and `compare_with`."""
    mxnet_names: ClassVar[MxnetNames | None] = None
    """Set where a parameter's default works only with the tensor names of MXNet."""
    rising_metrics: ClassVar[RisingMetrics | None] = None
    """Set where it reads losses, and a metric that should rise misleads it."""
    relief: ClassVar[str] = "The rule no longer fires"
    """What is well again when it has recovered, in a few words."""
    unit: ClassVar[str] = ""
    """What follows the numbers after `relief`, such as " % zeros"."""
    selections: tuple[Selection, ...] = ()
    """Which tensors it reads; one selection for each role that a tensor plays."""

    @abstractmethod
    def __init__(self, parameters: Mapping[str, str]) -> None:
        """Takes RuleParameters as SageMaker has them: strings. Raises `ParameterError`."""
        self._given = dict(parameters)
        self._steps = step_range(parameters, getattr(self, "name", type(self).__name__))
        self._saw_its_steps = False
        """Whether any of the observed steps was one that the rule judges."""
        self._judges = True
        """Whether the step at hand is one that the rule judges, or only one to compare with later."""
        self._recovery = Recovery()
        self._newest: int | None = None
        self._checked = 0
        self._read: set[str] = set()
        self._left_out = LeftOut()

    # -- the same for every rule ------------------------------------------------------------------

    def learn(self, collections: Mapping[str, Collection]) -> None:
        """Take in what the job's collections hold. Call it again when they have grown."""
        for selection in self.selections:
            selection.learn(collections)

    def wants(self, tensor: str) -> bool:
        """Whether the rule reads this tensor. Other tensors need not be decoded."""
        return any(tensor in selection for selection in self.selections)

    def observe(self, step: Step, tensors: Mapping[str, Value]) -> Verdict | None:
        """Judge one saved step. Returns a verdict when the rule fires, which ends the evaluation.

        Only steps from the parameter `start_step` on and before `end_step` are judged (global steps). A rule
        that `looks_back` compares them with earlier ones, too.
        """
        self._newest = step.number
        self._judges = step.number in self._steps
        if not self._judges:
            if self.looks_back and step.number < self._steps.start_step:
                self._judge(step, tensors)
            return None
        self._saw_its_steps = True
        breaches = self._judge(step, tensors)
        if breaches is None:
            return None
        self._checked += 1
        return self._fired(step.number, breaches) if breaches else None

    def verdict(self, *, ended: bool) -> Verdict:
        """The verdict of a rule that has not fired. `ended`: whether the job has ended, so that no step will
        follow."""
        if not ended:
            return self._verdict(Status.IN_PROGRESS)
        if self._checked:
            return self._verdict(Status.NO_ISSUES_FOUND)
        reason, explanation = self._why_nothing_was_judged()
        return self._verdict(Status.NOT_EVALUATED, reason=reason, explanation=explanation)

    def state(self) -> dict[str, Any]:
        """The rule's state, for `json.dumps`. It does not include the collections."""
        return {
            "newest": self._newest,
            "checked": self._checked,
            "read": sorted(self._read),
            "left_out": self._left_out.state(),
            "saw_its_steps": self._saw_its_steps,
            **({"recovery": self._recovery.state()} if self._recovery else {}),
            **self._state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state` of a rule with the same parameters.

        Large tensors are not part of the state: show the rule the steps of `recalls` again.
        """
        self._newest, self._checked, self._read = state["newest"], state["checked"], set(state["read"])
        self._left_out.restore(state["left_out"])
        self._saw_its_steps = state.get("saw_its_steps", True)  # the state of an earlier version has none
        self._recovery.restore(state.get("recovery", ()))
        self._restore(state)

    # -- after it has fired -----------------------------------------------------------------------

    @property
    def checks_to_recover(self) -> int | None:
        """How many checks in a row must find nothing, of each tensor for which it fired, before what it found
        counts as recovered. How many steps a check spans is the rule's own affair: `num_steps`, or one.

        None if what it found cannot recover (it was true of the input, or of the initial weights), if to find
        out is expensive, or if the rule does not say. A rule that says so calls `_measured` in `_judge`.
        """
        return None

    def successor(self, verdict: Verdict) -> Self | None:
        """A new evaluation for the steps after the one at which this one fired with `verdict`. It has to
        learn the collections. None if what was found cannot recover."""
        if self.checks_to_recover is None:
            return None
        new = type(self)(self._given)
        new._newest, new._recovery = self._newest, self._recovery.again()
        for name, step, value in self._found(verdict):
            new._recovery.follow(name, step, float(value))
        if not new._recovery:
            return None
        new._succeed(self)
        return new

    def recovered(self) -> Recovered | None:
        """That what the rule's predecessors found has recovered; None while it has not. It is given once.

        Ask after each `observe` and `tick`.
        """
        if not self._recovery or (checks := self.checks_to_recover) is None:
            return None
        recovered = self._recovery.recovered(checks, self.relief, self.unit)
        if recovered:
            self._recovery = Recovery()
        return recovered

    def anew(self) -> Self:
        """A new evaluation for a job whose steps come again, from the first or from a checkpoint, because it
        was interrupted. It compares nothing with what was saved before. What was judged before counts, and
        what was found before still has to recover. It has to learn the collections."""
        new = type(self)(self._given)
        new._newest, new._checked, new._read = self._newest, self._checked, set(self._read)
        new._saw_its_steps = self._saw_its_steps
        new._left_out.restore(self._left_out.state())
        new._recovery = self._recovery.again()
        return new

    # -- what a rule may add ----------------------------------------------------------------------

    def training_began(self, at: float) -> None:  # noqa: B027 - most rules need no time
        """The job's secondary status first became `Training` at this time (seconds since the epoch).

        Called before each `tick`.
        """

    def saved_again(self) -> None:  # noqa: B027 - it matters only to rules about time
        """The job has written again what was observed before, with the same content."""

    def tick(self, now: float) -> Verdict | None:  # noqa: ARG002 - only rules about time look at it
        """Judge the time that has passed. `now` is in seconds since the epoch, on a clock that stands still
        while the job's secondary status is not `Training`: a managed spot job may wait for hours.

        Called while the status is `Training`, after all new steps were observed.
        """
        return None

    @property
    def other_trial(self) -> str:
        """The name of the job to compare with; empty for a rule that compares with none."""
        return ""

    def compare_with(self, step: int, tensors: Mapping[str, Value]) -> None:  # noqa: B027 - most rules compare nothing
        """Take in what the other trial saved at this global step.

        Called just before `observe` of the same step, and not at all if the other trial has no such step.
        """

    def recalls(self) -> tuple[int, ...]:
        """The saved steps (global) whose tensors are too large for the state. After `restore`, the rule has
        to see them again through `recall`, before the next `observe`."""
        return ()

    def recall(self, step: Step, tensors: Mapping[str, Value]) -> None:  # noqa: B027 - most rules need none
        """See a step of `recalls` again, without judging it."""

    # -- what it needs; a job's configuration is checked by this before there are tensors -----------

    def required_collections(self, kind: ModelKind | None) -> tuple[str, ...]:  # noqa: ARG002 - few depend on it
        """The collections without which it has nothing to judge in a job with this kind of model, which is
        None if it is not known."""
        return tuple(name for selection in self.selections for name in selection.collections)

    def optional_collections(self) -> tuple[str, ...]:
        """The collections that it reads as well, if the job has them."""
        return tuple(name for selection in self.selections for name in selection.optional)

    def steps_needed(self) -> StepsNeeded | None:
        """The saved steps without which it cannot fire; None if any saved step will do."""
        return None

    def fixed_outcomes(self, forest: Forest | None) -> Iterator[FixedOutcome]:  # noqa: ARG002 - few depend on it
        """Those of its parameters with which it always fires, or never, regardless of the tensors.

        `forest` describes XGBoost's trees; None if nothing is known about them. A rule with default
        parameters yields nothing.
        """
        yield from ()

    # -- what a rule must have, and its own state --------------------------------------------------

    @abstractmethod
    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        """The breaches at this step; None if nothing was judged.

        Adds the tensors that it reads to `_read`, and those that it selects but cannot judge to `_left_out`.
        """

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        """Possible reasons why nothing was judged: whether the reason holds, one word, a sentence. The first
        that holds is reported; those that every rule has come last."""
        yield from self._left_out.unjudged()

    def _notes(self) -> tuple[str, ...]:
        """What a person should know about how the rule read its input."""
        return self._left_out.notes()

    def _found(self, verdict: Verdict) -> Iterator[tuple[str, int | None, float]]:
        """What a verdict found: name, step and value of each number that has to be well again. Numbers that
        cannot recover are left out; if there is none, the evaluation ends."""
        for evidence in verdict.evidence:
            yield evidence.tensor, evidence.step, evidence.value

    def _measured(self, name: str, step: int | None, value: float, *, well: bool) -> None:
        """Note a check of a number with a name of `_found`, for `recovered`. Ignored for any other."""
        self._recovery.check(name, step, float(value), well=well)

    def _succeed(self, fired: Self) -> None:  # noqa: B027 - most rules need nothing
        """Take over from the evaluation that fired what the next one should know."""

    def _state(self) -> dict[str, Any]:
        """This rule's own part of the state."""
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
            (not self._saw_its_steps, "no_step_in_range", f"no step {self._steps} was saved"),
            *self._unjudged(),
            (bool(missing), "no_such_collection", f"the job has no collection {', '.join(missing)}"),
            (not self._read, "no_tensor_matches", "none of the saved tensors is one that the rule reads"),
            (True, "too_few_steps", "too few steps were saved to judge any"),
        )
        return next((reason, explanation) for holds, reason, explanation in causes if holds)


def scalar(value: Value) -> float | None:
    """The number in a saved scalar of any shape; None for a larger tensor, or for text."""
    if isinstance(value, np.ndarray):
        return float(value.item()) if value.size == 1 and value.dtype.kind in "biuf" else None
    return float(value)
