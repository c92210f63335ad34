"""UnchangedTensor: a tensor stays the same from step to step.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows, in addition to `rules.tensor_rule`:

- At each step that saves the tensor, its value is compared with each of the `num_steps` - 1 saved before,
  as `numpy.allclose(value, earlier value, rtol, atol, equal_nan)`. The rule fires when all of them are
  close.
- A tensor that changes its shape has changed.
- NaN differs from everything, even NaN, unless `equal_nan`: a tensor with NaN is never unchanged, and the
  verdict says which tensors have some. Infinity is close to the same infinity.
- An earlier value that cannot be read again after a restart is not compared; the rule waits until it has
  `num_steps` values.
- It has recovered when each tensor that fired has changed within the first `num_steps` saved steps after it
  fired, or any later ones.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rules.base import Breach, Step, Value, Verdict
from rules.closeness import close, nearest_to_differing
from rules.needs import SavedSteps, StepsNeeded
from rules.parameters import FLAG, NAMES, REGEXES, number, parameter, parse, require_one_of, whole
from rules.tensor_rule import TensorRule


@dataclass(frozen=True, slots=True)
class Parameters:
    collection_names: tuple[str, ...] = parameter((), NAMES)
    tensor_regex: tuple[str, ...] = parameter((), REGEXES)
    num_steps: int = parameter(3, whole(at_least=2))
    rtol: float = parameter(1e-05, number(at_least=0))
    atol: float = parameter(1e-08, number(at_least=0))
    equal_nan: bool = parameter(False, FLAG)


class UnchangedTensor(TensorRule):
    name = "UnchangedTensor"
    relief = "The tensors change again"
    complaint = "A tensor does not change"
    looks_back = True
    advice = "These tensors no longer change: check that they are trained and not frozen."

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        require_one_of(self.parameters, self.name, "collection_names", "tensor_regex")
        self._select(self.parameters.collection_names, self.parameters.tensor_regex)
        self._earlier: dict[str, deque[tuple[int, Value | None]]] = {}
        """The steps to compare the next one with, oldest first; None if the value was too large for the state
        and was not recalled yet."""
        self._with_nan: set[str] = set()

    @property
    def checks_to_recover(self) -> int:
        """A check spans `num_steps` saved steps."""
        return 1

    def steps_needed(self) -> StepsNeeded:
        return SavedSteps("num_steps", self.parameters.num_steps)

    def _judge_tensor(self, step: int, tensor: str, value: Value) -> Sequence[Breach] | None:
        wanted = self.parameters.num_steps - 1
        earlier = self._earlier.get(tensor)
        if earlier is None:
            earlier = self._earlier[tensor] = deque(maxlen=wanted)
        if not self.parameters.equal_nan and tensor not in self._with_nan and _has_nan(value):
            self._with_nan.add(tensor)
        known = [(at, before) for at, before in earlier if before is not None]
        earlier.append((step, _keep(value)))
        if len(known) < wanted:
            return None
        # The last step is the most likely to differ.
        unchanged = all(self._close(value, before) for _, before in reversed(known))
        if (name := _change(tensor)) in self._recovery.names:
            self._measured(name, step, max(_difference(value, each) for _, each in known), well=not unchanged)
        return (self._unchanged(step, tensor, value, known),) if unchanged else ()

    def _close(self, value: Value, before: Value) -> bool:
        p = self.parameters
        return close(value, before, p.rtol, p.atol, equal_nan=p.equal_nan)

    def _unchanged(
        self, step: int, tensor: str, value: Value, earlier: Sequence[tuple[int, Value]]
    ) -> Breach:
        rtol, atol = self.parameters.rtol, self.parameters.atol
        elements = [(nearest_to_differing(value, before, rtol, atol), at) for at, before in earlier]
        nearest, previous = min(elements, key=lambda item: item[0].margin)
        explanation = (
            f"{tensor} is the same at {len(earlier) + 1} saved steps, {earlier[0][0]} to {step}: its "
            f"greatest change, {nearest.difference:.3g}, is within the tolerance of {nearest.tolerance:.3g}"
        )
        return Breach("unchanged", explanation, nearest.evidence(tensor, step, previous))

    def recalls(self) -> tuple[int, ...]:
        steps = {at for earlier in self._earlier.values() for at, value in earlier if _is_large(value)}
        return tuple(sorted(steps))

    def recall(self, step: Step, tensors: Mapping[str, Value]) -> None:
        for tensor, value in self._values(tensors):
            earlier = self._earlier.get(tensor, deque())
            for index, (at, _) in enumerate(earlier):
                if at == step.number:
                    earlier[index] = at, _keep(value)

    def _found(self, verdict: Verdict) -> Iterator[tuple[str, int | None, float]]:
        for evidence in verdict.evidence:
            previous = evidence.previous_value
            change = 0.0 if previous is None else abs(evidence.value - previous)
            # Infinity that stays infinity has not changed.
            yield _change(evidence.tensor), evidence.step, change if math.isfinite(change) else 0.0

    def _state(self) -> dict[str, Any]:
        return super()._state() | {
            "earlier": {
                tensor: [[at, None if _is_large(value) else value] for at, value in earlier]
                for tensor, earlier in self._earlier.items()
            },
            "with_nan": sorted(self._with_nan),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._earlier = {
            tensor: deque(((at, value) for at, value in earlier), self.parameters.num_steps - 1)
            for tensor, earlier in state["earlier"].items()
        }
        self._with_nan = set(state["with_nan"])

    def _notes(self) -> tuple[str, ...]:
        if not self._with_nan:
            return super()._notes()
        names = ", ".join(sorted(self._with_nan))
        return (*super()._notes(), f"with NaN, and so never unchanged there (equal_nan is False): {names}")


def _keep(value: Value) -> Value:
    """A copy: the array may be a view of a whole file."""
    return value if isinstance(value, float) else value.copy()


def _is_large(value: Value | None) -> bool:
    return not isinstance(value, float)


def _has_nan(value: Value) -> bool:
    return math.isnan(value) if isinstance(value, float) else bool(np.isnan(value).any())


def _change(tensor: str) -> str:
    return f"the change of {tensor}"


def _difference(value: Value, before: Value) -> float:
    """The greatest difference of two elements; infinite if the shapes differ."""
    if np.shape(value) != np.shape(before):
        return math.inf
    with np.errstate(all="ignore"):  # infinity less infinity
        differences = np.abs(np.subtract(value, before, dtype=np.float64))
    return float(np.max(differences, where=np.isfinite(differences), initial=0.0))
