"""Confusion: the confusion matrix of a classifier has too little on its diagonal, or too much off it.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- The matrix counts the pairs of one step, confusion[label][prediction], and starts again at each: XGBoost's
  hook saves the predictions for the whole validation set every time. `rules.classes` says how labels and
  predictions are read; vectors are probabilities of the classes, since there is no `argmax`.
- By AWS's formula for `min_diag`, confusion[i][i] / sum_j(confusion[j][j]), the shares of all classes sum
  to 1, so that nearly every model would fall below 0.9. Here the share is of the predictions of the class:
  confusion[i][i] / sum_j(confusion[j][i]), which matches AWS's formula for `max_off_diag`. Watcher's own
  parameter `formula = aws` uses AWS's. The explanation says which of the two was used.
- A class that occurs among the labels and is never predicted has a share of 0. One that occurs in neither
  is not judged; by AWS's formula it has a share of 0.
- `category_no` is the number of classes from 0 on, at most 5,000; without it, it is taken from the largest
  class at the step. A step with other or more classes is not judged, and the verdict says so.
- The tensor named `labels` is read, in `labels_collection` or not; if there is none, the only tensor of the
  collection is read. The same goes for predictions.
- NaN or infinity among them fires, for the reason `non_finite` (among vectors only NaN).
- The verdict names the five worst cells on the diagonal and the five worst off it.
- It has recovered when the worst cell, on the diagonal or off it, kept its bound at three judged steps in a
  row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import EVERY_STEP_CHECKS, Breach, Evidence, Rule, Step, Value, Verdict
from rules.classes import MAX_CLASSES, NotClasses, NotFinite, labelled, predicted
from rules.needs import ModelKind
from rules.parameters import TEXT, Kind, between, choice, parameter, parse
from rules.reductions import reduction
from rules.selection import Selection
from rules.worst import worst


def _category_no(text: str) -> int:
    number = int(text)
    if not 2 <= number <= MAX_CLASSES:
        raise ValueError
    return number


@dataclass(frozen=True, slots=True)
class Parameters:
    category_no: int | None = parameter(None, Kind(f"a whole number from 2 to {MAX_CLASSES}", _category_no))
    labels: str = parameter("labels", TEXT)
    predictions: str = parameter("predictions", TEXT)
    labels_collection: str = parameter("labels", TEXT)
    predictions_collection: str = parameter("predictions", TEXT)
    min_diag: float = parameter(0.9, between(0, 1))
    max_off_diag: float = parameter(0.1, between(0, 1))
    formula: str = parameter("PREDICTIONS", choice("PREDICTIONS", "AWS"))
    """What `min_diag` is a share of. Debugger does not have this parameter."""


_LEAST_ON_DIAGONAL = "the least share on the diagonal (min_diag)"
_MOST_OFF_DIAGONAL = "the largest share off the diagonal (max_off_diag)"


class Confusion(Rule):
    name = "Confusion"
    complaint = "The classes are confused"
    advice = "The model mixes up classes: look at the labels and at the classes it confuses."
    relief = "The classes are told apart again"
    judges_progress = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        wanted = self.parameters
        self._labels = _named(wanted.labels, wanted.labels_collection)
        self._predictions = _named(wanted.predictions, wanted.predictions_collection)
        self.selections = (self._labels, self._predictions)
        self._seen: set[str] = set()
        """Which of labels and predictions were saved."""

    @property
    def checks_to_recover(self) -> int:
        return EVERY_STEP_CHECKS

    def required_collections(self, kind: ModelKind | None) -> tuple[str, ...]:
        """A deep-learning job may save tensors with these names in any collection."""
        return super().required_collections(kind) if kind is ModelKind.TREES else ()

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        labels = self._choose("labels", self.parameters.labels, self._labels, tensors)
        predictions = self._choose("predictions", self.parameters.predictions, self._predictions, tensors)
        if labels is None or predictions is None:
            return None
        try:
            actual = labelled(labels, tensors[labels])
            guessed = predicted(predictions, tensors[predictions], len(actual), vectors=True)
            if not len(actual):
                return None
            categories = max(self._categories(labels, actual), self._categories(predictions, guessed))
        except NotFinite as error:
            return [error.breach(step.number)]
        except NotClasses as error:
            self._left_out.add(error.tensor, error.reason, error.because)
            return None
        matrix = _Matrix(actual, guessed, self.parameters.category_no or categories)
        diagonal = worst(self._on_diagonal(step.number, predictions, matrix))
        return diagonal + worst(self._off_diagonal(step.number, predictions, matrix))

    def _choose(self, role: str, name: str, selection: Selection, tensors: Mapping[str, Value]) -> str | None:
        found = [tensor for tensor in tensors if tensor in selection and not reduction(tensor)]
        self._read.update(found)
        if found:
            self._seen.add(role)
        if name in found:
            return name
        if len(found) == 1:
            return found[0]
        for tensor in found:
            because = f"their collection holds several tensors: say which with the parameter {role}"
            self._left_out.add(tensor, "ambiguous", because)
        return None

    def _categories(self, tensor: str, classes: NDArray[np.int64]) -> int:
        """The number of classes that there are at least. Raises `NotClasses` if they are too many."""
        if classes.min() < 0:
            raise NotClasses(tensor, "no_categories", "their classes do not count from 0")
        categories, category_no = int(classes.max()) + 1, self.parameters.category_no
        if category_no and categories > category_no:
            raise NotClasses(tensor, "category_no", f"they have more classes than category_no, {category_no}")
        if categories > MAX_CLASSES:
            raise NotClasses(tensor, "too_many_classes", f"they have more than {MAX_CLASSES} classes")
        return categories

    def _on_diagonal(self, step: int, predictions: str, matrix: _Matrix) -> Iterator[Breach]:
        wanted = self.parameters.min_diag
        if self.parameters.formula == "AWS":
            whole = np.full_like(matrix.right, matrix.right.sum())
            judged = whole >= 0  # all of them
            of = "the right predictions of all classes (AWS's formula)"
        else:
            whole = matrix.predicted
            judged = (matrix.labelled + matrix.predicted) > 0
            of = "all predictions of that class"
        shares = matrix.right / np.maximum(whole, 1)
        least = float(shares[judged].min())
        self._measured(_LEAST_ON_DIAGONAL, step, least, well=least >= wanted)
        for category in np.flatnonzero(judged & (shares < wanted)):
            share = float(shares[category])
            explanation = (
                f"step {step}: the {matrix.right[category]} right predictions of class {category} are "
                f"{share:.4g} of {of}, {whole[category]}; the rule wants at least {wanted:g} (min_diag)"
            )
            evidence = Evidence(predictions, step, share, threshold=wanted, missed_by=wanted - share)
            yield Breach("diagonal", explanation, evidence)

    def _off_diagonal(self, step: int, predictions: str, matrix: _Matrix) -> Iterator[Breach]:
        allowed = self.parameters.max_off_diag
        shares = matrix.wrong / matrix.predicted[matrix.wrong_prediction]
        most = float(shares.max(initial=0.0))
        self._measured(_MOST_OFF_DIAGONAL, step, most, well=most <= allowed)
        for cell in np.flatnonzero(shares > allowed):
            share, category = float(shares[cell]), matrix.wrong_prediction[cell]
            explanation = (
                f"step {step}: {share:.4g} of the {matrix.predicted[category]} predictions of class "
                f"{category} are labelled {matrix.wrong_label[cell]}; "
                f"the rule allows at most {allowed:g} (max_off_diag)"
            )
            evidence = Evidence(predictions, step, share, threshold=allowed, missed_by=share - allowed)
            yield Breach("off_diagonal", explanation, evidence)

    def _found(self, verdict: Verdict) -> Iterator[tuple[str, int | None, float]]:
        worst_cell = verdict.evidence[0]
        off = verdict.reason == "off_diagonal"
        yield _MOST_OFF_DIAGONAL if off else _LEAST_ON_DIAGONAL, worst_cell.step, worst_cell.value

    def _state(self) -> dict[str, Any]:
        return {"seen": sorted(self._seen)}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._seen = set(state["seen"])

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        yield from super()._unjudged()
        yield self._seen == {"labels"}, "no_predictions", "labels were saved, but no predictions"
        yield self._seen == {"predictions"}, "no_labels", "predictions were saved, but no labels"
        yield (
            bool(self._seen),
            "not_together",
            "labels and predictions were never saved at the same step, or were empty",
        )


class _Matrix:
    """confusion[label][prediction] at one step: its sums, and its non-zero cells off the diagonal."""

    def __init__(self, labels: NDArray[np.int64], predictions: NDArray[np.int64], categories: int) -> None:
        right = labels == predictions
        self.labelled = np.bincount(labels, minlength=categories)
        self.predicted = np.bincount(predictions, minlength=categories)
        self.right = np.bincount(labels[right], minlength=categories)
        cells, self.wrong = np.unique(labels[~right] * categories + predictions[~right], return_counts=True)
        self.wrong_label, self.wrong_prediction = np.divmod(cells, categories)


def _named(tensor: str, collection: str) -> Selection:
    return Selection((collection,), (f"^{re.escape(tensor)}$",))
