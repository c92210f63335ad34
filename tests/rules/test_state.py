"""The size of a rule's state depends on the tensors it reads, not on how many steps it has read."""

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


def saved(step: int, rng: np.random.Generator) -> Mapping[str, Value]:
    """The tensors that a healthy job saves."""
    layers: dict[str, Value] = {}
    for layer in range(4):
        layers |= {
            f"dense_{layer}/weight": rng.normal(size=(4, 3)),
            f"gradient/dense_{layer}/weight": rng.normal(size=(4, 3)),
            f"relu_{layer}_output": np.abs(rng.normal(size=(8,))) + 0.1,
        }
    return layers | {
        "loss": np.array(100.0 - 0.1 * step),
        "labels": rng.integers(0, 5, size=100),
        "predictions": np.eye(5)[rng.integers(0, 5, size=100)],
        "input_image": rng.normal(size=(2, 3, 8, 8)),
        "embedding0_input_0": rng.integers(1, 9, size=(4, 10)),
        **{f"feature_importance/weight/f{number}": np.array(0.05) for number in range(20)},
    }


def state_size(name: str, steps: int) -> int:
    """Length of the state as JSON, in characters."""
    rng = np.random.default_rng(7)
    rule = rules.load(name, NEEDED.get(name, {}))
    rule.learn(COLLECTIONS)
    for number in range(steps):
        mode = Mode.EVAL if number % 4 == 3 else Mode.TRAIN
        wanted = {tensor: value for tensor, value in saved(number, rng).items() if rule.wants(tensor)}
        assert rule.observe(Step(number, mode, number), wanted) is None
    return len(json.dumps(rule.state()))


@pytest.mark.parametrize("name", rules.RULES)
def test_ten_times_as_many_steps_do_not_enlarge_the_state(name: str):
    few, many = state_size(name, 40), state_size(name, 400)

    # Numbers may have a few more or fewer digits.
    assert many <= few * 1.1 + 100
