"""VanishingGradient as documented."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import ParameterError, Status, Step, Verdict
from rules.base import Evidence, Value
from rules.vanishing_gradient import VanishingGradient
from tests.rules.frameworks import LOSS, PYTORCH
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

GRADIENT = "gradient/fc.weight"
ABS_MEAN = f"smdebug/reductions/abs_mean/{GRADIENT}"


def rule(**parameters: str) -> VanishingGradient:
    evaluation = VanishingGradient(parameters)
    evaluation.learn(PYTORCH)
    return evaluation


def judge(*steps: dict[str, Value], **parameters: str) -> Verdict:
    return run(rule(**parameters), [(Step(number * 500), tensors) for number, tensors in enumerate(steps)])


def test_awss_example_fires_when_the_mean_absolute_value_drops_below_the_threshold() -> None:
    healthy, vanishing = np.array([[1e-3, -1e-3]]), np.array([[3e-8, -5e-8]])
    verdict = judge({GRADIENT: healthy}, {GRADIENT: vanishing}, threshold="0.0000001")
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "vanishing", 500)
    assert verdict.explanation == (
        f"the mean absolute value of {GRADIENT} is 4e-08 at step 500; the rule wants at least 1e-07"
    )
    assert verdict.evidence == (
        Evidence(
            GRADIENT, 500, pytest.approx(4e-8), threshold=1e-7, missed_by=pytest.approx(6e-8), needed=1e-7
        ),
    )


def test_values_that_cancel_each_other_out_do_not_vanish() -> None:
    assert judge({GRADIENT: np.array([1.0, -1.0])}).status is Status.NO_ISSUES_FOUND


def test_a_mean_of_exactly_the_threshold_passes_and_the_next_lower_number_fires() -> None:
    assert judge({GRADIENT: np.full(4, 0.25)}, threshold="0.25").status is Status.NO_ISSUES_FOUND
    below = np.full(4, np.nextafter(0.25, 0))
    assert judge({GRADIENT: below}, threshold="0.25").status is Status.ISSUES_FOUND


def test_the_default_threshold_is_a_ten_millionth() -> None:
    assert judge({GRADIENT: np.full(3, 1.01e-7)}).status is Status.NO_ISSUES_FOUND
    assert judge({GRADIENT: np.full(3, 0.99e-7)}).status is Status.ISSUES_FOUND


def test_a_gradient_of_zero_at_the_first_step_fires() -> None:
    assert judge({GRADIENT: np.zeros((3, 4), np.float32)}).evidence[0].value == 0


def test_a_mean_too_small_for_half_precision_is_still_distinguished_from_zero() -> None:
    sparse = np.zeros(1000, np.float16)
    sparse[0] = 2e-5  # the mean is 2e-8, which a float16 rounds to zero
    assert judge({GRADIENT: sparse}, threshold="1e-8").status is Status.NO_ISSUES_FOUND


def test_only_gradients_are_read() -> None:
    verdict = judge({"fc.weight": np.zeros(3), LOSS: 0.0, GRADIENT: np.ones(3)})
    assert (verdict.status, verdict.tensors) == (Status.NO_ISSUES_FOUND, (GRADIENT,))


def test_the_smallest_gradients_are_the_evidence() -> None:
    verdict = judge({f"gradient/{number}": np.array([number * 1e-8]) for number in range(8)})
    assert [row.tensor for row in verdict.evidence] == [f"gradient/{number}" for number in range(5)]
    assert verdict.explanation.endswith("; and 3 more like these")


def test_the_saved_mean_of_absolute_values_is_judged_when_the_gradient_was_not_saved() -> None:
    verdict = judge({ABS_MEAN: np.array(1e-9)})
    assert (verdict.status, verdict.evidence[0].tensor) == (Status.ISSUES_FOUND, ABS_MEAN)
    assert verdict.explanation.startswith(f"the mean absolute value of {GRADIENT} is 1e-09")
    assert judge({ABS_MEAN: 1e-9, GRADIENT: np.ones(2)}).status is Status.NO_ISSUES_FOUND


@pytest.mark.parametrize("name", ["mean", "min", "abs_max", "l2", "std"])
def test_other_reductions_are_not_sufficient_and_the_verdict_says_so(name: str) -> None:
    verdict = judge({f"smdebug/reductions/{name}/{GRADIENT}": 0.0})
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "no_abs_mean")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_not_judged_and_the_verdict_says_so(bad: float) -> None:
    verdict = judge({GRADIENT: np.array([bad, 0.0])})
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "non_finite")

    scaled = judge({GRADIENT: np.array([bad, 0.0])}, {GRADIENT: np.ones(2)})
    assert (scaled.status, scaled.steps_checked) == (Status.NO_ISSUES_FOUND, 1)
    assert scaled.notes == (f"left out, because they held NaN or infinity at some step: {GRADIENT}",)


def test_other_gradients_are_still_judged_when_one_is_not_finite() -> None:
    assert judge({GRADIENT: np.array([math.nan]), "gradient/fc.bias": np.zeros(2)}).evidence[0].value == 0


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], "nothing_saved"),
        ([{LOSS: 1.0}], "no_tensor_matches"),
        ([{GRADIENT: np.array("text")}], "no_numbers"),
        ([{GRADIENT: np.empty(0)}], "no_numbers"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(steps: list[dict[str, Value]], reason: str) -> None:
    verdict = judge(*steps)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)


def test_a_job_without_gradients_such_as_an_xgboost_job_is_not_evaluated() -> None:
    evaluation = VanishingGradient({})
    evaluation.learn({})
    assert run(evaluation, [(Step(0), {"train-rmse": 1.0})]).reason == "no_such_collection"


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "small"])
def test_a_threshold_out_of_range_is_refused_with_what_is_valid(text: str) -> None:
    with pytest.raises(ParameterError, match=f"threshold must be a number above 0, not '{text}'"):
        rule(threshold=text)


def test_an_unknown_parameter_is_refused_with_the_known_one() -> None:
    with pytest.raises(ParameterError, match="no parameter 'num_steps'; it has threshold"):
        rule(num_steps="1")


sizes = st.sampled_from([0.0, 1e-9, 1e-7, 1.0, math.nan, math.inf])
tensors = st.dictionaries(
    st.sampled_from([GRADIENT, ABS_MEAN, "gradient/fc.bias", f"smdebug/reductions/l2/{LOSS}", LOSS]),
    st.one_of(sizes, st.lists(sizes, min_size=2, max_size=4).map(np.array)),
)


@given(st.lists(tensors, max_size=8), st.sets(st.integers(0, 8)))
def test_a_restart_does_not_change_the_verdict(steps: list[dict[str, Value]], restarts: set[int]) -> None:
    saved: Saved = [(Step(number), tensors) for number, tensors in enumerate(steps)]
    assert_restarts_keep_the_verdict(lambda: rule(threshold="1e-8"), saved, restarts)
