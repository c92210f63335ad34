"""SaturatedActivation as documented."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rules import Collection, ParameterError, Status, Step, Verdict
from rules.base import Evidence, Value
from rules.saturated_activation import SaturatedActivation
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

TANH, SIGMOID = "tanh_input_0", "sigmoid_input_0"


def judge(*steps: dict[str, Value], **parameters: str) -> Verdict:
    saved = [(Step(number * 500), tensors) for number, tensors in enumerate(steps)]
    return run(SaturatedActivation(parameters), saved)


def layer(samples: int, units: int, saturated: int, active_in: int = 0) -> NDArray[np.float64]:
    """Inputs of a layer whose first units are saturated except in the first `active_in` samples."""
    inputs = np.zeros((samples, units))
    inputs[active_in:, :saturated] = 100
    return inputs


def test_awss_example_fires_on_a_layer_that_is_more_than_half_saturated() -> None:
    example = {
        "tensor_regex": ".*tanh_input|.*sigmoid_input",
        "threshold_tanh_min": "-9.4999",
        "threshold_tanh_max": "9.4999",
        "threshold_sigmoid_min": "-23",
        "threshold_sigmoid_max": "16.99999",
        "threshold_inactivity": "1.0",
        "threshold_layer": "50.0",
    }
    verdict = judge({TANH: layer(8, 10, 5)}, {TANH: layer(8, 10, 6)}, **example)
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "saturated", 500)
    assert verdict.explanation == (
        f"60 % of {TANH} is saturated at step 500: 6 of 10 units are active in less than 1 % of a batch "
        "of 8; the rule allows 50 %"
    )
    assert verdict.evidence == (Evidence(TANH, 500, 60.0, threshold=50.0, missed_by=10.0),)


@pytest.mark.parametrize(
    ("tensor", "limit"), [(TANH, -9.4999), (TANH, 9.4999), (SIGMOID, -23.0), (SIGMOID, 16.99999)]
)
def test_an_input_at_a_threshold_is_active_and_the_next_number_beyond_it_is_saturated(
    tensor: str, limit: float
) -> None:
    assert judge({tensor: np.array([limit])}).status is Status.NO_ISSUES_FOUND
    beyond = np.nextafter(limit, limit * 2)
    assert judge({tensor: np.array([beyond])}).status is Status.ISSUES_FOUND


@pytest.mark.parametrize(
    ("tensor", "parameter", "text", "inside", "outside"),
    [
        (TANH, "threshold_tanh_min", "-1", -1.0, -1.1),
        (TANH, "threshold_tanh_max", "1", 1.0, 1.1),
        (SIGMOID, "threshold_sigmoid_min", "-1", -1.0, -1.1),
        (SIGMOID, "threshold_sigmoid_max", "1", 1.0, 1.1),
    ],
)
def test_each_threshold_applies_to_its_function(
    tensor: str, parameter: str, text: str, inside: float, outside: float
) -> None:
    assert judge({tensor: inside}, **{parameter: text}).status is Status.NO_ISSUES_FOUND
    assert judge({tensor: outside}, **{parameter: text}).status is Status.ISSUES_FOUND


@pytest.mark.parametrize(
    ("tensor", "status"),
    [
        ("rnn.Tanh_input_0", Status.ISSUES_FOUND),
        ("rnn.Sigmoid_input_0", Status.NO_ISSUES_FOUND),
        ("sigmoid_block.tanh_input_0", Status.ISSUES_FOUND),
        ("tanh_block.sigmoid_input_0", Status.NO_ISSUES_FOUND),
    ],
)
def test_the_last_function_in_a_tensors_name_counts(tensor: str, status: Status) -> None:
    assert (
        judge({tensor: 12.0}, tensor_regex="input").status is status
    )  # beyond the threshold of tanh, within that of sigmoid


def test_a_name_without_a_function_is_left_out_and_the_verdict_says_so() -> None:
    verdict = judge({"gate_input_0": 100.0}, tensor_regex="input")
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "unknown_function")
    verdict = judge({"gate_input_0": 100.0, TANH: 0.0}, tensor_regex="input")
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert verdict.notes == ("left out, because their names say neither tanh nor sigmoid: gate_input_0",)


def test_a_unit_active_in_exactly_threshold_inactivity_percent_of_the_samples_is_not_saturated() -> None:
    assert judge({TANH: layer(100, 4, 4, active_in=1)}).status is Status.NO_ISSUES_FOUND
    assert judge({TANH: layer(101, 4, 4, active_in=1)}).status is Status.ISSUES_FOUND
    some = {TANH: layer(10, 4, 4, active_in=5)}
    assert judge(some, threshold_inactivity="50").status is Status.NO_ISSUES_FOUND
    assert judge(some, threshold_inactivity="51").status is Status.ISSUES_FOUND


def test_threshold_layer_says_how_much_of_a_layer_may_be_saturated() -> None:
    assert judge({TANH: layer(4, 4, 2)}).status is Status.NO_ISSUES_FOUND
    assert judge({TANH: layer(4, 4, 1)}, threshold_layer="25").status is Status.NO_ISSUES_FOUND
    assert judge({TANH: layer(4, 4, 1)}, threshold_layer="24").status is Status.ISSUES_FOUND


def test_a_collection_is_read_in_addition_to_the_matches_of_the_regex() -> None:
    evaluation = SaturatedActivation({"collection_names": "gates"})
    evaluation.learn({"gates": Collection(tensor_names=frozenset({"sigmoid_gate"}))})
    verdict = run(evaluation, [(Step(0), {"sigmoid_gate": 0.0, TANH: 0.0, "tanh_output_0": 100.0})])
    assert verdict.tensors == ("sigmoid_gate", TANH)


@pytest.mark.parametrize("infinity", [math.inf, -math.inf])
def test_infinite_inputs_are_saturated(infinity: float) -> None:
    assert judge({TANH: np.array([[infinity]])}).reason == "saturated"


def test_nan_in_a_layer_fires_for_that_reason() -> None:
    verdict = judge({SIGMOID: np.array([[0.0, math.nan, math.nan]])})
    assert (verdict.reason, verdict.explanation) == ("non_finite", f"{SIGMOID} has 2 NaN at step 0")


@pytest.mark.parametrize(
    ("steps", "parameters", "reason"),
    [
        ([], {}, "nothing_saved"),
        ([{"tanh_output_0": 1.0}], {}, "no_tensor_matches"),
        ([{"tanh_output_0": 1.0}], {"collection_names": "gates"}, "no_such_collection"),
        ([{TANH: np.array("text")}], {}, "no_numbers"),
        ([{f"smdebug/reductions/max/{TANH}": 100.0}], {}, "only_reductions"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    steps: list[dict[str, Value]], parameters: dict[str, str], reason: str
) -> None:
    verdict = judge(*steps, **parameters)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("threshold_tanh_min", "low", "a number"),
        ("threshold_sigmoid_max", "inf", "a number"),
        ("threshold_inactivity", "101", "a number from 0 to 100"),
        ("threshold_layer", "-1", "a number from 0 to 100"),
        ("tensor_regex", "(", "regular expressions separated by commas"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        SaturatedActivation({name: text})
    assert str(refused.value) == f"SaturatedActivation: {name} must be {valid}, not {text!r}"


def test_thresholds_with_nothing_between_them_are_refused() -> None:
    with pytest.raises(ParameterError, match="threshold_tanh_min must be below threshold_tanh_max"):
        SaturatedActivation({"threshold_tanh_min": "10"})


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ParameterError, match=r"did you mean threshold_tanh_min\?\); it has collection_names,"
    ):
        SaturatedActivation({"threshold_tan_min": "1"})


inputs = st.one_of(
    st.sampled_from([0.0, 20.0, math.nan]), st.builds(layer, st.just(3), st.just(4), st.integers(0, 4))
)
tensors = st.dictionaries(st.sampled_from([TANH, SIGMOID, "gate_input_0"]), inputs)


@given(st.lists(tensors, max_size=8), st.sets(st.integers(0, 8)))
def test_a_restart_does_not_change_the_verdict(steps: list[dict[str, Value]], restarts: set[int]) -> None:
    saved: Saved = [(Step(number), tensors) for number, tensors in enumerate(steps)]
    assert_restarts_keep_the_verdict(lambda: SaturatedActivation({"tensor_regex": "input"}), saved, restarts)
