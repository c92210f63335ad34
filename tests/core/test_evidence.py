"""What an alert shows of the tensors that decided."""

from __future__ import annotations

import numpy as np

import rules
from tests.jobs import FIRED, NOON, a_job, an_outcome
from watcher.aws.event_files import SavedStep
from watcher.detect import detect
from watcher.evidence import _decided, _replay


def test_the_curve_of_a_large_tensor_is_the_mean_of_its_absolute_values_and_says_so():
    rule = rules.load("VanishingGradient", {"threshold": "0.001"})
    rule.learn({"gradients": rules.Collection(tensor_names=frozenset({"gradient/w"}))})
    sizes = (0.5, 0.1, 0.0001)
    steps = [
        SavedStep(
            step=10 * number,
            mode="TRAIN",
            mode_step=10 * number,
            worker="worker_0",
            tensors={"gradient/w": np.array([size, -size])},
            names=("gradient/w",),
        )
        for number, size in enumerate(sizes)
    ]
    [finding] = detect(
        None,
        a_job(outcomes=(an_outcome("IssuesFound", details=FIRED.replace("140", "20")),)),
        now=NOON,
        stopped_by_us=False,
    )

    verdict, last = _replay(rule, steps)
    assert verdict
    values = _decided(finding, verdict, last).values

    assert [(reading.step, reading.value) for reading in values["curve"]] == [
        (0, 0.5),
        (10, 0.1),
        (20, 0.0001),
    ]
    assert "mean of their absolute values" in values["curve_from"]
    assert values["deciding"][0].value == values["curve"][-1].value
