"""Which of the saved scalars are losses, and whether they are of training or of validation.

In frameworks with modes, the mode is TRAIN or EVAL. XGBoost saves everything in mode GLOBAL, and the name
says it: `train-<metric>` after the channel of SageMaker's container, and for validation `validation-<metric>`
or what a script calls its data (`eval-`, `test-`, `valid-`; scikit-learn's interface says `validation_0-`).

Training and validation values of one loss have the same name, or names that differ only in the word for the
data at their beginning: `train:error` and `validation:error`, `loss` and `val_loss`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple, TypeVar

from rules.base import Mode, Step, Value, scalar
from rules.directions import rises
from rules.left_out import LeftOut
from rules.reductions import reduction
from rules.selection import Selection

_DATA = re.compile(
    r"(?:(?P<training>train(?:ing)?)|val(?:id(?:ation)?)?|eval(?:uation)?|test)(?:_\d+(?=-))?[-_:./ ]",
    re.IGNORECASE,
)
"""The beginning of a name that says on which data a metric was computed (`train:error`, `valid_mae`)."""

T = TypeVar("T")


class Split(StrEnum):
    """The data on which a loss was computed."""

    TRAIN = "training"
    VALIDATION = "validation"


def split_in(name: str) -> tuple[Split | None, str]:
    """The data that the name begins with, and the rest of it; None and the whole name if there is none."""
    data = _DATA.match(name)
    if data is None or data.end() == len(name):
        return None, name
    return Split.TRAIN if data["training"] else Split.VALIDATION, name[data.end() :]


def training_counterpart(validation: str, training: Mapping[str, T]) -> T | None:
    """The training values for the loss with this validation name: those with the same name or, if there are
    none, those whose name differs only in the word for the data."""
    if validation in training:
        return training[validation]
    _, loss = split_in(validation)
    return next((training[name] for name in sorted(training) if split_in(name)[1] == loss), None)


class Loss(NamedTuple):
    tensor: str
    split: Split
    value: float


class Losses:
    """Reads the losses for a rule that compares training and validation; leaves out what is not a loss."""

    def __init__(self, selection: Selection, left_out: LeftOut) -> None:
        self._selection = selection
        self._splits: dict[tuple[str, Mode], Split | None] = {}
        self._left_out = left_out

    def of(self, step: Step, tensors: Mapping[str, Value]) -> Iterator[Loss]:
        for tensor, value in self._selection.of(tensors):
            key = tensor, step.mode
            if key not in self._splits:
                self._splits[key] = self._split(*key)
            split = self._splits[key]
            if split is None:
                continue
            loss = scalar(value)
            if loss is None:
                self._left_out.add(tensor, "no_scalar", "they are not single numbers")
            else:
                yield Loss(tensor, split, loss)

    def _split(self, tensor: str, mode: Mode) -> Split | None:
        if reduction(tensor):
            self._left_out.add(tensor, "only_reductions", "they are reductions")
        elif rises(tensor):
            self._left_out.add(tensor, "only_rising_metrics", "they should rise")
        elif mode is Mode.TRAIN:
            return Split.TRAIN
        elif mode is Mode.EVAL:
            return Split.VALIDATION
        elif mode is Mode.GLOBAL:
            split, _ = split_in(tensor)
            if split is None:
                because = "neither a mode nor the name says whether they are of training or of validation"
                self._left_out.add(tensor, "no_modes", because)
            return split
        return None
