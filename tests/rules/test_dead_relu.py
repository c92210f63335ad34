"""DeadRelu as documented."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rules import Collection, Mode, ParameterError, Status, Step, Verdict
from rules.base import Evidence, Value
from rules.dead_relu import DeadRelu
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

RELU = "relu_output_0"


def judge(*steps: dict[str, Value], **parameters: str) -> Verdict:
    return run(DeadRelu(parameters), [(Step(number * 500), tensors) for number, tensors in enumerate(steps)])


def layer(samples: int, units: int, dead: int, active_in: int = 0) -> NDArray[np.float32]:
    """Outputs of a layer whose first `dead` units are active only in the first `active_in` samples."""
    outputs = np.ones((samples, units), np.float32)
    outputs[active_in:, :dead] = 0
    return outputs


def test_awss_example_fires_on_a_layer_that_is_more_than_half_dead() -> None:
    example = {
        "tensor_regex": ".*relu_output|.*ReLU_output",
        "threshold_inactivity": "1.0",
        "threshold_layer": "50.0",
    }
    name = "features.ReLU_output_0"
    verdict = judge({name: layer(64, 100, dead=10)}, {name: layer(64, 100, dead=60)}, **example)
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "dead", 500)
    assert verdict.explanation == (
        f"60 % of {name} is dead at step 500: 60 of 100 units are active in less than 1 % of a batch of 64; "
        "the rule allows 50 %"
    )
    assert verdict.evidence == (Evidence(name, 500, 60.0, threshold=50.0, missed_by=10.0),)


def test_exactly_half_of_a_layer_passes_and_one_more_unit_fires() -> None:
    assert judge({RELU: layer(8, 1000, dead=500)}).status is Status.NO_ISSUES_FOUND
    assert judge({RELU: layer(8, 1000, dead=501)}).status is Status.ISSUES_FOUND


def test_a_unit_active_in_exactly_one_percent_of_the_samples_is_alive() -> None:
    assert judge({RELU: layer(200, 4, dead=4, active_in=2)}).status is Status.NO_ISSUES_FOUND
    assert judge({RELU: layer(200, 4, dead=4, active_in=1)}).evidence[0].value == 100


def test_threshold_inactivity_says_how_active_a_unit_has_to_be() -> None:
    half_active = {RELU: layer(10, 4, dead=4, active_in=5)}
    assert judge(half_active, threshold_inactivity="50").status is Status.NO_ISSUES_FOUND
    assert judge(half_active, threshold_inactivity="50.1").status is Status.ISSUES_FOUND
    assert judge({RELU: layer(10, 4, dead=4)}, threshold_inactivity="0").status is Status.NO_ISSUES_FOUND


def test_threshold_layer_says_how_much_of_a_layer_may_be_dead() -> None:
    assert judge({RELU: layer(10, 4, dead=1)}, threshold_layer="25").status is Status.NO_ISSUES_FOUND
    assert judge({RELU: layer(10, 4, dead=1)}, threshold_layer="24.9").status is Status.ISSUES_FOUND
    assert judge({RELU: layer(10, 4, dead=4)}, threshold_layer="100").status is Status.NO_ISSUES_FOUND


def test_outputs_not_above_zero_are_inactive() -> None:
    assert judge({RELU: np.array([[-1.0, 0.0, -0.0]])}).evidence[0].value == 100
    assert judge({RELU: np.array([[1e-30, math.inf]])}).status is Status.NO_ISSUES_FOUND


def test_each_position_in_each_channel_of_an_image_is_a_unit() -> None:
    outputs = np.zeros((16, 3, 4, 5))
    outputs[0, :, :2] = 1  # half of each channel is active, in one of sixteen samples
    assert judge({RELU: outputs}).status is Status.NO_ISSUES_FOUND
    outputs[0, 0, 0, 0] = 0
    assert "31 of 60 units" in judge({RELU: outputs}).explanation


def test_a_tensor_with_one_axis_is_a_single_sample() -> None:
    assert "2 of 3 units are active in less than 1 % of a batch of 1" in (
        judge({RELU: np.array([0.0, 0.0, 1.0])}).explanation
    )
    assert judge({RELU: 0.0}).evidence[0].value == 100


def test_each_layer_is_judged_separately_and_the_worst_come_first() -> None:
    saved: dict[str, Value] = {f"layer{number}.relu_output_0": layer(4, 10, number) for number in range(11)}
    verdict = judge(saved)
    assert [row.value for row in verdict.evidence] == [100, 90, 80, 70, 60]
    assert len(verdict.tensors) == 11


def test_only_tensors_that_match_the_regex_are_read() -> None:
    dead = layer(4, 4, dead=4)
    assert judge({"relu_input_0": dead, "tanh_output_0": dead, RELU: layer(4, 4, 0)}).tensors == (RELU,)
    assert judge({"act1_output": dead}, tensor_regex="^act[0-9],other").status is Status.ISSUES_FOUND


@pytest.mark.parametrize("mode", list(Mode))
def test_steps_of_every_mode_are_judged(mode: Mode) -> None:
    assert run(DeadRelu({}), [(Step(7, mode, 3), {RELU: layer(4, 4, dead=4)})]).step == 7


def test_nan_in_a_layer_fires_for_that_reason() -> None:
    outputs = layer(4, 4, dead=0)
    outputs[1, 1] = math.nan
    verdict = judge({RELU: outputs})
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "non_finite")
    assert verdict.explanation == f"{RELU} has 1 NaN at step 0"


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], "nothing_saved"),
        ([{"tanh_output_0": 1.0}], "no_tensor_matches"),
        ([{RELU: np.array("text")}], "no_numbers"),
        ([{f"smdebug/reductions/mean/{RELU}": 0.0}], "only_reductions"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(steps: list[dict[str, Value]], reason: str) -> None:
    verdict = judge(*steps)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)


def test_the_sdks_collection_may_be_missing_because_the_regex_finds_its_tensors() -> None:
    evaluation = DeadRelu({})
    evaluation.learn({"relu_output": Collection(include_regex=(".*relu_output",))})
    assert run(evaluation, [(Step(0), {RELU: layer(4, 4, dead=4)})]).status is Status.ISSUES_FOUND


@pytest.mark.parametrize("name", ["threshold_inactivity", "threshold_layer"])
@pytest.mark.parametrize("text", ["-0.1", "100.1", "nan", "half"])
def test_a_percentage_out_of_range_is_refused_with_what_is_valid(name: str, text: str) -> None:
    with pytest.raises(ParameterError) as refused:
        DeadRelu({name: text})
    assert str(refused.value) == f"DeadRelu: {name} must be a number from 0 to 100, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="it has tensor_regex, threshold_inactivity, threshold_layer"):
        DeadRelu({"collection_names": "relu_output"})


outputs = st.one_of(
    st.sampled_from([0.0, 1.0, math.nan]),
    st.builds(layer, st.just(3), st.just(4), dead=st.integers(0, 4)),
    st.just(np.array("text")),
)
tensors = st.dictionaries(st.sampled_from(["a.relu_output_0", "b.relu_output_0", "noise"]), outputs)


@given(st.lists(tensors, max_size=8), st.sets(st.integers(0, 8)))
def test_a_restart_does_not_change_the_verdict(steps: list[dict[str, Value]], restarts: set[int]) -> None:
    saved: Saved = [(Step(number), tensors) for number, tensors in enumerate(steps)]
    assert_restarts_keep_the_verdict(lambda: DeadRelu({}), saved, restarts)
