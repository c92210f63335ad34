"""Reads a classifier's labels and predictions as class numbers, from the forms in which frameworks save them:

- Labels: whole numbers of any shape, one for each sample, or one-hot rows (each a single 1 among zeros).
- Predictions, if there are as many as labels: whole numbers are classes. Numbers from 0 to 1 that are not
  all whole are probabilities of class 1, as XGBoost's `binary:logistic` saves them: above 0.5 counts as 1,
  as in XGBoost's metric `error`.
- Predictions, if there are more: vectors along the last axis; the position of the largest element is the
  class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import Breach, Evidence, Value
from rules.values import numbers

MAX_CLASSES = 5_000
"""Labels with more classes are something else (a regression's targets, row numbers), and counting them would
make a rule's state large."""

_MAX_EXACT_INTEGER = 2**53
"""Above this, not every whole number can be a float."""


class NotClasses(ValueError):
    """A tensor does not hold class numbers. `reason` is one word; `because` completes "left out, because"."""

    def __init__(self, tensor: str, reason: str, because: str) -> None:
        super().__init__(f"{tensor}: {because}")
        self.tensor, self.reason, self.because = tensor, reason, because


class NotFinite(ValueError):
    """A tensor holds NaN or infinity; `value` is the first."""

    def __init__(self, tensor: str, value: float) -> None:
        super().__init__(f"{tensor} holds {value:g}")
        self.tensor, self.value = tensor, value

    def breach(self, step: int) -> Breach:
        return Breach("non_finite", f"{self} at step {step}", Evidence(self.tensor, step, self.value))


def labelled(tensor: str, labels: Value) -> NDArray[np.int64]:
    """The class of each sample, 1-d. Raises `NotClasses`, `NotFinite`."""
    array = _numbers(tensor, labels)
    _require_finite(tensor, array)
    one_hot = array.ndim == 2 and array.shape[1] > 1 and ((array == 1) | (array == 0)).all()
    if one_hot and (np.count_nonzero(array, axis=1) == 1).all():
        return np.asarray(array.argmax(axis=1), np.int64)
    classes = _whole(array.ravel())
    if classes is None:
        raise NotClasses(tensor, "no_classes", "their values are not whole numbers, so not classes")
    return classes


def predicted(tensor: str, predictions: Value, samples: int, *, vectors: bool) -> NDArray[np.int64]:
    """The predicted class of each of `samples` samples, 1-d. `vectors`: each may be a vector of scores.

    Raises `NotClasses`, `NotFinite`.
    """
    array = _numbers(tensor, predictions)
    if vectors and array.size > samples and array.ndim:
        if np.isnan(array).any():  # logits and logarithms of probabilities may be infinite
            raise NotFinite(tensor, np.nan)
        array = array.argmax(axis=-1)
    array = array.ravel()
    if array.size != samples:
        hint = "" if vectors else "; with argmax=True, vectors of probabilities are read"
        raise NotClasses(tensor, "unpaired", f"they do not hold one prediction for each label{hint}")
    _require_finite(tensor, array)
    classes = _whole(array)
    if classes is not None:
        return classes
    if array.min() >= 0 and array.max() <= 1:
        return (array > 0.5).astype(np.int64)
    raise NotClasses(tensor, "no_classes", "their values are neither classes nor probabilities")


def _numbers(tensor: str, value: Value) -> NDArray[Any]:
    array = numbers(value)
    if array is None:
        raise NotClasses(tensor, "no_numbers", "they hold no numbers")
    return array


def _require_finite(tensor: str, array: NDArray[Any]) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        raise NotFinite(tensor, float(array[~finite].flat[0]))


def _whole(array: NDArray[Any]) -> NDArray[np.int64] | None:
    if array.size and (
        max(float(array.max()), -float(array.min())) > _MAX_EXACT_INTEGER
        or (array.dtype.kind == "f" and (np.floor(array) != array).any())
    ):
        return None
    return array.astype(np.int64)
