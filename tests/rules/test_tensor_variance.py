"""TensorVariance as documented."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import Collection, ParameterError, Status, Step
from rules.base import Value
from rules.tensor_variance import TensorVariance
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

COLLECTIONS = {"weights": Collection(tensor_names=frozenset({"dense.weight"}))}


def rule(**parameters: str) -> TensorVariance:
    evaluation = TensorVariance({"tensor_regex": ".", **parameters})
    evaluation.learn(COLLECTIONS)
    return evaluation


def spread(variance: float) -> Value:
    """An array with exactly this variance, if its square root is exact."""
    deviation = math.sqrt(variance)
    return np.array([[-deviation, deviation], [deviation, -deviation]])


def once(**tensors: Value) -> Saved:
    return [(Step(4), tensors)]


def test_a_variance_between_the_bounds_is_not_an_issue() -> None:
    verdict = run(rule(min_threshold="1", max_threshold="9"), once(w=spread(4)))
    assert (verdict.status, verdict.steps_checked, verdict.tensors) == (Status.NO_ISSUES_FOUND, 1, ("w",))


@pytest.mark.parametrize(
    ("variance", "bounds", "reason"),
    [
        (4, {"max_threshold": "4"}, ""),
        (4, {"max_threshold": "3.999"}, "too_large"),
        (4, {"min_threshold": "4"}, ""),
        (4, {"min_threshold": "4.001"}, "too_small"),
        (4, {"min_threshold": "4", "max_threshold": "4"}, ""),
        (0, {"min_threshold": "0"}, ""),
        (0, {"min_threshold": "1e-9"}, "too_small"),
    ],
)
def test_a_variance_beyond_a_bound_fires_and_one_at_it_does_not(
    variance: float, bounds: dict[str, str], reason: str
) -> None:
    verdict = run(rule(**bounds), once(w=spread(variance)))
    expected = Status.ISSUES_FOUND if reason else Status.NO_ISSUES_FOUND
    assert (verdict.status, verdict.reason) == (expected, reason)


def test_the_sentence_and_the_evidence_give_the_variance_and_the_bound() -> None:
    verdict = run(rule(max_threshold="1"), once(w=spread(4)))
    assert verdict.explanation == "the variance of w is 4 at step 4; the rule allows 1 at most"
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.threshold, row.missed_by) == ("w", 4, 4, 1, 3)
    verdict = run(rule(min_threshold="16"), once(w=spread(4)))
    assert verdict.explanation == "the variance of w is 4 at step 4; the rule wants at least 16"
    assert (verdict.evidence[0].threshold, verdict.evidence[0].missed_by) == (16, 12)


def test_the_variance_of_a_large_half_precision_tensor_does_not_overflow() -> None:
    value = np.tile(np.array([-300, 300], np.float16), 5000)
    verdict = run(rule(max_threshold="1"), once(w=value))
    assert verdict.evidence[0].value == 90_000


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_element_that_is_not_a_number_fires_for_that_reason(bad: float) -> None:
    verdict = run(rule(max_threshold="1e9"), once(w=np.array([1.0, bad, 2.0])))
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "non_finite")
    assert verdict.evidence[0].missed_by is None


def test_a_variance_beyond_the_largest_number_also_fires() -> None:
    verdict = run(rule(max_threshold="1e300"), once(w=np.array([-1e200, 1e200])))
    assert (verdict.reason, verdict.explanation) == ("non_finite", "the variance of w is inf at step 4")


@pytest.mark.parametrize(
    ("reductions", "variance"),
    [
        ({"variance": 4.0}, 4.0),
        ({"std": 3.0}, 9.0),
        ({"std": 3.0, "variance": 9.5}, 9.5),
        ({"variance": 9.5, "std": 3.0, "mean": 0.0}, 9.5),
    ],
)
@pytest.mark.parametrize("parameters", [{}, {"tensor_regex": "", "collection_names": "weights"}])
def test_the_reductions_variance_and_std_are_used_when_the_tensor_was_not_saved_whole(
    reductions: dict[str, float], variance: float, parameters: dict[str, str]
) -> None:
    saved = {f"smdebug/reductions/{by}/dense.weight": np.array(value) for by, value in reductions.items()}
    evaluation = rule(max_threshold="1", **parameters)
    wanted = {name: value for name, value in saved.items() if evaluation.wants(name)}
    verdict = run(evaluation, once(**wanted))
    assert [(row.tensor, row.value) for row in verdict.evidence] == [("dense.weight", variance)]


def test_the_whole_tensor_takes_precedence_over_its_reductions() -> None:
    saved = {"w": spread(4), "smdebug/reductions/variance/w": np.array(1e9)}
    assert run(rule(max_threshold="4"), once(**saved)).status is Status.NO_ISSUES_FOUND


def test_the_variance_of_absolute_values_is_not_used() -> None:
    saved = {"smdebug/reductions/abs_variance/w": np.array(1e9), "smdebug/reductions/mean/w": np.array(1e9)}
    verdict = run(rule(max_threshold="4"), once(**saved))
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "only_reductions")


def test_a_single_number_has_no_variance_and_is_left_out() -> None:
    verdict = run(rule(min_threshold="1"), [(Step(0), {"train-rmse": np.array([0.5]), "w": spread(4)})])
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert verdict.notes == ("left out, because a single number has no variance: train-rmse",)


@pytest.mark.parametrize(
    ("parameters", "saved", "reason", "word"),
    [
        ({"max_threshold": "1"}, [], "nothing_saved", "no step"),
        ({}, once(w=spread(4)), "no_threshold", "can never fire"),
        (
            {"max_threshold": "1", "collection_names": "wieghts", "tensor_regex": ""},
            once(w=spread(4)),
            "no_such_collection",
            "wieghts",
        ),
        ({"max_threshold": "1", "tensor_regex": "nosuch"}, once(w=spread(4)), "no_tensor_matches", "none"),
        ({"max_threshold": "1"}, once(w=0.5), "no_variance", "single number"),
        ({"max_threshold": "1"}, once(w=np.array(["a", "b"])), "no_numbers", "no numbers"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    parameters: dict[str, str], saved: Saved, reason: str, word: str
) -> None:
    verdict = run(rule(**parameters), saved)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert word in verdict.explanation


def test_there_are_no_default_bounds_as_aws_documents() -> None:
    assert (rule().parameters.max_threshold, rule().parameters.min_threshold) == (None, None)


@pytest.mark.parametrize("name", ["max_threshold", "min_threshold"])
@pytest.mark.parametrize("text", ["nan", "inf", "much"])
def test_a_bound_that_is_not_a_number_is_refused(name: str, text: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rule(**{name: text})
    assert str(refused.value) == f"TensorVariance: {name} must be a number, not {text!r}"


def test_bounds_that_no_variance_can_meet_are_refused() -> None:
    with pytest.raises(ParameterError, match="min_threshold must not be above max_threshold, 2 is above 1"):
        rule(min_threshold="2", max_threshold="1")


def test_collection_names_or_tensor_regex_is_required() -> None:
    with pytest.raises(ParameterError, match="TensorVariance needs collection_names or tensor_regex"):
        TensorVariance({"max_threshold": "1"})


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    known = "it has collection_names, tensor_regex, max_threshold, min_threshold"
    with pytest.raises(ParameterError, match=known):
        rule(threshold="1")


values = st.one_of(
    st.floats(0, 2), st.lists(st.floats(-2, 2), max_size=4).map(np.array), st.just(np.array([math.nan, 1]))
)
names = st.sampled_from(["a", "b", "smdebug/reductions/variance/a", "smdebug/reductions/mean/b"])


@given(st.lists(st.dictionaries(names, values), max_size=10), st.sets(st.integers(0, 10)))
def test_a_rule_restored_from_its_state_continues_as_if_it_had_never_stopped(
    tensors: list[dict[str, Value]], restarts: set[int]
) -> None:
    saved = [(Step(number), at) for number, at in enumerate(tensors)]
    assert_restarts_keep_the_verdict(lambda: rule(max_threshold="3"), saved, restarts)
