"""The situations in which AWS tested its rules in 2019, when their repository was still open."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import rules
from rules import Collection, Step
from rules.base import Value

LOSSES = dict(zip(range(0, 20, 4), [0.3, 0.33, 0.31, 0.30, 0.28], strict=True))


def fires_at(
    name: str,
    saved: Mapping[int, Mapping[str, Value]],
    collections: Mapping[str, Collection] | None = None,
    **parameters: str,
) -> int | None:
    rule = rules.load(name, parameters)
    rule.learn(collections or {})
    fired = (rule.observe(Step(step), tensors) for step, tensors in saved.items())
    return next((verdict.step for verdict in fired if verdict), None)


@pytest.mark.parametrize(
    "selection", [{"tensor_regex": "loss, losses"}, {"collection_names": "default"}, {}], ids=str
)
def test_a_loss_that_is_the_same_after_twelve_steps_does_not_decrease(selection: dict[str, str]) -> None:
    saved = {step: {"loss_0": np.full(1, loss), "loss_1": np.full(1, loss)} for step, loss in LOSSES.items()}
    default = {"default": Collection(tensor_names=frozenset({"loss_0", "loss_1"}))}
    assert fires_at("LossNotDecreasing", saved, default, **selection, end_step="17") == 12
    assert fires_at("LossNotDecreasing", saved, default, **selection, start_step="13", end_step="17") is None


def test_a_tensor_is_unchanged_over_three_steps_also_if_only_the_last_is_judged() -> None:
    ones = np.ones((10, 3, 2))
    saved: dict[int, dict[str, Value]] = {step: {"foo_0": ones, "foo_1": ones} for step in range(3)}
    saved[5] = {"boo_0": ones}
    judged = {
        ("0", "2"): None,
        ("0", "3"): 2,
        ("2", "3"): 2,
        ("3", "6"): None,
    }
    for (start, end), step in judged.items():
        fired = fires_at("UnchangedTensor", saved, tensor_regex=".*", start_step=start, end_step=end)
        assert fired == step, (start, end)


def test_ten_labels_of_a_thousand_are_too_few_if_the_labels_are_their_own_predictions() -> None:
    labels = np.zeros(1000)
    labels[-10:] = 1
    same = {"labels_regex": "labels_0", "predictions_regex": "labels_0"}
    assert fires_at("ClassImbalance", {3: {"labels_0": labels}}, **same) == 3


def test_a_confusion_matrix_without_confusion_does_not_fire_and_one_wrong_row_does() -> None:
    ten = np.arange(10)
    wrong = ten.copy()
    wrong[4] = 7
    assert fires_at("Confusion", {1: {"labels": ten, "predictions": ten}}) is None
    collections = {
        "labels": Collection(tensor_names=frozenset({"y"})),
        "preds": Collection(tensor_names=frozenset({"y_hat"})),
    }
    own = {"labels_collection": "labels", "predictions_collection": "preds"}
    many = np.arange(100) % 10
    assert fires_at("Confusion", {0: {"y": many, "y_hat": many}}, collections, **own) is None
    named = {"category_no": "10", "labels": "foo", "predictions": "bar"}
    assert fires_at("Confusion", {1: {"foo": ten, "bar": wrong}}, **named) == 1
    off = {"min_diag": "0.0", "max_off_diag": "0.01"}
    assert fires_at("Confusion", {1: {"foo": ten, "bar": wrong}}, **named, **off) == 1
