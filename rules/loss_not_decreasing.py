"""LossNotDecreasing: the loss does not fall as fast as it should.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- With p = (previous - current) / max(|previous|, 1e-12) * 100, the rule fires when p < `diff_percent`. The
  reason is `increase` when the loss rose by more than `increase_threshold_percent`, else `plateau`.
- Each tensor is judged by itself. Its first saved step starts the count; the next check is at the first
  saved step >= last check + `num_steps`, against the newest saved step <= step - `num_steps`. So with every
  third step saved and num_steps 10, a check at 21 compares with 9, the next comes at 33.
- When several tensors fire at one step, the first by name gives the reason, all go into the evidence.
- NaN or infinity on either side of a check fires, for the reason `non_finite`.
- Without `mode`, EVAL is read from its first value on, before that TRAIN, before that GLOBAL. The parameter
  `GLOBAL` takes the values of every mode, at their global steps; the other modes have their own step count.
- If neither `collection_names` nor `tensor_regex` is given, and the job has no collection `losses`, every
  tensor with one element is read.
- XGBoost's `losses` collection includes metrics that should rise (auc, map, ndcg …). These are left out,
  and so are reductions and tensors with several elements; the verdict says so.
- It has recovered when the next check of each tensor that fired, `num_steps` after the one that fired, finds
  that it falls.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from rules.base import Breach, Evidence, Mode, Rule, Step, Value, scalar
from rules.directions import rises
from rules.needs import ModelKind, RisingMetrics, StepsApart, StepsNeeded
from rules.parameters import FLAG, NAMES, REGEXES, choice, number, parameter, parse, whole
from rules.reductions import reduction
from rules.selection import Collection, Selection

_PREFERENCE = (Mode.EVAL, Mode.TRAIN, Mode.GLOBAL)
_TINY = 1e-12
"""Avoids a division by a loss of zero."""


@dataclass(frozen=True, slots=True)
class Parameters:
    collection_names: tuple[str, ...] = parameter((), NAMES)
    tensor_regex: tuple[str, ...] = parameter((), REGEXES)
    use_losses_collection: bool = parameter(True, FLAG)
    """Also read the collection `losses`, if the job has it."""
    num_steps: int = parameter(10, whole(at_least=1))
    diff_percent: float = parameter(0.1, number(above=0, below=100))
    increase_threshold_percent: float = parameter(5.0, number(above=0, below=100))
    mode: str = parameter("", choice("EVAL", "TRAIN", "GLOBAL"))


@dataclass(slots=True)
class _Track:
    """The saved steps of one tensor that a later check may need."""

    last_check: int
    """In the count of its mode."""
    saved: deque[tuple[int, int, float]] = field(default_factory=deque)
    """Step in the mode's count, global step, value; oldest first."""

    def forget_before(self, oldest: int) -> None:
        """Keep the newest step <= `oldest`, and all after it: no later check goes further back."""
        while len(self.saved) > 1 and self.saved[1][0] <= oldest:
            self.saved.popleft()


class LossNotDecreasing(Rule):
    name = "LossNotDecreasing"
    complaint = "Loss is not decreasing"
    advice = "The loss stopped falling: check the learning rate and the data, or keep the best model so far."
    relief = "The loss falls again"
    judges_metrics = True
    looks_back = True
    rising_metrics = RisingMetrics(
        "fires when it does not fall",
        "let the rule read a metric that should fall, such as logloss, rmse or error: "
        '"tensor_regex": "-logloss$", "use_losses_collection": "False"',
    )

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        wanted = self.parameters
        self._losses = Selection(
            wanted.collection_names,
            wanted.tensor_regex,
            optional=("losses",) if wanted.use_losses_collection else (),
        )
        self._selects = bool(wanted.collection_names or wanted.tensor_regex)
        self.selections = (self._losses,)
        self._every_scalar = False
        """Whether it reads everything that is a single number, because nothing says what to read."""
        self._mode: Mode | None = Mode(self.parameters.mode) if self.parameters.mode else None
        self._tracks: dict[str, _Track] = {}
        self._skipped: set[str] = set()
        """Tensors that are not losses."""
        self._other_modes: set[Mode] = set()

    def learn(self, collections: Mapping[str, Collection]) -> None:
        super().learn(collections)
        self._every_scalar = (
            not self._selects and self.parameters.use_losses_collection and "losses" not in collections
        )

    def wants(self, tensor: str) -> bool:
        if self._every_scalar:
            return tensor not in self._skipped and not reduction(tensor)
        return super().wants(tensor)

    def required_collections(self, kind: ModelKind | None) -> tuple[str, ...]:
        if not self._selects:
            return self._losses.optional
        return super().required_collections(kind)

    @property
    def checks_to_recover(self) -> int:
        """A check spans `num_steps`."""
        return 1

    def steps_needed(self) -> StepsNeeded:
        return StepsApart("num_steps", self.parameters.num_steps)

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        losses = self._scalars(tensors)
        if not losses or not self._takes(step.mode):
            return None
        count = step.counted_in(Mode.GLOBAL if self.parameters.mode == Mode.GLOBAL else step.mode)
        self._read.update(losses)
        breaches: list[Breach] | None = None
        for tensor in sorted(losses):
            previous = self._remember(tensor, count, step.number, losses[tensor])
            if previous is None:
                continue
            breaches = breaches or []
            breach = self._compare(tensor, step.number, losses[tensor], previous)
            self._measured(tensor, step.number, losses[tensor], well=breach is None)
            if breach:
                breaches.append(breach)
        return breaches

    def _succeed(self, fired: Self) -> None:
        """The checks go on in the rhythm that they had, in the same mode."""
        self._restore(fired._state())

    def _state(self) -> dict[str, Any]:
        return {
            "mode": self._mode,
            "tracks": {
                name: {"last_check": track.last_check, "saved": [list(row) for row in track.saved]}
                for name, track in self._tracks.items()
            },
            "skipped": sorted(self._skipped),
            "other_modes": sorted(self._other_modes),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._mode = Mode(state["mode"]) if state["mode"] else None
        self._tracks = {
            name: _Track(track["last_check"], deque((c, s, v) for c, s, v in track["saved"]))
            for name, track in state["tracks"].items()
        }
        self._skipped = set(state.get("skipped", ()))
        self._other_modes = {Mode(mode) for mode in state["other_modes"]}

    def _scalars(self, tensors: Mapping[str, Value]) -> dict[str, float]:
        losses: dict[str, float] = {}
        for tensor, value in tensors.items():
            if not self.wants(tensor) or tensor in self._skipped:
                continue
            loss = scalar(value)
            if tensor in self._tracks and loss is not None:
                losses[tensor] = loss
            elif reduction(tensor):
                self._skip(tensor, "only_reductions", "they are reductions")
            elif rises(tensor):
                self._skip(tensor, "only_rising_metrics", "they should rise")
            elif loss is not None:
                losses[tensor] = loss
            elif self._every_scalar:
                self._skipped.add(tensor)  # a whole model, which is not news
            else:
                self._skip(tensor, "no_scalar", "they have several elements")
        return losses

    def _skip(self, tensor: str, reason: str, because: str) -> None:
        self._skipped.add(tensor)
        self._left_out.add(tensor, reason, because)

    def _takes(self, mode: Mode) -> bool:
        """Whether values of this mode count. A mode that is preferred to the current one replaces it."""
        if self.parameters.mode == Mode.GLOBAL or mode is self._mode:
            return True
        if self.parameters.mode or mode not in _PREFERENCE:
            self._other_modes.add(mode)
            return False
        if self._mode is None or _PREFERENCE.index(mode) < _PREFERENCE.index(self._mode):
            self._mode = mode
            self._tracks.clear()
            return True
        return False

    def _remember(self, tensor: str, count: int, step: int, loss: float) -> tuple[int, float] | None:
        """Take in a saved value. Returns the step and value to compare it with, if a check is due."""
        track = self._tracks.setdefault(tensor, _Track(last_check=count))
        num_steps = self.parameters.num_steps
        track.saved.append((count, step, loss))
        track.forget_before(count - num_steps)
        if count < track.last_check + num_steps or not self._judges:
            return None
        track.last_check = count
        _, previous_step, previous = track.saved[0]
        return previous_step, previous

    def _compare(self, tensor: str, step: int, loss: float, previous: tuple[int, float]) -> Breach | None:
        previous_step, before = previous
        wanted = self.parameters.diff_percent
        if not (math.isfinite(loss) and math.isfinite(before)):
            evidence = Evidence(tensor, step, loss, previous_step, before, threshold=wanted)
            explanation = f"{tensor} is {loss:g} at step {step} ({before:g} at step {previous_step})"
            return Breach("non_finite", explanation, evidence)
        fall = _fall_percent(before, loss)
        if fall >= wanted:
            return None
        reason = "increase" if -fall > self.parameters.increase_threshold_percent else "plateau"
        needed = before - wanted / 100 * _size(before)
        evidence = Evidence(
            tensor,
            step,
            loss,
            previous_step,
            before,
            threshold=wanted,
            missed_by=wanted - fall,
            needed=needed,
        )
        return Breach(reason, self._explain(tensor, fall, previous_step, step), evidence)

    def _explain(self, tensor: str, fall: float, previous_step: int, step: int) -> str:
        between = f"between step {previous_step} and step {step}"
        wants = f"the rule wants {'' if fall > 0 else 'a fall of '}{self.parameters.diff_percent:g} %"
        if fall == 0:
            return f"{tensor} did not change {between}; {wants}"
        moved = "fell" if fall > 0 else "rose"
        return f"{tensor} {moved} {_percent(abs(fall))} {between}; {wants}"

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        wanted, seen = self.parameters.mode or "EVAL or TRAIN", ", ".join(sorted(self._other_modes))
        num_steps = self.parameters.num_steps
        yield (
            bool(self._tracks),
            "too_few_steps",
            f"no loss has saved steps that are {num_steps} apart (num_steps)",
        )
        yield (
            bool(self._other_modes),
            "no_values_in_mode",
            f"no loss has values in mode {wanted}, only in {seen}",
        )
        yield from super()._unjudged()


def _fall_percent(before: float, now: float) -> float:
    return (before - now) / _size(before) * 100


def _size(value: float) -> float:
    return max(abs(value), _TINY)


def _percent(value: float) -> str:
    return f"{value:.0f} %" if value >= 1000 else f"{value:.3g} %"
