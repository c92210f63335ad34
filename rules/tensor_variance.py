"""TensorVariance: the elements of a tensor vary too much or too little.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows, in addition to `rules.tensor_rule`:

- The variance is that of all elements at one step, divided by their number, as in numpy and smdebug. The
  rule fires above `max_threshold` and below `min_threshold`; without either, it never fires.
- If the tensor was not saved itself, smdebug's reductions `variance` and `std` are used.
- A tensor with one element is left out: its variance, 0, would be below any `min_threshold`.
- A variance that is NaN or infinite, usually because an element is, fires for the reason `non_finite`.
- It has recovered when the variance of each tensor that fired was within the bounds at three saved steps in a
  row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rules.base import EVERY_STEP_CHECKS, Breach, Evidence, Value, scalar
from rules.needs import FixedOutcome, Forest
from rules.parameters import NAMES, REGEXES, ParameterError, number, parameter, parse, require_one_of
from rules.reductions import reduction
from rules.tensor_rule import TensorRule

_REDUCTION = re.compile(r"smdebug/reductions/(?P<by>variance|std)/(?P<tensor>.+)")


@dataclass(frozen=True, slots=True)
class Parameters:
    collection_names: tuple[str, ...] = parameter((), NAMES)
    tensor_regex: tuple[str, ...] = parameter((), REGEXES)
    max_threshold: float | None = parameter(None, number())
    min_threshold: float | None = parameter(None, number())


class TensorVariance(TensorRule):
    name = "TensorVariance"
    complaint = "A tensor's variance is out of bounds"
    advice = "The variance left its bounds: check the initialisation and the learning rate."
    relief = "The variance is within its bounds again"
    judges_progress = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        require_one_of(self.parameters, self.name, "collection_names", "tensor_regex")
        self._most, self._least = self.parameters.max_threshold, self.parameters.min_threshold
        if self._most is not None and self._least is not None and self._least > self._most:
            raise ParameterError(
                f"{self.name}: min_threshold must not be above max_threshold, {self._least:g} is above "
                f"{self._most:g}"
            )
        self._select(self.parameters.collection_names, self.parameters.tensor_regex)

    @property
    def checks_to_recover(self) -> int:
        return EVERY_STEP_CHECKS

    def fixed_outcomes(self, forest: Forest | None) -> Iterator[FixedOutcome]:  # noqa: ARG002
        if self._most is None and self._least is None:
            sentence = "neither max_threshold nor min_threshold is set: no variance is out of bounds"
            yield FixedOutcome(False, sentence, "set max_threshold, min_threshold, or both")

    def wants(self, tensor: str) -> bool:
        reduced = _REDUCTION.fullmatch(tensor)
        return super().wants(reduced["tensor"] if reduced else tensor)

    def _values(self, tensors: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
        """The variances, by the name of the saved tensor or reduction."""
        whole = {name: value for name, value in tensors.items() if not reduction(name)}
        for tensor, value in super()._values(whole):
            if isinstance(value, float):
                self._left_out.add(tensor, "no_variance", "a single number has no variance")
            else:
                with np.errstate(all="ignore"):  # NaN and infinity make it NaN, which is judged below
                    yield tensor, float(value.var(dtype=np.float64))
        yield from self._reduced({name: value for name, value in tensors.items() if name not in whole}, whole)

    def _reduced(
        self, reductions: Mapping[str, Value], whole: Mapping[str, Value]
    ) -> Iterator[tuple[str, float]]:
        variances: dict[str, float] = {}
        for name, saved in reductions.items():
            reduced, value = _REDUCTION.fullmatch(name), scalar(saved)
            if reduced is None or value is None:
                if name in self._selection:
                    self._left_out.add(
                        name, "only_reductions", "they are reductions other than variance, std"
                    )
            elif reduced["tensor"] in self._selection and reduced["tensor"] not in whole:
                if reduced["by"] == "variance":
                    variances[reduced["tensor"]] = value
                else:
                    variances.setdefault(reduced["tensor"], value * value)
        yield from variances.items()

    def _judge_tensor(self, step: int, tensor: str, value: Value) -> Sequence[Breach] | None:
        variance, most, least = float(value), self._most, self._least
        if most is None and least is None:
            return None
        measured = f"the variance of {tensor} is {variance:.6g} at step {step}"
        if not math.isfinite(variance):
            return (Breach("non_finite", measured, Evidence(tensor, step, variance)),)
        if most is not None and variance > most:
            evidence = Evidence(
                tensor, step, variance, threshold=most, missed_by=variance - most, needed=most
            )
            return (Breach("too_large", f"{measured}; the rule allows {most:g} at most", evidence),)
        if least is not None and variance < least:
            evidence = Evidence(
                tensor, step, variance, threshold=least, missed_by=least - variance, needed=least
            )
            return (Breach("too_small", f"{measured}; the rule wants at least {least:g}", evidence),)
        self._measured(tensor, step, variance, well=True)
        return ()

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        unbounded = self._most is None and self._least is None
        yield unbounded, "no_threshold", "without max_threshold or min_threshold, the rule can never fire"
        yield from super()._unjudged()
