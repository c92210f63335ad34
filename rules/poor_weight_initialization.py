"""PoorWeightInitialization: the first steps look as if the weights had been initialized badly.

AWS documents the rule but not its code. There are three checks, and each of them can fire. If the
documentation leaves something open, this rule works as follows:

- `steps` and `patience` count the training's own steps, from its step 0: with `steps` 10 the saved ones of
  the steps 0 to 9 are judged. Steps of EVAL and PREDICT do not count.
- `variance_ratio`: of the tensors that `activation_inputs_regex` finds, each is a layer. The largest
  variance divided by the smallest is > `threshold`. That takes two layers, except that a layer with equal
  inputs fires by itself.
- `narrow_gradients`: of a tensor of the collection `gradients`, the 95th percentile less the 5th is <
  `distribution_range`. A gradient with NaN or infinity, which is normal at first with mixed precision, is
  not judged at that step.
- `loss_not_falling`: a loss of the collection `losses` has had no new lowest value for `patience` steps.
  For a loss with a value for each sample, the mean counts.
- NaN or infinity in activation inputs or a loss fires, for the reason `non_finite`.
- A check for which nothing was saved is not made, and the verdict says which.
- What it found was true of the first steps, and does not recover.
- Activation inputs and gradients with one element (which have no variance and no distribution), text, and
  tensors of which only reductions were saved are left out, and the verdict says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import Breach, Evidence, Mode, Rule, Step, Value
from rules.needs import FirstSteps, ModelKind, MxnetNames, StepsNeeded
from rules.parameters import REGEXES, number, parameter, parse, whole
from rules.reductions import WithReductions, arrays
from rules.worst import worst

_TRAINING = (Mode.TRAIN, Mode.GLOBAL)
_CHECKS = {
    "variance": "the variance of activation inputs (of at least two layers)",
    "gradients": "the distribution of gradients (collection gradients)",
    "losses": "whether the loss falls (collection losses)",
}


_DEFAULT_REGEX = ".*relu_input"
"""As MXNet names tensors."""


@dataclass(frozen=True, slots=True)
class Parameters:
    activation_inputs_regex: tuple[str, ...] = parameter((_DEFAULT_REGEX,), REGEXES)
    threshold: float = parameter(10.0, number(above=0))
    distribution_range: float = parameter(0.001, number(at_least=0))
    patience: int = parameter(5, whole(at_least=1))
    steps: float = parameter(10.0, number(above=0))
    """AWS has it as a float."""


class PoorWeightInitialization(Rule):
    name = "PoorWeightInitialization"
    complaint = "The weights are poorly initialized"
    advice = "The weights start badly: use Xavier or Kaiming initialisation."
    model_kind = ModelKind.DEEP_LEARNING
    mxnet_names = MxnetNames("activation_inputs_regex", _DEFAULT_REGEX, fits_pytorch=True)

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        self._inputs = WithReductions(regexes=self.parameters.activation_inputs_regex)
        self._gradients = WithReductions(optional=["gradients"])
        self._losses = WithReductions(optional=["losses"])
        self.selections = (self._inputs, self._gradients, self._losses)
        self._lowest: dict[str, tuple[int, int, float]] = {}
        """For each loss, its lowest value: step in the count of its mode, global step, value."""
        self._done: set[str] = set()
        """The checks that had something to judge."""
        self._first_too_late: int | None = None
        self._other_modes: set[Mode] = set()

    def steps_needed(self) -> StepsNeeded:
        return FirstSteps("steps", self.parameters.steps)

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        if step.mode not in _TRAINING:
            self._other_modes.add(step.mode)
            return None
        count = step.counted_in(step.mode)
        if count >= self.parameters.steps:
            if self._first_too_late is None and any(map(self.wants, tensors)):
                self._first_too_late = count
            return None
        found = {
            "variance": self._check_variances(step.number, tensors),
            "gradients": self._check_gradients(step.number, tensors),
            "losses": self._check_losses(count, step.number, tensors),
        }
        done = {check: breaches for check, breaches in found.items() if breaches is not None}
        self._done.update(done)
        return [breach for breaches in done.values() for breach in worst(breaches)] if done else None

    def _check_variances(self, step: int, tensors: Mapping[str, Value]) -> list[Breach] | None:
        variances: dict[str, float] = {}
        for layer, values in self._distributions(self._inputs, tensors):
            with np.errstate(all="ignore"):  # NaN and infinity make the variance NaN
                variances[layer] = float(values.var(dtype=np.float64))
        if broken := [layer for layer in variances if not math.isfinite(variances[layer])]:
            return [_non_finite(step, layer, math.nan) for layer in broken]
        if not variances:
            return None
        allowed = self.parameters.threshold
        least = min(variances, key=variances.__getitem__)
        largest = max(variances, key=variances.__getitem__)
        low, high = variances[least], variances[largest]
        if low == 0:
            explanation = f"the inputs of {least} are all the same at step {step}"
            return [Breach("variance_ratio", explanation, Evidence(least, step, 0.0, threshold=allowed))]
        if len(variances) == 1:
            return None
        ratio = high / low
        if ratio <= allowed:
            return []
        explanation = (
            f"the variance of {largest} ({high:.3g}) is {ratio:.3g} times that of {least} ({low:.3g}) "
            f"at step {step}; the rule allows {allowed:g} times"
        )
        evidence = Evidence(largest, step, ratio, threshold=allowed, missed_by=ratio - allowed)
        return [Breach("variance_ratio", explanation, evidence)]

    def _check_gradients(self, step: int, tensors: Mapping[str, Value]) -> list[Breach] | None:
        wanted = self.parameters.distribution_range
        breaches: list[Breach] | None = None
        for gradient, values in self._distributions(self._gradients, tensors):
            if not np.isfinite(values).all():
                self._left_out.add(gradient, "non_finite", "they held NaN or infinity at some step")
                continue
            breaches = breaches or []
            low, high = np.percentile(values.astype(np.float64), (5, 95))
            width = float(high - low)
            if width < wanted:
                explanation = (
                    f"from the 5th to the 95th percentile {gradient} spans {width:.3g} at step {step}; "
                    f"the rule wants at least {wanted:g}"
                )
                evidence = Evidence(gradient, step, width, threshold=wanted, missed_by=wanted - width)
                breaches.append(Breach("narrow_gradients", explanation, evidence))
        return breaches

    def _distributions(
        self, selection: WithReductions, tensors: Mapping[str, Value]
    ) -> Iterator[tuple[str, NDArray[Any]]]:
        for tensor, values in arrays(selection, tensors, self._left_out):
            if values.size > 1:
                self._read.add(tensor)
                yield tensor, values
            else:
                self._left_out.add(tensor, "no_distribution", "one element has no distribution")

    def _check_losses(self, count: int, step: int, tensors: Mapping[str, Value]) -> list[Breach] | None:
        breaches: list[Breach] | None = None
        for tensor, values in arrays(self._losses, tensors, self._left_out):
            self._read.add(tensor)
            with np.errstate(all="ignore"):  # NaN and infinity carry over to the mean
                loss = float(values.mean(dtype=np.float64))
            if not math.isfinite(loss):
                breaches = [*(breaches or ()), _non_finite(step, tensor, loss)]
                continue
            lowest = self._lowest.get(tensor)
            if lowest is None:
                self._lowest[tensor] = count, step, loss
                continue
            breaches = breaches or []
            lowest_count, lowest_step, lowest_loss = lowest
            if loss < lowest_loss:
                self._lowest[tensor] = count, step, loss
            elif count - lowest_count >= self.parameters.patience:
                explanation = (
                    f"{tensor} was lowest at step {lowest_step} ({lowest_loss:.6g}) and is {loss:.6g} "
                    f"at step {step}; the rule waits {self.parameters.patience} steps (patience)"
                )
                evidence = Evidence(
                    tensor,
                    step,
                    loss,
                    lowest_step,
                    lowest_loss,
                    threshold=lowest_loss,
                    missed_by=loss - lowest_loss,
                )
                breaches.append(Breach("loss_not_falling", explanation, evidence))
        return breaches

    def _state(self) -> dict[str, Any]:
        return {
            "lowest": {tensor: list(lowest) for tensor, lowest in self._lowest.items()},
            "done": sorted(self._done),
            "first_too_late": self._first_too_late,
            "other_modes": sorted(self._other_modes),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._lowest = {
            tensor: (count, step, loss) for tensor, (count, step, loss) in state["lowest"].items()
        }
        self._done = set(state["done"])
        self._first_too_late = state["first_too_late"]
        self._other_modes = {Mode(mode) for mode in state["other_modes"]}

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        yield (
            any(tensor not in self._left_out for tensor in self._read),
            "too_few_values",
            "one layer, or one value of a loss, cannot be compared: no two were saved in the first steps",
        )
        yield from super()._unjudged()
        yield (
            self._first_too_late is not None,
            "saved_too_late",
            f"none of the first {self.parameters.steps:g} steps (steps) holds what the rule reads; "
            f"the first saved later is {self._first_too_late}",
        )
        modes = ", ".join(sorted(self._other_modes))
        yield bool(modes), "no_values_in_mode", f"no step of training was saved, only of mode {modes}"

    def _notes(self) -> tuple[str, ...]:
        if not self._checked:
            return super()._notes()
        idle = tuple(
            f"nothing was saved to check {what}" for check, what in _CHECKS.items() if check not in self._done
        )
        return (*super()._notes(), *idle)


def _non_finite(step: int, tensor: str, value: float) -> Breach:
    explanation = f"{tensor} holds NaN or infinity at step {step}"
    return Breach("non_finite", explanation, Evidence(tensor, step, value))
