"""WeightUpdateRatio: weights change too much, or hardly at all, from one saved step to another.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- The ratio is mean(|current - previous|) / (mean(|previous|) + `epsilon`), of each tensor of the collection
  `weights` by itself. The rule fires when it is > `large_threshold` or < `small_threshold`; weights that
  are frozen fire.
- Without `num_steps` the previous step is the tensor's previous saved one. With it, it is the oldest saved
  step >= step - `num_steps`; if there is none, nothing is judged. To bound the memory, only one step in
  each eighth of `num_steps` is held for comparison.
- Only steps of the modes TRAIN and GLOBAL are read, as their mode counts them: in other modes no weight is
  updated, and every ratio would be zero.
- NaN or infinity in a weight of either step fires, for the reason `non_finite`.
- A tensor is compared only with steps at which it had the same shape. Text, and tensors of which only
  reductions were saved, are left out, and the verdict says so.
- When several weights fire at one step, the five worst are the evidence.
- Whether it recovers is not followed: that would take the weights of several steps at each look.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import Breach, Evidence, Mode, Rule, Step, Value
from rules.needs import ModelKind, SameInterval, StepsNeeded
from rules.parameters import ParameterError, number, parameter, parse, whole
from rules.reductions import WithReductions, arrays
from rules.worst import worst

_TRAINING = (Mode.TRAIN, Mode.GLOBAL)
_HELD_STEPS = 8
"""About how many steps are held for comparison at most: one for each eighth of `num_steps`."""


@dataclass(frozen=True, slots=True)
class Parameters:
    num_steps: int | None = parameter(None, whole(at_least=1))
    large_threshold: float = parameter(10.0, number(above=0))
    small_threshold: float = parameter(1e-08, number(at_least=0))
    epsilon: float = parameter(1e-09, number(above=0))


@dataclass(slots=True)
class _Held:
    """A saved step of one tensor, for later comparison."""

    count: int
    """In the count of its mode."""
    step: int
    weights: NDArray[Any] | None = None
    """None after a restore, until the step is recalled."""


class WeightUpdateRatio(Rule):
    name = "WeightUpdateRatio"
    complaint = "Weights change too much or too little"
    looks_back = True
    advice = "Weights change too much or too little a step: adjust the learning rate."
    model_kind = ModelKind.DEEP_LEARNING
    judges_progress = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        if self.parameters.small_threshold >= self.parameters.large_threshold:
            raise ParameterError(f"{self.name}: small_threshold must be below large_threshold")
        self._weights = WithReductions(["weights"])
        self.selections = (self._weights,)
        self._held: dict[str, deque[_Held]] = {}
        self._other_modes: set[Mode] = set()

    def steps_needed(self) -> StepsNeeded | None:
        num_steps = self.parameters.num_steps
        return None if num_steps is None else SameInterval("num_steps", num_steps)

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        if step.mode not in _TRAINING:
            self._other_modes.add(step.mode)
            return None
        count = step.counted_in(step.mode)
        judged = False
        breaches = []
        for tensor, weights in arrays(self._weights, tensors, self._left_out):
            self._read.add(tensor)
            if previous := self._previous(tensor, count, weights.shape):
                judged = True
                if breach := self._compare(tensor, step.number, weights, *previous):
                    breaches.append(breach)
            self._hold(tensor, count, step.number, weights)
        return worst(breaches) if judged else None

    def _previous(self, tensor: str, count: int, shape: tuple[int, ...]) -> tuple[int, NDArray[Any]] | None:
        """The step and the weights to compare with, if any. Drops what no later step can need."""
        held = self._held.setdefault(tensor, deque())
        if self.parameters.num_steps is not None:
            while held and held[0].count < count - self.parameters.num_steps:
                held.popleft()
        for saved in held:
            if saved.weights is not None and saved.weights.shape == shape:
                return saved.step, saved.weights
        return None

    def _hold(self, tensor: str, count: int, step: int, weights: NDArray[Any]) -> None:
        held, num_steps = self._held[tensor], self.parameters.num_steps
        if num_steps is None:
            held.clear()
        elif held and count < held[-1].count + num_steps / _HELD_STEPS:
            return
        # A copy: the array may be a view of a whole file.
        held.append(_Held(count, step, weights.copy()))

    def _compare(
        self, tensor: str, step: int, weights: NDArray[Any], previous_step: int, previous: NDArray[Any]
    ) -> Breach | None:
        p = self.parameters
        with np.errstate(all="ignore"):  # NaN and infinity carry over to the ratio
            # In half precision the difference may overflow; double precision would take five times as long.
            update = np.subtract(weights, previous, dtype=np.result_type(weights, previous, np.float32))
            ratio = float(_size(update) / (_size(previous) + p.epsilon))
        between = f"between step {previous_step} and step {step}"
        if not math.isfinite(ratio):
            explanation = f"{tensor} holds NaN or infinity, so that its update {between} has no size"
            return Breach("non_finite", explanation, Evidence(tensor, step, ratio, previous_step))
        if p.small_threshold <= ratio <= p.large_threshold:
            return None
        large = ratio > p.large_threshold
        threshold = p.large_threshold if large else p.small_threshold
        explanation = (
            f"{tensor} changed by {ratio:.3g} times its size {between}; "
            f"the rule {'allows' if large else 'wants at least'} {threshold:g}"
        )
        missed_by = abs(ratio - threshold)
        evidence = Evidence(tensor, step, ratio, previous_step, threshold=threshold, missed_by=missed_by)
        return Breach("too_large" if large else "too_small", explanation, evidence)

    def recalls(self) -> tuple[int, ...]:
        return tuple(sorted({saved.step for held in self._held.values() for saved in held}))

    def recall(self, step: Step, tensors: Mapping[str, Value]) -> None:
        for tensor, weights in arrays(self._weights, tensors, self._left_out):
            for saved in self._held.get(tensor, ()):
                if saved.step == step.number:
                    saved.weights = weights.copy()

    def _state(self) -> dict[str, Any]:
        return {
            "held": {
                tensor: [[saved.count, saved.step] for saved in held] for tensor, held in self._held.items()
            },
            "other_modes": sorted(self._other_modes),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._held = {
            tensor: deque(_Held(count, step) for count, step in held)
            for tensor, held in state["held"].items()
        }
        self._other_modes = {Mode(mode) for mode in state["other_modes"]}

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        num_steps = self.parameters.num_steps
        within = "" if num_steps is None else f" at most {num_steps} apart (num_steps)"
        yield bool(self._read), "too_few_steps", f"no weight was saved at two steps{within}"
        yield from super()._unjudged()
        modes = ", ".join(sorted(self._other_modes))
        yield bool(modes), "no_values_in_mode", f"no step of training was saved, only of mode {modes}"


def _size(values: NDArray[Any]) -> float:
    return float(np.abs(values).mean(dtype=np.float64))
