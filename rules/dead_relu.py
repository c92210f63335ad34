"""DeadRelu: too many ReLUs of a layer are never active.

AWS documents the rule but not its code. A ReLU is active where its output is > 0. If the documentation
leaves something else open, this rule works as `rules.activity_rule` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.activity_rule import ActivityRule
from rules.needs import FixedOutcome, Forest, ModelKind, MxnetNames
from rules.parameters import REGEXES, between, parameter, parse
from rules.reductions import WithReductions

_DEFAULT_REGEX = ".*relu_output"
"""As MXNet names tensors."""


@dataclass(frozen=True, slots=True)
class Parameters:
    tensor_regex: tuple[str, ...] = parameter((_DEFAULT_REGEX,), REGEXES)
    threshold_inactivity: float = parameter(1.0, between(0, 100))
    threshold_layer: float = parameter(50.0, between(0, 100))


class DeadRelu(ActivityRule):
    name = "DeadRelu"
    complaint = "Too many ReLUs are dead"
    advice = "Many ReLU units never fire: lower the learning rate, or use a leaky ReLU."
    model_kind = ModelKind.DEEP_LEARNING
    judges_progress = True
    mxnet_names = MxnetNames("tensor_regex", _DEFAULT_REGEX, fits_pytorch=True)
    reason = "dead"
    relief = "The ReLUs are active again"
    unit = " % dead"

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = p = parse(Parameters, parameters, self.name)
        self._select(WithReductions(regexes=p.tensor_regex), p.threshold_inactivity, p.threshold_layer)

    def fixed_outcomes(self, forest: Forest | None) -> Iterator[FixedOutcome]:
        yield from super().fixed_outcomes(forest)
        if (percent := self.parameters.threshold_inactivity) <= 0:
            sentence = f"threshold_inactivity is {percent:g}: no unit is active less often than never"
            yield FixedOutcome(False, sentence, "set a percentage above 0")

    def _active(self, tensor: str, values: NDArray[Any]) -> NDArray[np.bool_]:  # noqa: ARG002 - all are ReLUs
        return values > 0
