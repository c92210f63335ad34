"""What an alert shows of the deciding tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rules
from tests.alerts import FINDING
from watcher.alerts.evidence import _continued, _decided, _replay
from watcher.debug_output.event_files import SavedStep
from watcher.model import AlertEvidence, Reading


def a_step(step: int, mode: str, tensor: str, value: NDArray[Any]) -> SavedStep:
    return SavedStep(
        step=step, mode=mode, mode_step=step, worker="worker_0", tensors={tensor: value}, names=(tensor,)
    )


def test_the_curve_of_a_large_tensor_is_the_mean_of_its_absolute_values_and_says_so():
    rule = rules.load("VanishingGradient", {"threshold": "0.001"})
    rule.learn({"gradients": rules.Collection(tensor_names=frozenset({"gradient/w"}))})
    sizes = (0.5, 0.1, 0.0001)
    steps = [
        a_step(10 * number, "TRAIN", "gradient/w", np.array([size, -size]))
        for number, size in enumerate(sizes)
    ]
    verdict, last = _replay(rule, steps)
    assert verdict
    values = _decided(replace(FINDING, step=20), verdict, last).values

    assert [(reading.step, reading.value) for reading in values["curve"]] == [
        (0, 0.5),
        (10, 0.1),
        (20, 0.0001),
    ]
    assert "mean of their absolute values" in values["curve_from"]
    assert values["deciding"][0].value == values["curve"][-1].value


def test_a_tensor_saved_in_training_and_in_validation_is_two_curves():
    rule = rules.load("Overfit", {"patience": "1", "ratio_threshold": "0.1"})
    rule.learn({"losses": rules.Collection(tensor_names=frozenset({"loss"}))})
    losses = [(0, "TRAIN", 0.5), (1, "EVAL", 0.5), (2, "TRAIN", 0.3), (3, "EVAL", 0.6)]
    steps = [a_step(step, mode, "loss", np.array([loss])) for step, mode, loss in losses]

    verdict, last = _replay(rule, steps)
    assert verdict

    assert [(reading.tensor, reading.step) for reading in last.curve({"loss"})] == [
        ("loss TRAIN", 0),
        ("loss EVAL", 1),
        ("loss TRAIN", 2),
        ("loss EVAL", 3),
    ]


def test_values_too_large_to_be_added_are_a_curve_that_ends_in_infinity():
    rule = rules.load("ExplodingTensor", {"tensor_regex": "w", "only_nan": "False"})
    steps = [
        a_step(step, "TRAIN", "w", np.array([value, value]))
        for step, value in enumerate((1.0, 1e308, np.inf))
    ]

    verdict, last = _replay(rule, steps)
    assert verdict

    assert [reading.value for reading in last.curve({"w"})] == [1.0, np.inf, np.inf]


def test_the_curve_of_what_recovered_continues_with_the_newest_values_of_the_same_tensors():
    evidence = AlertEvidence(curve=(Reading("loss", 10, 0.9), Reading("loss", 20, 0.8)))
    since = (Reading("loss", 20, 0.8), Reading("loss", 30, 0.2), Reading("accuracy", 30, 0.7))

    assert _continued(evidence, since).curve == (*evidence.curve, Reading("loss", 30, 0.2))
    assert _continued(AlertEvidence(), since) == AlertEvidence()
