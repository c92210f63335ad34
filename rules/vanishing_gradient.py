"""VanishingGradient: a gradient becomes too small to learn from.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- Each tensor of the collection `gradients` is judged by itself; one that vanishes is enough. It need not
  have been larger before: a gradient of zero at the first step fires.
- The mean is taken in double precision, because in half precision it would be zero below 6e-8.
- If only reductions were saved, `abs_mean` is judged; with other reductions the tensor is left out, and the
  verdict says so.
- NaN and infinity are normal with mixed precision, which then lowers the scale of the loss. Such a gradient
  is not judged at that step, and the verdict says so. ExplodingTensor looks for NaN.
- When several gradients fire at one step, the smallest five are the evidence.
- It has recovered when each gradient that fired was large enough at three judged steps in a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import EVERY_STEP_CHECKS, Breach, Evidence, Rule, Step, Value
from rules.needs import FixedOutcome, Forest, ModelKind
from rules.parameters import number, parameter, parse
from rules.reductions import WithReductions, reduction
from rules.values import numbers
from rules.worst import worst


@dataclass(frozen=True, slots=True)
class Parameters:
    threshold: float = parameter(1e-07, number(above=0))


class VanishingGradient(Rule):
    name = "VanishingGradient"
    complaint = "A gradient is vanishing"
    advice = "Gradients vanish: use other activations, normalisation or skip connections."
    model_kind = ModelKind.DEEP_LEARNING
    relief = "The gradients no longer vanish"
    judges_progress = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        self._gradients = WithReductions(["gradients"])
        self.selections = (self._gradients,)

    @property
    def checks_to_recover(self) -> int:
        return EVERY_STEP_CHECKS

    def fixed_outcomes(self, forest: Forest | None) -> Iterator[FixedOutcome]:  # noqa: ARG002
        if (least := self.parameters.threshold) >= 1:
            sentence = f"threshold is {least:g}: the mean absolute gradient of nearly every model is smaller"
            yield FixedOutcome(True, sentence, "leave threshold out (Debugger's default is 0.0000001)")

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        means: dict[str, float] = {}
        for tensor, mean in self._means(tensors):
            self._read.add(tensor)
            if math.isfinite(mean):
                means[tensor] = mean
            else:
                self._left_out.add(tensor, "non_finite", "they held NaN or infinity at some step")
        if not means:
            return None
        wanted = self.parameters.threshold
        for tensor in self._recovery.names & means.keys():
            self._measured(tensor, step.number, means[tensor], well=means[tensor] >= wanted)
        return worst(
            self._vanishing(step.number, tensor, means[tensor])
            for tensor in sorted(means)
            if means[tensor] < wanted
        )

    def _means(self, tensors: Mapping[str, Value]) -> Iterator[tuple[str, float]]:
        """The mean absolute value of each gradient, by the name of the tensor that it was read from."""
        for tensor, value in self._gradients.of(tensors):
            array = numbers(value)
            reduced = reduction(tensor)
            if reduced and reduced.tensor in tensors:
                continue
            if array is None or array.size == 0:
                self._left_out.add(tensor, "no_numbers", "they hold no numbers")
            elif reduced is None or reduced.name == "abs_mean":
                yield tensor, _mean_of_absolutes(array)
            else:
                self._left_out.add(tensor, "no_abs_mean", "only the reduction abs_mean can be judged")

    def _vanishing(self, step: int, tensor: str, mean: float) -> Breach:
        wanted = self.parameters.threshold
        reduced = reduction(tensor)
        explanation = (
            f"the mean absolute value of {reduced.tensor if reduced else tensor} is {mean:.3g} at step "
            f"{step}; the rule wants at least {wanted:g}"
        )
        evidence = Evidence(tensor, step, mean, threshold=wanted, missed_by=wanted - mean, needed=wanted)
        return Breach("vanishing", explanation, evidence)


def _mean_of_absolutes(values: NDArray[Any]) -> float:
    if values.size == 1:  # every saved reduction is one; ten times as fast as numpy
        return abs(float(values.item()))
    return float(np.abs(values).mean(dtype=np.float64))
