"""ClassImbalance as documented."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.base import Mode, Status, Step, Value, Verdict
from rules.class_imbalance import ClassImbalance
from rules.parameters import ParameterError
from tests.rules.replay import assert_restarts_keep_the_verdict, run

DOCUMENTED = {
    "threshold_imbalance": "10",
    "threshold_misprediction": "0.7",
    "samples": "500",
    "argmax": "False",
    "labels_regex": ".*labels",
    "predictions_regex": ".*predictions",
}
"""The parameters of AWS's example, which are all defaults."""


def labels(*counts: int) -> Value:
    """The given number of labels of class 0, of class 1 …"""
    return np.repeat(np.arange(len(counts)), counts).astype(np.float32)


def wrong(of: Value, category: int, count: int) -> Value:
    """Predictions for these labels that are correct except for `count` of one class."""
    predictions = np.array(of)
    predictions[np.flatnonzero(predictions == category)[:count]] += 1
    return predictions


def judge(*steps: Mapping[str, Value], **parameters: str) -> Verdict:
    saved = [(Step(step), tensors) for step, tensors in enumerate(steps)]
    return run(ClassImbalance(parameters), saved)


def test_a_class_that_occurs_too_often_fires_and_says_how_often() -> None:
    verdict = judge({"labels": labels(40, 600, 30)}, **DOCUMENTED)
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "imbalance", 0)
    assert verdict.explanation == (
        "labels: up to step 0, class 1 occurs 600 times, class 2 30 times, which is 20 to 1; "
        "the rule allows 10 to 1"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.threshold, row.missed_by) == ("labels", 0, 20, 10, 10)


def test_exactly_the_tolerated_imbalance_is_not_an_issue() -> None:
    assert judge({"labels": labels(60, 600)}).status is Status.NO_ISSUES_FOUND
    assert judge({"labels": labels(60, 601)}).status is Status.ISSUES_FOUND
    assert judge({"labels": labels(60, 601)}, threshold_imbalance="10.1").status is Status.NO_ISSUES_FOUND


def test_a_class_that_is_mostly_mispredicted_fires_and_says_how_many() -> None:
    actual = labels(300, 300)
    verdict = judge({"labels": actual, "predictions": wrong(actual, 1, 240)}, **DOCUMENTED)
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "misprediction")
    assert verdict.explanation == (
        "labels: up to step 0, 0.8 of the 300 labels of class 1 were mispredicted; the rule allows 0.7"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.value, row.threshold) == ("predictions", 0.8, 0.7)
    assert row.missed_by == pytest.approx(0.1)


def test_exactly_the_tolerated_share_of_mispredictions_is_not_an_issue() -> None:
    actual = labels(300, 300)
    for count, status in ((210, Status.NO_ISSUES_FOUND), (211, Status.ISSUES_FOUND)):
        assert judge({"labels": actual, "predictions": wrong(actual, 0, count)}).status is status
    some = {"labels": actual, "predictions": wrong(actual, 0, 100)}
    assert judge(some, threshold_misprediction="0.3").status is Status.ISSUES_FOUND


def test_the_default_parameters_are_those_of_awss_example() -> None:
    assert ClassImbalance({}).parameters == ClassImbalance(DOCUMENTED).parameters


def test_nothing_is_judged_until_several_steps_have_given_enough_labels() -> None:
    rule = ClassImbalance({})
    assert rule.observe(Step(0), {"labels": labels(0, 249)}) is None
    assert rule.observe(Step(10), {"labels": labels(1, 249)}) is None
    assert rule.verdict(ended=False).steps_checked == 0
    verdict = rule.observe(Step(20), {"labels": labels(1, 0)})
    assert verdict is not None
    assert (verdict.step, verdict.steps_checked, verdict.evidence[0].value) == (20, 1, 249)


def test_the_number_of_labels_before_the_first_verdict_can_be_chosen() -> None:
    assert judge({"labels": labels(1, 11)}, samples="12").status is Status.ISSUES_FOUND
    assert judge({"labels": labels(1, 11)}, samples="13").reason == "too_few_samples"


def test_labels_are_counted_over_all_steps_and_modes() -> None:
    rule = ClassImbalance({"samples": "1"})
    assert rule.observe(Step(0, Mode.TRAIN, 0), {"labels": labels(10, 10)}) is None
    assert rule.observe(Step(1, Mode.EVAL, 0), {"labels": labels(0, 90)}) is None
    verdict = rule.observe(Step(2, Mode.TRAIN, 1), {"labels": labels(0, 1)})
    assert verdict is not None
    assert verdict.evidence[0].value == pytest.approx(10.1)


def test_mispredictions_are_counted_over_all_steps() -> None:
    actual = labels(10, 10)
    bad, good = (
        {"labels": actual, "predictions": wrong(actual, 0, 8)},
        {"labels": actual, "predictions": actual},
    )
    assert judge(good, bad, samples="1").status is Status.NO_ISSUES_FOUND
    assert judge(good, *[bad] * 7, samples="1").status is Status.NO_ISSUES_FOUND  # 56 of 80
    assert judge(good, *[bad] * 8, samples="1").evidence[0].value == pytest.approx(64 / 90)


def test_labels_without_predictions_count_only_for_the_imbalance() -> None:
    actual = labels(10, 10)
    verdict = judge({"labels": actual}, {"labels": actual, "predictions": wrong(actual, 0, 8)}, samples="1")
    assert (verdict.evidence[0].value, verdict.notes) == (0.8, ())


def test_when_both_checks_fail_both_are_reported_and_the_imbalance_gives_the_reason() -> None:
    actual = labels(10, 200)
    verdict = judge({"labels": actual, "predictions": wrong(actual, 0, 10)}, samples="1")
    assert verdict.reason == "imbalance"
    assert [(row.tensor, row.value) for row in verdict.evidence] == [("labels", 20), ("predictions", 1)]


def test_the_verdict_lists_the_worst_of_many_mispredicted_classes() -> None:
    actual = labels(*[10] * 9)
    guessed = actual.copy()
    guessed[:80] += 1
    guessed[75] -= 1
    verdict = judge({"labels": actual, "predictions": guessed}, samples="1")
    assert [row.value for row in verdict.evidence] == [1.0] * 5
    assert verdict.explanation.endswith("and 3 more like these")


def test_vectors_of_probabilities_are_predictions_with_argmax() -> None:
    actual = labels(5, 5, 5)
    vectors = np.eye(3)[(actual.astype(int) + 1) % 3]
    steps = {"labels": actual, "predictions": vectors}
    assert judge(steps, samples="1", argmax="True").evidence[0].value == 1.0
    verdict = judge(steps, samples="1")
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert verdict.notes == (
        "left out, because they do not hold one prediction for each label; with argmax=True, vectors of "
        "probabilities are read: predictions",
        "mispredictions were not judged: no predictions go with labels",
    )


def test_probabilities_of_class_1_as_xgboost_saves_them_are_predictions() -> None:
    steps = {"labels": labels(2, 2), "predictions": np.array([0.1, 0.2, 0.3, 0.4])}
    (row,) = judge(steps, samples="1").evidence
    assert (row.tensor, row.value) == ("predictions", 1.0)


def test_the_regexes_select_labels_and_predictions() -> None:
    actual = labels(5, 5)
    steps = {"target:0": actual, "output:0": wrong(actual, 0, 5), "labels": labels(1, 99)}
    verdict = judge(steps, samples="1", labels_regex="^target", predictions_regex="^output")
    assert verdict.reason == "misprediction"
    assert verdict.tensors == ("output:0", "target:0")


def test_several_pairs_are_matched_by_name_and_judged_separately() -> None:
    actual = labels(5, 5)
    steps = {
        "b_labels": actual, "b_predictions": wrong(actual, 1, 5),
        "a_predictions": labels(1, 20), "a_labels": labels(1, 20),
    }  # fmt: skip
    verdict = judge(steps, samples="1")
    assert [(row.tensor, row.value) for row in verdict.evidence] == [("a_labels", 20), ("b_predictions", 1)]


def test_predictions_that_cannot_be_paired_are_left_out_and_the_verdict_says_so() -> None:
    actual = labels(5, 5)
    verdict = judge({"labels": actual, "1_predictions": 1 - actual, "2_predictions": actual}, samples="1")
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert verdict.notes[0] == (
        "left out, because not as many labels were saved at the same step: 1_predictions, 2_predictions"
    )


def test_reductions_saved_with_the_labels_are_ignored() -> None:
    steps = {"labels": labels(5, 5), "smdebug/reductions/max/labels": 1.0}
    verdict = judge(steps, samples="1")
    assert (verdict.status, verdict.tensors) == (Status.NO_ISSUES_FOUND, ("labels",))
    assert verdict.notes == ("mispredictions were not judged: no predictions go with labels",)


def test_predictions_at_steps_without_labels_are_ignored() -> None:
    actual = labels(5, 5)
    steps = [{"predictions": actual}, {"labels": actual, "predictions": 1 - actual}]
    verdict = judge(*steps, samples="1")
    assert ([row.value for row in verdict.evidence], verdict.notes) == ([1.0, 1.0], ())


def test_a_tensor_that_matches_both_regexes_is_its_own_prediction() -> None:
    balanced = judge({"labels": labels(5, 5)}, samples="1", predictions_regex="lab")
    assert (balanced.status, balanced.steps_checked, balanced.notes) == (Status.NO_ISSUES_FOUND, 1, ())
    imbalanced = judge({"labels": labels(1, 500)}, samples="1", predictions_regex="lab")
    assert (imbalanced.status, imbalanced.reason) == (Status.ISSUES_FOUND, "imbalance")
    assert len(imbalanced.evidence) == 1


def test_a_single_class_is_not_an_imbalance_but_is_mentioned() -> None:
    verdict = judge({"labels": labels(0, 0, 500)})
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert "only one class was seen among labels: 2" in verdict.notes


@pytest.mark.parametrize("tensor", ["labels", "predictions"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_labels_and_predictions_that_are_not_numbers_fire_immediately(tensor: str, bad: float) -> None:
    steps = {"labels": labels(1, 1), "predictions": labels(1, 1), tensor: np.array([0.0, bad])}
    verdict = judge(steps)
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "non_finite")
    assert verdict.explanation == f"{tensor} holds {bad:g} at step 0"


@pytest.mark.parametrize(
    ("steps", "reason", "words"),
    [
        ([], "nothing_saved", "no step"),
        ([{"train-error": 1.0}], "no_tensor_matches", "none of the saved tensors"),
        ([{"labels": labels(100, 100)}], "too_few_samples", "200 labels were saved, the rule wants 500"),
        ([{"labels": np.array([])}], "too_few_samples", "0 labels"),
        ([{"predictions": labels(300, 300)}], "no_labels", "predictions were saved, but no labels"),
        ([{"labels": np.linspace(0, 9, 600)}], "no_classes", "not whole numbers"),
        ([{"labels": np.arange(6000)}], "too_many_classes", "more than 5000 classes"),
        ([{"labels": np.array(["cat"] * 600)}], "no_numbers", "no numbers"),
        ([{"smdebug/reductions/max/labels": 1.0}], "only_reductions", "reductions"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    steps: list[dict[str, Value]], reason: str, words: str
) -> None:
    verdict = judge(*steps)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert words in verdict.explanation


def test_labels_that_turn_out_not_to_be_classes_are_no_longer_judged() -> None:
    saved = [{"labels": labels(300, 300)}, {"labels": np.array([0.5])}, {"labels": labels(0, 9000)}]
    verdict = judge(*saved)
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 1)
    assert verdict.notes == ("left out, because their values are not whole numbers, so not classes: labels",)


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("threshold_imbalance", "0", "a number above 0"),
        ("threshold_imbalance", "inf", "a number above 0"),
        ("threshold_misprediction", "70", "a number from 0 to 1"),
        ("threshold_misprediction", "-0.1", "a number from 0 to 1"),
        ("samples", "0", "a whole number of at least 1"),
        ("argmax", "maybe", "True or False"),
        ("labels_regex", "(", "a regular expression"),
        ("predictions_regex", "*", "a regular expression"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        ClassImbalance({name: text})
    assert str(refused.value) == f"ClassImbalance: {name} must be {valid}, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="did you mean threshold_imbalance") as refused:
        ClassImbalance({"threshold_inbalance": "10"})
    assert str(refused.value).endswith(f"; it has {', '.join(DOCUMENTED)}")


def test_the_state_of_the_rule_grows_with_the_classes_and_not_with_the_job() -> None:
    rule = ClassImbalance({})
    for step in range(200):
        rule.observe(Step(step), {"labels": labels(*[50] * 10), "predictions": labels(*[50] * 10)})
    assert len(json.dumps(rule.state())) < 600


counted = st.lists(st.integers(0, 3), min_size=4, max_size=4).map(np.array)
tensors = st.one_of(
    counted,
    counted,
    st.sampled_from(
        [np.array([0.5, 0.2, 0.1, 0.9]), np.array([1, 0, math.nan, 2]), np.eye(4), np.array(["a"])]
    ),
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["labels", "predictions", "x/labels", "x/predictions"]), tensors),
        max_size=12,
    ),
    st.sets(st.integers(0, 12)),
    st.sampled_from(["1", "8", "20"]),
)
def test_a_restart_at_any_step_does_not_change_the_verdict(
    steps: list[dict[str, Any]], restarts: set[int], samples: str
) -> None:
    parameters = {"samples": samples, "threshold_imbalance": "5", "threshold_misprediction": "0.9"}
    saved = [(Step(3 * index), tensors) for index, tensors in enumerate(steps)]
    assert_restarts_keep_the_verdict(lambda: ClassImbalance(parameters), saved, restarts)
