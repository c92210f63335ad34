"""Overfit: the validation loss is much higher than the training loss.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- Means run over all values since `start_step` (a global step; every rule has it), for training and
  validation apart. With
  ratio = (mean of validation - mean of training) / |mean of training|, an evaluation is a step that saves a
  validation value. `patience` evaluations in a row with a ratio above `ratio_threshold` fire.
- Training and validation are the modes TRAIN and EVAL of one tensor, or of two whose names differ only in
  the word for the data (`loss` and `val_loss`). In XGBoost, which has no modes, `train-<metric>` goes with
  `validation-<metric>`, and with `eval-`, `test-`, `valid-` or `validation_0-<metric>`.
- Without `tensor_regex`, the collection `losses` is read. Metrics that should rise, text, reductions and
  tensors with several elements are left out, and the verdict says so.
- When several losses fire at one step, the first by name gives the reason, all go into the evidence.
- NaN and infinity would make every later mean useless. Such a value is left out and makes no evaluation,
  and the verdict says which tensors had one. LossNotDecreasing and ExplodingTensor look for NaN.
- It has recovered after `patience` evaluations in a row with a ratio that is not above `ratio_threshold`. The
  means then run over the values since it fired: in those since the start, an improvement would hardly show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules.base import Breach, Evidence, Rule, Step, Value, Verdict
from rules.losses import Losses, Split, training_counterpart
from rules.needs import RisingMetrics, SavedSteps, StepsNeeded
from rules.parameters import REGEXES, number, parameter, parse, whole
from rules.selection import Selection

_TINY = 1e-12
"""Avoids a division by a mean of zero."""


@dataclass(frozen=True, slots=True)
class Parameters:
    tensor_regex: tuple[str, ...] = parameter((), REGEXES)
    start_step: int = parameter(0, whole(at_least=0))
    """Every rule has it; AWS documents it for this one."""
    patience: int = parameter(1, whole(at_least=1))
    ratio_threshold: float = parameter(0.1, number(at_least=0))


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float:
        return self.total / self.count


@dataclass(slots=True)
class _Validation(_Mean):
    above: int = 0
    """The number of evaluations in a row with a ratio above the threshold."""


class Overfit(Rule):
    name = "Overfit"
    complaint = "Model is overfitting"
    advice = "The model learns the training data by heart: regularise, add data, or train for fewer steps."
    relief = "The validation loss is near the training loss again"
    judges_metrics = True
    rising_metrics = RisingMetrics("takes a better validation value for a worse one")

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        regexes = self.parameters.tensor_regex
        selection = Selection(() if regexes else ("losses",), regexes)
        self.selections = (selection,)
        self._losses = Losses(selection, self._left_out)
        self._training: dict[str, _Mean] = {}
        self._validation: dict[str, _Validation] = {}
        self._non_finite: set[str] = set()

    @property
    def checks_to_recover(self) -> int:
        return self.parameters.patience

    def steps_needed(self) -> StepsNeeded:
        return SavedSteps("patience", self.parameters.patience)

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        evaluated = set()
        for tensor, split, value in self._losses.of(step, tensors):
            self._read.add(tensor)
            if not math.isfinite(value):
                self._non_finite.add(tensor)
                continue
            if split is Split.TRAIN:
                self._training.setdefault(tensor, _Mean()).add(value)
            else:
                self._validation.setdefault(tensor, _Validation()).add(value)
                evaluated.add(tensor)
        breaches = [
            self._evaluate(step.number, tensor, training.value)
            for tensor in sorted(evaluated)
            if (training := training_counterpart(tensor, self._training))
        ]
        return [breach for breach in breaches if breach] if breaches else None

    def _evaluate(self, step: int, tensor: str, train: float) -> Breach | None:
        track, allowed = self._validation[tensor], self.parameters.ratio_threshold
        validation = track.value
        ratio = (validation - train) / max(abs(train), _TINY)
        track.above = track.above + 1 if ratio > allowed else 0
        self._measured(_ratio(tensor), step, ratio, well=ratio <= allowed)
        if track.above < self.parameters.patience:
            return None
        times = f", {track.above} evaluations in a row" if track.above > 1 else ""
        explanation = (
            f"up to step {step}, the mean validation loss {tensor} is {validation:.6g} and that of training "
            f"is {train:.6g}: a ratio of {ratio:.3g}{times}; the rule allows {allowed:g}"
        )
        evidence = Evidence(tensor, step, validation, threshold=allowed, missed_by=ratio - allowed)
        return Breach("overfit", explanation, evidence)

    def _found(self, verdict: Verdict) -> Iterator[tuple[str, int | None, float]]:
        for evidence in verdict.evidence:
            ratio = (evidence.threshold or 0.0) + (evidence.missed_by or 0.0)
            yield _ratio(evidence.tensor), evidence.step, ratio

    def _state(self) -> dict[str, Any]:
        return {
            "training": {tensor: [mean.total, mean.count] for tensor, mean in self._training.items()},
            "validation": {
                tensor: [mean.total, mean.count, mean.above] for tensor, mean in self._validation.items()
            },
            "non_finite": sorted(self._non_finite),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._training = {tensor: _Mean(*mean) for tensor, mean in state["training"].items()}
        self._validation = {tensor: _Validation(*mean) for tensor, mean in state["validation"].items()}
        self._non_finite = set(state["non_finite"])

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        if not self._read:
            yield from super()._unjudged()
            return
        yield bool(self._non_finite), "non_finite", "the saved losses are NaN or infinite"
        yield True, "no_pair", "no loss has values of both training and validation"

    def _notes(self) -> tuple[str, ...]:
        notes = super()._notes()
        if self._non_finite:
            names = ", ".join(sorted(self._non_finite))
            notes += (f"left out of the means, where NaN or infinite: {names}",)
        return notes


def _ratio(tensor: str) -> str:
    return f"the ratio of {tensor}"
