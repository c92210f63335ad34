"""ClassImbalance: some classes occur much more often than others, or a class is mostly mispredicted.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- Labels are counted per class over all saved steps of any mode. Once `samples` of them were counted, every
  step with labels is judged, and counting continues. XGBoost saves the same validation labels at each step,
  so `samples` counts them several times.
- The rule fires when the largest class occurs more than `threshold_imbalance` times as often as the
  smallest. A class that never occurs among the labels is not counted.
- It also fires when more than `threshold_misprediction` of a class's labels, of those seen so far, were
  predicted wrongly. `rules.classes` says how labels and predictions are read; with `argmax`, predictions
  may be vectors.
- Labels and predictions are paired at the step at which both are saved. If the regexes find several of
  them, they are paired in the order of their names, and each pair is judged by itself. If they do not pair
  up, only the labels are judged, and the verdict says so.
- NaN or infinity among labels or predictions fires at once, for the reason `non_finite`. In vectors only
  NaN does: logarithms of probabilities may be infinite.
- A tensor that both regexes find is labels and its own predictions.
- Reductions, and labels that are not whole numbers or have more than 5,000 classes, are left out, and the
  verdict says so.
- It has recovered when, of at least `samples` labels saved after it fired, no class is mostly mispredicted.
  An imbalance is true of the input, and does not recover.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import Breach, Evidence, Rule, Step, Value, Verdict
from rules.classes import MAX_CLASSES, NotClasses, NotFinite, labelled, predicted
from rules.needs import FixedOutcome, Forest, ModelKind
from rules.parameters import FLAG, REGEX, between, number, parameter, parse, whole
from rules.reductions import reduction
from rules.selection import Selection
from rules.worst import worst


@dataclass(frozen=True, slots=True)
class Parameters:
    threshold_imbalance: float = parameter(10.0, number(above=0))
    threshold_misprediction: float = parameter(0.7, between(0, 1))
    samples: int = parameter(500, whole(at_least=1))
    argmax: bool = parameter(False, FLAG)
    labels_regex: str = parameter(".*labels", REGEX)
    predictions_regex: str = parameter(".*predictions", REGEX)


@dataclass(slots=True)
class _Tally:
    """The counts of one tensor of labels. The arrays have one row for each class."""

    classes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Ascending."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))
    """For each class: labels, labels that came with a prediction, wrong predictions."""

    def add(self, labels: NDArray[np.int64], predictions: NDArray[np.int64] | None) -> None:
        present, which = np.unique(labels, return_inverse=True)
        known = np.union1d(self.classes, present)
        counts = np.zeros((len(known), 3), np.int64)
        counts[np.searchsorted(known, self.classes)] = self.counts
        here = np.searchsorted(known, present)
        seen = np.bincount(which, minlength=len(present))
        counts[here, 0] += seen
        if predictions is not None:
            counts[here, 1] += seen
            counts[here, 2] += np.bincount(which[labels != predictions], minlength=len(present))
        self.classes, self.counts = known, counts

    @property
    def samples(self) -> int:
        return int(self.counts[:, 0].sum())

    @property
    def paired(self) -> bool:
        return bool(self.counts[:, 1].any())


class ClassImbalance(Rule):
    name = "ClassImbalance"
    complaint = "The classes are imbalanced"
    advice = "Balance the classes: resample, or weight the loss."
    relief = "No class is mostly mispredicted any more"
    judges_progress = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        self._labels = Selection(regexes=(self.parameters.labels_regex,))
        self._predictions = Selection(regexes=(self.parameters.predictions_regex,))
        self.selections = (self._labels, self._predictions)
        self._tallies: dict[str, _Tally] = {}

    @property
    def checks_to_recover(self) -> int:
        """A check spans `samples` labels."""
        return 1

    def required_collections(self, kind: ModelKind | None) -> tuple[str, ...]:
        default = Parameters()
        by_default = (
            self.parameters.labels_regex == default.labels_regex
            and self.parameters.predictions_regex == default.predictions_regex
        )
        return ("labels", "predictions") if kind is ModelKind.TREES and by_default else ()

    def fixed_outcomes(self, forest: Forest | None) -> Iterator[FixedOutcome]:  # noqa: ARG002
        if (ratio := self.parameters.threshold_imbalance) < 1:
            because = "the largest class is never smaller than the smallest"
            sentence = f"threshold_imbalance is {ratio:g}: {because}"
            yield FixedOutcome(True, sentence, "set a ratio above 1")

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        breaches: list[Breach] = []
        judged = False
        for labels, predictions in self._pairs(tensors):
            try:
                tally = self._count(labels, predictions, tensors)
            except NotFinite as error:
                breaches.append(error.breach(step.number))
                judged = True
                continue
            except NotClasses as error:
                self._left_out.add(error.tensor, error.reason, error.because)
                self._tallies.pop(labels, None)
                continue
            if tally.samples >= self.parameters.samples:
                judged = True
                breaches += self._imbalance(step.number, labels, tally)
                breaches += worst(self._mispredictions(step.number, labels, predictions, tally))
        return breaches if judged else None

    def _pairs(self, tensors: Mapping[str, Value]) -> Iterator[tuple[str, str | None]]:
        """The tensors that may be labels, each with its predictions."""
        labels, predictions = self._find(self._labels, tensors), self._find(self._predictions, tensors)
        self._read.update(labels, predictions)
        both = set(labels).intersection(predictions)
        pairs: list[tuple[str, str | None]] = [(tensor, tensor) for tensor in sorted(both)]
        labels = [tensor for tensor in labels if tensor not in both]
        predictions = [tensor for tensor in predictions if tensor not in both]
        if len(labels) == len(predictions):
            pairs += zip(labels, predictions, strict=True)
        else:
            pairs += [(tensor, None) for tensor in labels]
            for tensor in predictions if labels else ():
                self._left_out.add(tensor, "unpaired", "not as many labels were saved at the same step")
        return (pair for pair in pairs if pair[0] not in self._left_out)

    def _find(self, selection: Selection, tensors: Mapping[str, Value]) -> list[str]:
        found = []
        for tensor in sorted(tensor for tensor in tensors if tensor in selection):
            reduced = reduction(tensor)
            if reduced is None:
                found.append(tensor)
            elif reduced.tensor not in tensors:
                self._left_out.add(tensor, "only_reductions", "they are reductions, not whole tensors")
        return found

    def _count(self, labels: str, predictions: str | None, tensors: Mapping[str, Value]) -> _Tally:
        """Raises `NotClasses` if the labels are not classes, and `NotFinite`."""
        actual = labelled(labels, tensors[labels])
        guessed = None
        if predictions is not None:
            try:
                argmax = self.parameters.argmax
                guessed = predicted(predictions, tensors[predictions], len(actual), vectors=argmax)
            except NotClasses as error:
                self._left_out.add(error.tensor, error.reason, error.because)
        tally = self._tallies.setdefault(labels, _Tally())
        tally.add(actual, guessed)
        if len(tally.classes) > MAX_CLASSES:
            raise NotClasses(labels, "too_many_classes", f"they have more than {MAX_CLASSES} classes")
        return tally

    def _imbalance(self, step: int, labels: str, tally: _Tally) -> Iterator[Breach]:
        allowed, occurrences = self.parameters.threshold_imbalance, tally.counts[:, 0]
        most, least = int(occurrences.argmax()), int(occurrences.argmin())
        ratio = float(occurrences[most] / occurrences[least])
        if ratio > allowed:
            explanation = (
                f"{labels}: up to step {step}, class {tally.classes[most]} occurs {occurrences[most]} times, "
                f"class {tally.classes[least]} {occurrences[least]} times, which is {ratio:.4g} to 1; "
                f"the rule allows {allowed:g} to 1"
            )
            evidence = Evidence(labels, step, ratio, threshold=allowed, missed_by=ratio - allowed)
            yield Breach("imbalance", explanation, evidence)

    def _mispredictions(
        self, step: int, labels: str, predictions: str | None, tally: _Tally
    ) -> Iterator[Breach]:
        allowed = self.parameters.threshold_misprediction
        paired = tally.counts[:, 1]
        shares = tally.counts[:, 2] / np.maximum(paired, 1)
        if predictions is not None and tally.paired:
            most = float(shares.max())
            self._measured(_mispredicted(predictions), step, most, well=most <= allowed)
        for index in np.flatnonzero(shares > allowed):
            share = float(shares[index])
            explanation = (
                f"{labels}: up to step {step}, {share:.4g} of the {paired[index]} labels of class "
                f"{tally.classes[index]} were mispredicted; the rule allows {allowed:g}"
            )
            evidence = Evidence(
                predictions or labels, step, share, threshold=allowed, missed_by=share - allowed
            )
            yield Breach("misprediction", explanation, evidence)

    def _found(self, verdict: Verdict) -> Iterator[tuple[str, int | None, float]]:
        if verdict.reason == "misprediction":  # of several reasons, it is the last to be named
            worst_share: dict[str, Evidence] = {}
            for evidence in verdict.evidence:
                if evidence.tensor in self._predictions:
                    worst_share.setdefault(evidence.tensor, evidence)
            for tensor, evidence in worst_share.items():
                yield _mispredicted(tensor), evidence.step, evidence.value

    def _state(self) -> dict[str, Any]:
        return {
            "tallies": {
                labels: {"classes": tally.classes.tolist(), "counts": tally.counts.tolist()}
                for labels, tally in self._tallies.items()
            },
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._tallies = {
            labels: _Tally(
                np.array(tally["classes"], np.int64), np.array(tally["counts"], np.int64).reshape(-1, 3)
            )
            for labels, tally in state["tallies"].items()
        }

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        wanted = self.parameters.samples
        seen = max((tally.samples for tally in self._tallies.values()), default=0)
        yield (
            bool(self._tallies),
            "too_few_samples",
            f"{seen} labels were saved, the rule wants {wanted} first",
        )
        yield from super()._unjudged()
        yield bool(self._read), "no_labels", "predictions were saved, but no labels"

    def _notes(self) -> tuple[str, ...]:
        notes = list(super()._notes())
        for labels, tally in sorted(self._tallies.items()):
            if len(tally.classes) == 1:
                notes.append(f"only one class was seen among {labels}: {tally.classes[0]}")
            if tally.samples and not tally.paired:
                notes.append(f"mispredictions were not judged: no predictions go with {labels}")
        return tuple(notes)


def _mispredicted(predictions: str) -> str:
    return f"the largest share of a class in {predictions}"
