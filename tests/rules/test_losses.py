"""The name of a metric says on which data it was computed."""

from __future__ import annotations

import pytest

from rules.losses import Split, split_in, training_counterpart

TRAIN, VALIDATION = Split.TRAIN, Split.VALIDATION


@pytest.mark.parametrize(
    ("name", "split", "loss"),
    [
        ("train:error", TRAIN, "error"),
        ("training_loss", TRAIN, "loss"),
        ("train-logloss", TRAIN, "logloss"),
        ("validation:error", VALIDATION, "error"),
        ("valid_mae", VALIDATION, "mae"),
        ("val_loss", VALIDATION, "loss"),
        ("eval/loss", VALIDATION, "loss"),
        ("Test:RMSE", VALIDATION, "RMSE"),
        ("validation_0-rmse", VALIDATION, "rmse"),
        ("eval_12-rmse", VALIDATION, "rmse"),
        ("loss", None, "loss"),
        ("trainable", None, "trainable"),
        ("value", None, "value"),
        ("evaluation", None, "evaluation"),
        ("test:", None, "test:"),
    ],
)
def test_a_metric_name_may_start_with_the_name_of_its_data(name: str, split: Split | None, loss: str) -> None:
    assert split_in(name) == (split, loss)


@pytest.mark.parametrize(
    ("validation", "training", "found"),
    [
        ("validation:error", {"train:error": 1, "train:loss": 2}, 1),
        ("val_loss", {"accuracy": 1, "loss": 2}, 2),
        ("loss", {"loss": 1, "train_loss": 2}, 1),
        ("validation:error", {"train:loss": 2}, None),
        ("validation:error", {}, None),
    ],
)
def test_a_validation_loss_is_matched_with_the_training_loss_of_its_name(
    validation: str, training: dict[str, int], found: int | None
) -> None:
    assert training_counterpart(validation, training) == found
