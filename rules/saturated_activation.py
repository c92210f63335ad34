"""SaturatedActivation: too many tanh or sigmoid units of a layer are driven to their limits.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows, in addition to `rules.activity_rule`:

- A unit is active in a sample where its input lies within the two thresholds of its function, both
  included.
- The tensor's name says which function it is: the last of `tanh` and `sigmoid` in it, in upper or lower
  case. A tensor with neither is left out, and the verdict says so.
- The tensors of `collection_names` and those that `tensor_regex` finds are read, together; `tensor_regex`
  has its default even if only `collection_names` is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.activity_rule import ActivityRule
from rules.needs import ModelKind, MxnetNames
from rules.parameters import NAMES, REGEXES, ParameterError, between, number, parameter, parse
from rules.reductions import WithReductions

_DEFAULT_REGEX = ".*tanh_input|.*sigmoid_input"
"""As MXNet names tensors."""


@dataclass(frozen=True, slots=True)
class Parameters:
    collection_names: tuple[str, ...] = parameter((), NAMES)
    tensor_regex: tuple[str, ...] = parameter((_DEFAULT_REGEX,), REGEXES)
    threshold_tanh_min: float = parameter(-9.4999, number())
    threshold_tanh_max: float = parameter(9.4999, number())
    threshold_sigmoid_min: float = parameter(-23.0, number())
    threshold_sigmoid_max: float = parameter(16.99999, number())
    threshold_inactivity: float = parameter(1.0, between(0, 100))
    threshold_layer: float = parameter(50.0, between(0, 100))


class SaturatedActivation(ActivityRule):
    name = "SaturatedActivation"
    complaint = "Too many activations are saturated"
    advice = "Activations are saturated: lower the learning rate, or normalise the inputs."
    model_kind = ModelKind.DEEP_LEARNING
    judges_progress = True
    mxnet_names = MxnetNames("tensor_regex", _DEFAULT_REGEX, fits_pytorch=True)
    reason = "saturated"
    relief = "The activations are no longer saturated"
    unit = " % saturated"
    units = "nodes"

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = p = parse(Parameters, parameters, self.name)
        self._limits = {
            "tanh": (p.threshold_tanh_min, p.threshold_tanh_max),
            "sigmoid": (p.threshold_sigmoid_min, p.threshold_sigmoid_max),
        }
        for function, (lowest, highest) in self._limits.items():
            if lowest >= highest:
                minimum, maximum = f"threshold_{function}_min", f"threshold_{function}_max"
                raise ParameterError(f"{self.name}: {minimum} must be below {maximum}")
        selection = WithReductions(p.collection_names, p.tensor_regex)
        self._select(selection, p.threshold_inactivity, p.threshold_layer)

    def _active(self, tensor: str, values: NDArray[Any]) -> NDArray[np.bool_] | None:
        function = max(self._limits, key=tensor.lower().rfind)
        if function not in tensor.lower():
            self._left_out.add(tensor, "unknown_function", "their names say neither tanh nor sigmoid")
            return None
        lowest, highest = self._limits[function]
        active: NDArray[np.bool_] = (values >= lowest) & (values <= highest)
        return active
