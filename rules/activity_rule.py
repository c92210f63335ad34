"""What DeadRelu and SaturatedActivation share: they count the inactive units of a layer.

- The first axis of a saved tensor is the batch; each position in the other axes is a unit: for images, one
  channel at one place. A tensor with one axis is a single sample, and each of its values is a unit.
- A unit is inactive when it is active in less than `threshold_inactivity` % of the step's samples: at the
  default of 1 %, and in a batch of at most 100, when it is active in none.
- The rule fires when more than `threshold_layer` % of a layer's units are inactive. Each step, of every
  mode, is judged by itself.
- NaN in a layer fires, for the reason `non_finite`: such a unit is neither active nor inactive.
- Text, and tensors of which only reductions were saved, are left out, and the verdict says so.
- When several layers fire at one step, the five worst are the evidence.
- It has recovered when few enough units of each layer that fired were inactive at three judged steps in a
  row.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rules.base import EVERY_STEP_CHECKS, Breach, Evidence, Rule, Step, Value
from rules.needs import FixedOutcome, Forest
from rules.reductions import WithReductions, arrays
from rules.worst import worst


class ActivityRule(Rule):
    """A subclass has `_active`, and calls `_select` in `__init__`."""

    reason: ClassVar[str]
    """What an inactive unit is called, in one word: `dead`."""
    units: ClassVar[str] = "units"
    """The word for units in a sentence."""

    def _select(self, selection: WithReductions, threshold_inactivity: float, threshold_layer: float) -> None:
        self._selection = selection
        self.selections = (selection,)
        self._threshold_inactivity = threshold_inactivity
        self._threshold_layer = threshold_layer

    def fixed_outcomes(self, forest: Forest | None) -> Iterator[FixedOutcome]:  # noqa: ARG002
        if (percent := self._threshold_layer) >= 100:
            because = f"no more than all {self.units} of a layer can be {self.reason}"
            yield FixedOutcome(
                False, f"threshold_layer is {percent:g}: {because}", "set a percentage below 100"
            )

    @property
    def checks_to_recover(self) -> int:
        return EVERY_STEP_CHECKS

    @abstractmethod
    def _active(self, tensor: str, values: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Where the layer is active; None, with an entry in `_left_out`, if that cannot be known."""

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        judged = False
        breaches = []
        for tensor, values in arrays(self._selection, tensors, self._left_out):
            active = self._active(tensor, values)
            if active is None:
                continue
            judged = True
            self._read.add(tensor)
            nans = int(np.isnan(values).sum())
            breach = (
                _nan_breach(step.number, tensor, nans) if nans else self._count(step.number, tensor, active)
            )
            if breach:
                breaches.append(breach)
        return worst(breaches) if judged else None

    def _count(self, step: int, tensor: str, active: NDArray[np.bool_]) -> Breach | None:
        samples = active if active.ndim > 1 else active.reshape(1, -1)
        percent_active = np.count_nonzero(samples, axis=0) * 100 / len(samples)
        inactive = int(np.count_nonzero(percent_active < self._threshold_inactivity))
        share, allowed = inactive * 100 / percent_active.size, self._threshold_layer
        self._measured(tensor, step, share, well=share <= allowed)
        if share <= allowed:
            return None
        explanation = (
            f"{share:.4g} % of {tensor} is {self.reason} at step {step}: {inactive} of {percent_active.size} "
            f"units are active in less than {self._threshold_inactivity:g} % of a batch of {len(samples)}; "
            f"the rule allows {allowed:g} %"
        )
        evidence = Evidence(tensor, step, share, threshold=allowed, missed_by=share - allowed)
        return Breach(self.reason, explanation, evidence)


def _nan_breach(step: int, tensor: str, nans: int) -> Breach:
    explanation = f"{tensor} has {nans} NaN at step {step}"
    return Breach("non_finite", explanation, Evidence(tensor, step, float("nan")))
