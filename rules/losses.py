"""Which of the saved scalars are losses, and whether they are of training or of validation.

Where the framework has modes, TRAIN and EVAL say it. XGBoost saves everything in mode GLOBAL and says it
in the name: `train-<metric>` and `validation-<metric>`, after the channels of SageMaker's container.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from rules.base import Mode, Step, Value, scalar
from rules.left_out import LeftOut
from rules.reductions import reduction
from rules.selection import Selection

_RISING = re.compile(
    r"(?:^|[-/_:])(?:auc|aucpr|map|ndcg|pre|accuracy|acc|f1|f1_binary|f1_macro|precision|recall|r2)"
    r"(?:@[\d.]+)?-?$",
    re.IGNORECASE,
)
"""How the names of XGBoost's and SageMaker's rising metrics end (`validation-ndcg@5-`, `train-auc`)."""

_TRAIN, _VALIDATION = "train-", "validation-"


def rises(tensor: str) -> bool:
    """Whether it is a metric that ought to rise, and so no loss. XGBoost's `losses` collection has some."""
    return _RISING.search(tensor) is not None


class Split(StrEnum):
    """The data on which a loss was computed."""

    TRAIN = "training"
    VALIDATION = "validation"


class Loss(NamedTuple):
    tensor: str
    split: Split
    pair: str
    """The same for the training and the validation values of one loss: the name of the validation one."""
    value: float


class Losses:
    """Reads them, and says what it had to leave out, for a rule that compares training and validation."""

    def __init__(self, selection: Selection, left_out: LeftOut) -> None:
        self._selection = selection
        self._splits: dict[tuple[str, Mode], tuple[Split, str] | None] = {}
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
                self._left_out.add(tensor, "no_scalar", "they are no single numbers")
            else:
                yield Loss(tensor, *split, loss)

    def _split(self, tensor: str, mode: Mode) -> tuple[Split, str] | None:
        if reduction(tensor):
            self._left_out.add(tensor, "only_reductions", "they are reductions")
        elif rises(tensor):
            self._left_out.add(tensor, "only_rising_metrics", "they should rise")
        elif mode is Mode.TRAIN:
            return Split.TRAIN, tensor
        elif mode is Mode.EVAL:
            return Split.VALIDATION, tensor
        elif mode is Mode.GLOBAL and tensor.startswith(_TRAIN):
            return Split.TRAIN, _VALIDATION + tensor.removeprefix(_TRAIN)
        elif mode is Mode.GLOBAL and tensor.startswith(_VALIDATION):
            return Split.VALIDATION, tensor
        elif mode is Mode.GLOBAL:
            because = "neither a mode nor the name says whether they are of training or of validation"
            self._left_out.add(tensor, "no_modes", because)
        return None
