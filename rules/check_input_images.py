"""CheckInputImages: the images that a model is given are not normalised around zero.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- The mean is taken for each colour channel by itself, since the rule has a parameter `channel`; it fires
  when the mean of any channel is further than `threshold_mean` from 0. `channel` is the axis of the
  channels, negative to count from the last, as in numpy: 1 for NCHW, 3 or -1 for NHWC.
- Axis 0 counts the images, unless it is the one of the channels: then the tensor is a single image.
- Means run over all saved steps of any mode, and each image counts as much as any other. Each tensor
  is judged by itself: after `threshold_samples` images of it, at every step that has it.
- NaN or infinity among the images fires at once, for the reason `non_finite`: no later image can change
  that.
- Text, empty tensors, tensors of which only reductions were saved (these do not say how many images there
  were), tensors without such an axis or with more than 1,024 channels, and steps with another number of
  channels are left out, and the verdict says so.
- What it found is true of the input, and does not recover.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import Breach, Evidence, Rule, Step, Value
from rules.needs import ModelKind, MxnetNames
from rules.parameters import REGEX, Kind, number, parameter, parse, whole
from rules.reductions import WithReductions, arrays
from rules.worst import worst

_MAX_CHANNELS = 1024
"""More than any image has. Keeps the state small, which holds a sum for each channel."""


_DEFAULT_REGEX = ".*hybridsequential0_input_0"
"""As MXNet names tensors."""


@dataclass(frozen=True, slots=True)
class Parameters:
    threshold_mean: float = parameter(0.2, number(at_least=0))
    threshold_samples: int = parameter(500, whole(at_least=1))
    regex: str = parameter(_DEFAULT_REGEX, REGEX)
    channel: int = parameter(1, Kind("a whole number", int))


@dataclass(slots=True)
class _Seen:
    images: int
    sums: NDArray[np.float64]
    """For each channel, the sum of the images' means."""


class CheckInputImages(Rule):
    name = "CheckInputImages"
    complaint = "Input images are not normalised"
    advice = "Normalise the input images: their mean is far from zero."
    model_kind = ModelKind.DEEP_LEARNING
    mxnet_names = MxnetNames("regex", _DEFAULT_REGEX)

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        self._inputs = WithReductions(regexes=(self.parameters.regex,))
        self.selections = (self._inputs,)
        self._seen: dict[str, _Seen] = {}

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        breaches: list[Breach] | None = None
        for tensor, array in arrays(self._inputs, tensors, self._left_out):
            self._read.add(tensor)
            seen = self._add(tensor, array)
            if seen is None:
                continue
            means = seen.sums / seen.images
            if not np.isfinite(means).all():
                breaches = [*(breaches or []), *self._not_finite(step.number, tensor, means)]
            elif seen.images >= self.parameters.threshold_samples:
                breaches = [
                    *(breaches or []),
                    *worst(self._off_zero(step.number, tensor, seen.images, means)),
                ]
        return breaches

    def _add(self, tensor: str, array: NDArray[Any]) -> _Seen | None:
        """Adds these images to what was seen of the tensor; None if they are not images."""
        axis = self.parameters.channel
        if not -array.ndim <= axis < array.ndim or array.shape[axis] > _MAX_CHANNELS:
            because = f"they have no axis {axis}, or one too long to be of channels (the parameter channel)"
            self._left_out.add(tensor, "no_channels", because)
            return None
        axis %= array.ndim
        images = 1 if axis == 0 else len(array)
        others = tuple(other for other in range(array.ndim) if other != axis)
        with np.errstate(all="ignore"):  # the breach reports NaN and infinity
            sums = array.mean(axis=others, dtype=np.float64) * images
            seen = self._seen.setdefault(tensor, _Seen(0, np.zeros_like(sums)))
            if sums.shape != seen.sums.shape:
                because = f"their axis {axis} has another length at another step (the parameter channel)"
                self._left_out.add(tensor, "no_channels", because)
                return None
            seen.images += images
            seen.sums += sums
        return seen

    def _not_finite(self, step: int, tensor: str, means: NDArray[np.float64]) -> Iterator[Breach]:
        channel = int(np.flatnonzero(~np.isfinite(means))[0])
        mean = float(means[channel])
        evidence = Evidence(tensor, step, mean, threshold=self.parameters.threshold_mean)
        explanation = f"{tensor}: the mean of channel {channel} is {mean:g} at step {step}"
        yield Breach("non_finite", explanation, evidence)

    def _off_zero(self, step: int, tensor: str, images: int, means: NDArray[np.float64]) -> Iterator[Breach]:
        allowed = self.parameters.threshold_mean
        for channel in np.flatnonzero(np.abs(means) > allowed):
            mean = float(means[channel])
            explanation = (
                f"{tensor}: over {images} images up to step {step}, channel {channel} has a mean of "
                f"{mean:.4g}; the rule allows {allowed:g} to either side of 0"
            )
            evidence = Evidence(tensor, step, mean, threshold=allowed, missed_by=abs(mean) - allowed)
            yield Breach("off_zero", explanation, evidence)

    def _state(self) -> dict[str, Any]:
        return {
            "seen": {tensor: [seen.images, seen.sums.tolist()] for tensor, seen in self._seen.items()},
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._seen = {
            tensor: _Seen(images, np.array(sums, np.float64))
            for tensor, (images, sums) in state["seen"].items()
        }

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        wanted = self.parameters.threshold_samples
        most = max((seen.images for seen in self._seen.values()), default=0)
        yield bool(most), "too_few_samples", f"{most} images were saved, the rule wants {wanted} first"
        yield from super()._unjudged()
