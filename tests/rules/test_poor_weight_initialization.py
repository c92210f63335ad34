"""PoorWeightInitialization as documented."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rules import Mode, ParameterError, Status, Step, Verdict
from rules.base import Evidence, Value
from rules.poor_weight_initialization import PoorWeightInitialization
from tests.rules.frameworks import LOSS, PYTORCH
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

FIRST, SECOND = "relu1.relu_input_0", "relu2.relu_input_0"
GRADIENT = "gradient/fc.weight"

NO_VARIANCE = "nothing was saved to check the variance of activation inputs (of at least two layers)"
NO_GRADIENTS = "nothing was saved to check the distribution of gradients (collection gradients)"
NO_LOSSES = "nothing was saved to check whether the loss falls (collection losses)"


def rule(**parameters: str) -> PoorWeightInitialization:
    evaluation = PoorWeightInitialization(parameters)
    evaluation.learn(PYTORCH)
    return evaluation


def judge(*steps: Mapping[str, Value], **parameters: str) -> Verdict:
    return run(rule(**parameters), list(zip(map(Step, range(len(steps))), steps, strict=True)))


def inputs(deviation: float) -> NDArray[np.float64]:
    """Values whose variance is the square of `deviation`, exact for powers of two."""
    return np.array([[deviation, -deviation], [-deviation, deviation]])


def spread(width: float) -> NDArray[np.float64]:
    """A gradient of 21 values whose 5th and 95th percentiles are two of them and lie this far apart."""
    return np.concatenate([[-1e6], np.linspace(0, width, 19), [1e6]])


def losses(values: Mapping[int, float]) -> Saved:
    return [(Step(number), {LOSS: value}) for number, value in values.items()]


def test_awss_example_reads_the_inputs_of_relus_as_pytorch_names_them() -> None:
    example = {
        "activation_inputs_regex": ".*relu_input|.*ReLU_input",
        "threshold": "10.0",
        "distribution_range": "0.001",
        "patience": "5",
        "steps": "10",
    }
    verdict = judge({"a.ReLU_input_0": inputs(1), "b.relu_input_0": inputs(4)}, **example)
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "variance_ratio", 0)
    assert verdict.explanation == (
        "the variance of b.relu_input_0 (16) is 16 times that of a.ReLU_input_0 (1) at step 0; "
        "the rule allows 10 times"
    )
    assert verdict.evidence == (Evidence("b.relu_input_0", 0, 16.0, threshold=10.0, missed_by=6.0),)


def test_similar_layers_wide_gradients_and_a_falling_loss_are_not_an_issue() -> None:
    steps = [
        {FIRST: inputs(1), SECOND: inputs(2), GRADIENT: spread(0.1), LOSS: 1 / (number + 1)}
        for number in range(10)
    ]
    verdict = judge(*steps)
    assert verdict == Verdict(
        Status.NO_ISSUES_FOUND, step=9, steps_checked=10, tensors=(LOSS, GRADIENT, FIRST, SECOND)
    )


def test_a_ratio_of_variances_of_exactly_the_threshold_is_not_an_issue() -> None:
    layers = {FIRST: inputs(1), SECOND: inputs(4)}
    assert judge(layers, threshold="16").status is Status.NO_ISSUES_FOUND
    assert judge(layers, threshold="15.999").status is Status.ISSUES_FOUND


def test_the_extremes_of_many_layers_are_compared() -> None:
    verdict = judge({FIRST: inputs(4), SECOND: inputs(1), "third.relu_input_0": inputs(2)})
    assert verdict.evidence[0].value == 16


def test_a_single_layer_with_identical_inputs_fires() -> None:
    verdict = judge({FIRST: np.full((2, 2), 3.0)})
    assert (verdict.reason, verdict.evidence[0].value) == ("variance_ratio", 0)
    assert verdict.explanation == f"the inputs of {FIRST} are all the same at step 0"


def test_a_single_layer_has_nothing_to_compare_with() -> None:
    assert judge({FIRST: inputs(1)}).reason == "too_few_values"
    verdict = judge({FIRST: inputs(1), GRADIENT: spread(1)})
    assert (verdict.status, verdict.notes) == (Status.NO_ISSUES_FOUND, (NO_VARIANCE, NO_LOSSES))


def test_a_gradient_that_lies_almost_entirely_within_the_range_fires() -> None:
    verdict = judge({GRADIENT: spread(0.0004), "gradient/wide": spread(0.1)})
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "narrow_gradients")
    assert verdict.explanation == (
        f"from the 5th to the 95th percentile {GRADIENT} spans 0.0004 at step 0; "
        "the rule wants at least 0.001"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.value, row.threshold) == (GRADIENT, pytest.approx(0.0004), 0.001)
    assert row.missed_by == pytest.approx(0.0006)


def test_a_span_of_exactly_distribution_range_is_not_an_issue() -> None:
    assert judge({GRADIENT: spread(0.25)}, distribution_range="0.25").status is Status.NO_ISSUES_FOUND
    assert judge({GRADIENT: spread(0.25)}, distribution_range="0.2501").status is Status.ISSUES_FOUND
    assert judge({GRADIENT: np.zeros(9)}, distribution_range="0").status is Status.NO_ISSUES_FOUND


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_not_judged_and_the_verdict_says_so(bad: float) -> None:
    verdict = judge({GRADIENT: np.array([bad, 0.0])})
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "non_finite")
    verdict = judge({GRADIENT: np.array([bad, 0.0])}, {GRADIENT: spread(1)})
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert f"left out, because they held NaN or infinity at some step: {GRADIENT}" in verdict.notes


def test_a_loss_without_a_new_lowest_value_for_patience_steps_fires() -> None:
    verdict = run(rule(), losses({0: 2.0, 1: 1.0, 2: 1.5, 3: 1.0, 4: 1.1, 5: 1.2, 6: 1.25, 7: 0.5}))
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "loss_not_falling", 6)
    assert verdict.explanation == (
        f"{LOSS} was lowest at step 1 (1) and is 1.25 at step 6; the rule waits 5 steps (patience)"
    )
    assert verdict.evidence == (Evidence(LOSS, 6, 1.25, 1, 1.0, threshold=1.0, missed_by=0.25),)


def test_a_new_lowest_value_on_the_last_step_of_patience_is_in_time() -> None:
    falling = losses({0: 1.0, 1: 1.0, 2: 1.0, 3: 0.9, 4: 1.0, 5: 1.0, 6: 0.8})
    assert run(rule(patience="3"), falling).status is Status.NO_ISSUES_FOUND
    assert run(rule(patience="2"), falling).step == 2


def test_the_mean_of_a_loss_per_sample_counts() -> None:
    steps = [(Step(number), {LOSS: np.array([number, 2.0 - 2 * number])}) for number in range(9)]
    assert run(rule(), steps).status is Status.NO_ISSUES_FOUND


@pytest.mark.parametrize("tensor", [LOSS, FIRST])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_inputs_or_losses_that_are_not_finite_fire_for_that_reason(tensor: str, bad: float) -> None:
    verdict = judge({tensor: np.array([1.0, bad]), SECOND: inputs(1)})
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "non_finite")
    assert verdict.explanation == f"{tensor} holds NaN or infinity at step 0"


def test_half_precision_does_not_overflow() -> None:
    wide = np.array([6e4, -6e4] * 50, np.float16)
    assert judge({FIRST: wide, SECOND: wide, GRADIENT: wide}).status is Status.NO_ISSUES_FOUND


def test_only_the_first_steps_are_evaluated() -> None:
    narrow = {GRADIENT: np.zeros(5)}
    assert run(rule(steps="10"), [(Step(9), narrow)]).status is Status.ISSUES_FOUND
    verdict = run(rule(steps="10"), [(Step(10), narrow)])
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "saved_too_late")
    assert "10" in verdict.explanation
    assert run(rule(steps="10.5"), [(Step(10), narrow)]).status is Status.ISSUES_FOUND


def test_with_the_sdks_save_interval_of_500_only_step_0_is_evaluated() -> None:
    steps = [(Step(number), {FIRST: inputs(1), SECOND: inputs(number + 1)}) for number in range(0, 2000, 500)]
    verdict = run(rule(), steps)
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 1)


def test_only_training_steps_are_counted() -> None:
    narrow = {GRADIENT: np.zeros(5)}
    assert run(rule(), [(Step(60, Mode.TRAIN, 9), narrow)]).step == 60
    verdict = run(rule(), [(Step(0, Mode.EVAL, 0), narrow), (Step(1, Mode.PREDICT, 0), narrow)])
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "no_values_in_mode")
    assert "EVAL, PREDICT" in verdict.explanation


def test_the_evidence_has_every_check_that_failed_at_the_step() -> None:
    verdict = judge({FIRST: inputs(1), SECOND: inputs(8), GRADIENT: np.zeros(5)})
    assert verdict.reason == "variance_ratio"
    assert [row.tensor for row in verdict.evidence] == [SECOND, GRADIENT]


def test_the_verdict_says_which_checks_had_no_data() -> None:
    assert judge({FIRST: inputs(1), SECOND: inputs(1)}).notes == (NO_GRADIENTS, NO_LOSSES)
    assert run(rule(), losses({0: 1.0, 1: 0.9})).notes == (NO_VARIANCE, NO_GRADIENTS)


def test_tensors_with_one_element_have_no_distribution() -> None:
    verdict = judge({GRADIENT: np.ones(1), FIRST: 0.0})
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "no_distribution")


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], "nothing_saved"),
        ([{"fc.weight": np.ones(3)}] * 20, "no_tensor_matches"),
        ([{FIRST: inputs(1)}, {FIRST: inputs(2)}], "too_few_values"),
        ([{LOSS: 1.0}], "too_few_values"),
        ([{GRADIENT: np.array("text")}], "no_numbers"),
        ([{f"smdebug/reductions/variance/{FIRST}": 1.0}], "only_reductions"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(steps: list[dict[str, Value]], reason: str) -> None:
    verdict = judge(*steps)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("activation_inputs_regex", "(", "regular expressions separated by commas"),
        ("threshold", "0", "a number above 0"),
        ("distribution_range", "-0.1", "a number of at least 0"),
        ("patience", "0", "a whole number of at least 1"),
        ("patience", "2.5", "a whole number of at least 1"),
        ("steps", "0", "a number above 0"),
        ("steps", "inf", "a number above 0"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rule(**{name: text})
    assert str(refused.value) == f"PoorWeightInitialization: {name} must be {valid}, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ParameterError, match="activation_inputs_regex, threshold, distribution_range, patience"
    ):
        rule(tensor_regex=".*relu_input")


values = st.one_of(
    st.sampled_from([0.5, 1.0, math.nan]),
    st.sampled_from([inputs(1), inputs(2), inputs(8), spread(0.1), spread(0.0001)]),
    st.just(np.array("text")),
)
tensors = st.dictionaries(st.sampled_from([FIRST, SECOND, GRADIENT, LOSS]), values)
history = st.lists(st.tuples(st.sampled_from([Mode.TRAIN, Mode.EVAL]), tensors), max_size=14)


@given(history, st.sets(st.integers(0, 14)), st.integers(1, 4))
def test_a_restart_does_not_change_the_verdict(
    steps: list[tuple[Mode, dict[str, Value]]], restarts: set[int], patience: int
) -> None:
    saved: Saved = [(Step(number, mode, number), tensors) for number, (mode, tensors) in enumerate(steps)]
    assert_restarts_keep_the_verdict(lambda: rule(patience=str(patience)), saved, restarts)
