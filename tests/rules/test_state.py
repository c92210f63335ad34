"""What a rule remembers follows from the tensors that it reads, and not from how long it has read them."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

import rules
from rules import Collection, Mode, Step
from rules.base import Value

NEEDED = {
    "AllZero": {"collection_names": "weights"},
    "SimilarAcrossRuns": {"other_trials": "before"},
    "TensorVariance": {"collection_names": "weights"},
    "UnchangedTensor": {"collection_names": "weights"},
    "ClassImbalance": {"labels_regex": "labels", "predictions_regex": "predictions"},
    "Confusion": {"labels": "labels", "predictions": "predictions", "min_diag": "0", "max_off_diag": "1"},
    "NLPSequenceRatio": {"tensor_regex": "embedding"},
    "CheckInputImages": {"threshold_mean": "9", "threshold_samples": "1000000"},
    "FeatureImportanceOverweight": {"threshold": "1"},
    "Overfit": {"ratio_threshold": "9"},
    "Overtraining": {"patience_train": "1000", "patience_validation": "1000"},
    "LossNotDecreasing": {"num_steps": "10", "diff_percent": "0.001"},
    "PoorWeightInitialization": {"threshold": "1e9"},
    "WeightUpdateRatio": {"large_threshold": "1e9", "small_threshold": "0"},
}
COLLECTIONS = {
    name: Collection(include_regex=(regex,))
    for name, regex in {
        "losses": "loss",
        "metrics": "loss",
        "weights": "dense_\\d/weight",
        "gradients": "gradient",
        "relu_activation": "relu",
        "activations": "relu|tanh|sigmoid",
        "feature_importance": "feature_importance",
        "tree_model": "trees",
        "all": ".*",
    }.items()
}


def saved(step: int, chance: np.random.Generator) -> Mapping[str, Value]:
    """What a job in order saves."""
    layers: dict[str, Value] = {}
    for layer in range(4):
        layers |= {
            f"dense_{layer}/weight": chance.normal(size=(4, 3)),
            f"gradient/dense_{layer}/weight": chance.normal(size=(4, 3)),
            f"relu_{layer}_output": np.abs(chance.normal(size=(8,))) + 0.1,
        }
    return layers | {
        "loss": np.array(100.0 - 0.1 * step),
        "labels": chance.integers(0, 5, size=100),
        "predictions": np.eye(5)[chance.integers(0, 5, size=100)],
        "input_image": chance.normal(size=(2, 3, 8, 8)),
        "embedding0_input_0": chance.integers(1, 9, size=(4, 10)),
        **{f"feature_importance/weight/f{number}": np.array(0.05) for number in range(20)},
    }


def remembered(name: str, steps: int) -> int:
    """Characters of JSON."""
    chance = np.random.default_rng(7)
    rule = rules.load(name, NEEDED.get(name, {}))
    rule.learn(COLLECTIONS)
    for number in range(steps):
        mode = Mode.EVAL if number % 4 == 3 else Mode.TRAIN
        wanted = {tensor: value for tensor, value in saved(number, chance).items() if rule.wants(tensor)}
        assert rule.observe(Step(number, mode, number), wanted) is None
    return len(json.dumps(rule.state()))


@pytest.mark.parametrize("name", rules.RULES)
def test_ten_times_as_many_steps_are_not_more_to_remember(name: str):
    few, many = remembered(name, 40), remembered(name, 400)

    # Numbers have a few digits more, or less.
    assert many <= few * 1.1 + 100
