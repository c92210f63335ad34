"""ExplodingTensor: a tensor holds NaN or infinity.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- Without `collection_names` and `tensor_regex`, every saved tensor is read.
- One value is enough. The reason is `nan` where a tensor has any NaN, else `infinity`; with `only_nan`
  infinities are not an issue.
- If only reductions of a tensor were saved, these are judged instead, except `prod`: the product of many
  ordinary numbers overflows. The `std` of infinities is NaN, so fires with `only_nan` too.
- When several tensors fire at one step, the first by name gives the reason, the first five are the
  evidence.
- Text, complex numbers and XGBoost's `trees/…` are left out, and the verdict says so. In `trees/…`, NaN
  means that a leaf has no such value, for example no split.
- It has recovered when each tensor that fired was finite at three saved steps in a row: with mixed precision,
  a gradient may be infinite for once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import EVERY_STEP_CHECKS, Breach, Evidence, Rule, Step, Value
from rules.needs import ModelKind
from rules.parameters import FLAG, NAMES, REGEXES, parameter, parse
from rules.reductions import WithReductions, reduction
from rules.values import numbers
from rules.worst import worst


@dataclass(frozen=True, slots=True)
class Parameters:
    collection_names: tuple[str, ...] = parameter((), NAMES)
    tensor_regex: tuple[str, ...] = parameter((), REGEXES)
    only_nan: bool = parameter(False, FLAG)


class ExplodingTensor(Rule):
    name = "ExplodingTensor"
    complaint = "A tensor holds NaN or infinity"
    advice = "NaN or infinity appeared: lower the learning rate, clip gradients, check the inputs."
    model_kind = ModelKind.DEEP_LEARNING
    relief = "The tensors are finite again"
    judges_metrics = True
    judges_progress = True
    looks_for_non_finite = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        collections, regexes = self.parameters.collection_names, self.parameters.tensor_regex
        self._tensors = WithReductions(collections, regexes if collections or regexes else (".*",))
        self.selections = (self._tensors,)

    @property
    def checks_to_recover(self) -> int:
        return EVERY_STEP_CHECKS

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        values = dict(self._values(tensors))
        if not values:
            return None
        self._read.update(values)
        exploded = sorted(tensor for tensor, value in values.items() if self._exploded(value))
        for tensor in self._recovery.names & values.keys() - set(exploded):
            largest = float(np.max(np.abs(values[tensor]), initial=0.0))
            self._measured(tensor, step.number, largest, well=True)
        return worst(_explosion(step.number, tensor, values[tensor]) for tensor in exploded)

    def _exploded(self, value: NDArray[Any]) -> bool:
        only_nan = self.parameters.only_nan
        if value.size == 1:  # ten times as fast as numpy
            number = value.item()
            return math.isnan(number) if only_nan else not math.isfinite(number)
        return bool(np.isnan(value).any()) if only_nan else not np.isfinite(value).all()

    def _values(self, tensors: Mapping[str, Value]) -> Iterator[tuple[str, NDArray[Any]]]:
        for tensor, value in self._tensors.of(tensors):
            array = numbers(value)
            reduced = reduction(tensor)
            if reduced and reduced.tensor in tensors:
                continue
            if tensor.startswith("trees/"):
                self._left_out.add(tensor, "only_trees", "in a tree, NaN means that a leaf has no such value")
            elif array is None:
                self._left_out.add(tensor, "no_numbers", "they hold no numbers")
            elif reduced and reduced.name in {"prod", "abs_prod"}:
                self._left_out.add(tensor, "only_products", "products overflow where the tensor does not")
            else:
                yield tensor, array


def _explosion(step: int, tensor: str, value: NDArray[Any]) -> Breach:
    nans, infinities = int(np.isnan(value).sum()), int(np.isinf(value).sum())
    first = float(value[np.isnan(value) if nans else np.isinf(value)].flat[0])
    evidence = Evidence(tensor, step, first)
    return Breach("nan" if nans else "infinity", _sentence(step, tensor, value, nans, infinities), evidence)


def _sentence(step: int, tensor: str, value: NDArray[Any], nans: int, infinities: int) -> str:
    if value.size == 1:
        return f"{tensor} is {value.item():g} at step {step}"
    counts = [f"{count} {what}" for count, what in ((nans, "NaN"), (infinities, "infinite")) if count]
    return f"{tensor} has {' and '.join(counts)} of its {value.size} values at step {step}"
