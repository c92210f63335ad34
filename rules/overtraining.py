"""Overtraining: training goes on although the validation loss stopped improving long ago.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- Patience is counted in saved values of a loss since its optimum, not in training steps: at the default
  interval of 500 steps, the default patience of 5 would be over before the next value is there.
- A value is a new optimum when it is lower than the last one by at least `delta`, absolutely. A slow fall
  therefore counts as soon as it adds up to `delta`.
- The rule fires when `patience_validation` is exhausted. Whether `patience_train` is exhausted too has no
  effect, but the verdict says so: a training loss that still falls points to overfitting.
- Training and validation are the modes TRAIN and EVAL of one tensor, or of two whose names differ only in
  the word for the data (`loss` and `val_loss`). In XGBoost, which has no modes, `train-<metric>` goes with
  `validation-<metric>`, and with `eval-`, `test-`, `valid-` or `validation_0-<metric>`.
- The collection `losses` is read. Metrics that should rise, text, reductions and tensors with several
  elements are left out, and the verdict says so.
- When several losses fire at one step, the first by name gives the reason, all go into the evidence.
- NaN and infinity are never an optimum, so they use up the patience.
- It has recovered when each loss that fired has a new optimum, better than the one from before it fired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rules.base import Breach, Evidence, Rule, Step, Value
from rules.losses import Losses, Split, training_counterpart
from rules.needs import RisingMetrics, SavedSteps, StepsNeeded
from rules.parameters import number, parameter, parse, whole
from rules.selection import Selection


@dataclass(frozen=True, slots=True)
class Parameters:
    patience_train: int = parameter(5, whole(at_least=1))
    patience_validation: int = parameter(10, whole(at_least=1))
    delta: float = parameter(0.01, number(at_least=0))


@dataclass(slots=True)
class _Track:
    """The state of one loss."""

    step: int
    """The step of the optimum, or of the first value while there is no optimum."""
    best: float | None = None
    waited: int = -1
    """The number of values saved since that step."""

    def take(self, step: int, value: float, delta: float) -> None:
        self.waited += 1
        if math.isfinite(value) and (self.best is None or (value < self.best and self.best - value >= delta)):
            self.step, self.best, self.waited = step, value, 0


class Overtraining(Rule):
    name = "Overtraining"
    complaint = "Model is overtraining"
    advice = "More training brings nothing: keep the best model so far."
    relief = "The validation loss has a new optimum"
    judges_metrics = True
    rising_metrics = RisingMetrics("takes its first value for the best")

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        selection = Selection(("losses",))
        self.selections = (selection,)
        self._losses = Losses(selection, self._left_out)
        self._tracks: dict[Split, dict[str, _Track]] = {split: {} for split in Split}

    @property
    def checks_to_recover(self) -> int:
        """A new optimum needs no confirmation."""
        return 1

    def steps_needed(self) -> StepsNeeded:
        return SavedSteps("patience_validation", self.parameters.patience_validation + 1)

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        validated: dict[str, float] = {}
        for tensor, split, value in self._losses.of(step, tensors):
            self._read.add(tensor)
            track = self._tracks[split].get(tensor)
            if track is None:
                track = self._tracks[split][tensor] = _Track(step.number)
            elif split is Split.VALIDATION:
                validated[tensor] = value
            track.take(step.number, value, self.parameters.delta)
        if not validated:
            return None
        breaches = (self._compare(step.number, tensor, validated[tensor]) for tensor in sorted(validated))
        return [breach for breach in breaches if breach]

    def _compare(self, step: int, tensor: str, value: float) -> Breach | None:
        track, delta = self._tracks[Split.VALIDATION][tensor], self.parameters.delta
        self._measured(tensor, step, value, well=track.waited == 0)
        if track.waited < self.parameters.patience_validation:
            return None
        if track.best is None:
            optimum = f"no number since step {track.step}"
        else:
            optimum = f"no new optimum since {track.best:.6g} at step {track.step}"
        explanation = (
            f"{tensor} has had {optimum}, {track.waited} saved values ago; it is {value:.6g} at step {step}, "
            f"and an optimum has to be lower by {delta:g}{self._training(tensor)}"
        )
        evidence = Evidence(tensor, step, value, threshold=delta)
        if track.best is not None:
            missed = delta - (track.best - value) if math.isfinite(value) else None
            needed = track.best - delta
            evidence = Evidence(
                tensor, step, value, track.step, track.best, threshold=delta, missed_by=missed, needed=needed
            )
        return Breach("no_new_optimum", explanation, evidence)

    def _training(self, tensor: str) -> str:
        track = training_counterpart(tensor, self._tracks[Split.TRAIN])
        if track is None:
            return ""
        if track.waited >= self.parameters.patience_train:
            return f"; the training loss has had none either, for {track.waited} saved values"
        return "; the training loss still falls"

    def _succeed(self, fired: Self) -> None:
        self._restore(fired._state())
        for track in self._tracks[Split.VALIDATION].values():
            if track.waited >= self.parameters.patience_validation:
                track.waited = 0  # else it would fire at every value

    def _state(self) -> dict[str, Any]:
        return {
            "tracks": {
                split: {tensor: [track.step, track.best, track.waited] for tensor, track in tracks.items()}
                for split, tracks in self._tracks.items()
            },
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._tracks = {
            split: {tensor: _Track(*track) for tensor, track in state["tracks"][split].items()}
            for split in Split
        }

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        if not self._read:
            yield from super()._unjudged()
            return
        validation = self._tracks[Split.VALIDATION]
        yield not validation, "no_validation_values", "no loss has values of validation, only of training"
        yield (
            True,
            "too_few_steps",
            "only one validation value was saved: there is no earlier one to compare it with",
        )
