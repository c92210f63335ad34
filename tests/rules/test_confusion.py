"""Confusion as documented."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.base import Status, Step, Value, Verdict
from rules.confusion import Confusion
from rules.parameters import ParameterError
from rules.selection import Collection
from tests.rules.replay import assert_restarts_keep_the_verdict, run

XGBOOST = {
    "labels": Collection(include_regex=("^labels$",)),
    "predictions": Collection(include_regex=("^predictions$",)),
}
DOCUMENTED = {
    "category_no": "10",
    "labels": "labels",
    "predictions": "predictions",
    "labels_collection": "labels",
    "predictions_collection": "predictions",
    "min_diag": "0.9",
    "max_off_diag": "0.1",
}
"""The parameters of AWS's example, which are defaults except for `category_no`."""


def confusion(parameters: Mapping[str, str], collections: Mapping[str, Collection] = XGBOOST) -> Confusion:
    rule = Confusion(parameters)
    rule.learn(collections)
    return rule


def matrix(rows: Sequence[Sequence[int]]) -> dict[str, Value]:
    """Labels and predictions with this confusion[label][prediction]."""
    counts = np.array(rows)
    labels, predictions = np.indices(counts.shape).reshape(2, -1)
    return {
        "labels": np.repeat(labels, counts.ravel()).astype(np.float32),
        "predictions": np.repeat(predictions, counts.ravel()).astype(np.float32),
    }


def judge(*steps: Mapping[str, Value], **parameters: str) -> Verdict:
    return run(confusion(parameters), [(Step(10 * step), tensors) for step, tensors in enumerate(steps)])


def test_a_matrix_within_both_bounds_is_not_an_issue() -> None:
    verdict = judge(matrix([[90, 10], [10, 90]]), matrix([[9, 0], [1, 5]]))
    assert verdict == Verdict(
        Status.NO_ISSUES_FOUND, step=10, steps_checked=2, tensors=("labels", "predictions")
    )


def test_too_few_correct_predictions_of_a_class_fire_and_the_sentence_explains_the_share() -> None:
    verdict = judge(matrix([[9, 0], [0, 8]]), matrix([[9, 5], [0, 15]]), max_off_diag="1")
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "diagonal", 10)
    assert verdict.explanation == (
        "step 10: the 15 right predictions of class 1 are 0.75 of all predictions of that class, 20; "
        "the rule wants at least 0.9 (min_diag)"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.threshold) == ("predictions", 10, 0.75, 0.9)
    assert row.missed_by == pytest.approx(0.15)


def test_too_many_predictions_of_one_class_as_another_fire_and_the_sentence_names_both() -> None:
    verdict = judge(matrix([[8, 0, 0], [2, 10, 0], [0, 0, 10]]), min_diag="0")
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "off_diagonal")
    assert verdict.explanation == (
        "step 0: 0.2 of the 10 predictions of class 0 are labelled 1; "
        "the rule allows at most 0.1 (max_off_diag)"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.value, row.threshold, row.missed_by) == ("predictions", 0.2, 0.1, 0.1)


def test_values_at_the_bounds_pass_and_one_more_pair_fires() -> None:
    for parameters in ({}, {"min_diag": "0"}, {"max_off_diag": "1"}):
        assert judge(matrix([[90, 0], [10, 5]]), **parameters).status is Status.NO_ISSUES_FOUND
        assert judge(matrix([[89, 0], [11, 5]]), **parameters).status is Status.ISSUES_FOUND


def test_the_bounds_can_be_chosen() -> None:
    bad = matrix([[7, 3], [3, 7]])
    assert judge(bad, min_diag="0.7", max_off_diag="0.3").status is Status.NO_ISSUES_FOUND
    assert judge(bad, min_diag="0.71", max_off_diag="0.3").reason == "diagonal"
    assert judge(bad, min_diag="0.7", max_off_diag="0.29").reason == "off_diagonal"


def test_the_default_bounds_and_names_are_those_of_awss_example() -> None:
    documented = confusion(DOCUMENTED).parameters
    assert confusion({"category_no": "10"}).parameters == documented
    assert confusion({}).parameters.category_no is None


def test_awss_formula_compares_the_diagonal_with_itself_and_the_sentence_says_so() -> None:
    perfect = matrix([[50, 0], [0, 50]])
    assert judge(perfect).status is Status.NO_ISSUES_FOUND
    verdict = judge(perfect, formula="aws")
    assert (verdict.reason, [row.value for row in verdict.evidence]) == ("diagonal", [0.5, 0.5])
    assert verdict.explanation.startswith(
        "step 0: the 50 right predictions of class 0 are 0.5 of the right predictions of all classes "
        "(AWS's formula), 100; "
    )
    assert judge(perfect, formula="aws", min_diag="0.5").status is Status.NO_ISSUES_FOUND


def test_awss_formula_gives_a_class_that_does_not_occur_a_share_of_0() -> None:
    perfect = matrix([[50, 0], [0, 50]])
    assert judge(perfect, formula="aws", min_diag="0.5", category_no="3").evidence[0].value == 0
    assert judge(perfect, category_no="3").status is Status.NO_ISSUES_FOUND


def test_awss_formula_gives_shares_of_0_when_nothing_is_correct() -> None:
    verdict = judge(matrix([[0, 5], [5, 0]]), formula="aws", max_off_diag="1")
    assert [row.value for row in verdict.evidence] == [0, 0]


def test_a_class_that_is_never_predicted_has_a_share_of_0() -> None:
    verdict = judge(matrix([[99, 0], [1, 0]]))
    assert (verdict.reason, verdict.evidence[0].value) == ("diagonal", 0)
    assert (
        "the 0 right predictions of class 1 are 0 of all predictions of that class, 0" in verdict.explanation
    )
    assert judge(matrix([[99, 0], [1, 0]]), min_diag="0").status is Status.NO_ISSUES_FOUND


def test_the_worst_cells_come_first_and_the_omitted_ones_are_counted() -> None:
    bad = 10 * np.eye(8, dtype=int)
    bad[0] = range(10, 18)
    verdict = judge(matrix(bad.tolist()))
    diagonal = [row.value for row in verdict.evidence if row.threshold == 0.9]
    assert diagonal == sorted(diagonal)
    assert (len(verdict.evidence), len(diagonal)) == (10, 5)
    assert verdict.explanation.count("and 2 more like these") == 2


def test_each_step_is_judged_separately() -> None:
    good, bad = matrix([[99, 0], [0, 99]]), matrix([[5, 5], [5, 5]])
    verdict = judge(good, good, good, bad)
    assert (verdict.step, verdict.steps_checked) == (30, 4)


def test_predictions_are_read_as_xgboosts_objectives_save_them() -> None:
    labels = np.array([0, 1, 1, 0], np.float32)
    softprob = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]], np.float32)
    for predictions in (labels, softprob, softprob[:, 1]):
        assert judge({"labels": labels, "predictions": predictions}).status is Status.NO_ISSUES_FOUND
        wrong = judge({"labels": 1 - labels, "predictions": predictions})
        assert wrong.evidence[0].value == 0


def test_tensors_and_collections_can_be_named() -> None:
    renamed = {"y:0": matrix([[5, 5], [5, 5]])["labels"], "y_hat:0": matrix([[5, 5], [5, 5]])["predictions"]}
    by_tensor = confusion({"labels": "y:0", "predictions": "y_hat:0"}, {})
    assert run(by_tensor, [(Step(0), renamed)]).tensors == ("y:0", "y_hat:0")
    own = {
        "truth": Collection(include_regex=("^y:",)),
        "guess": Collection(tensor_names=frozenset({"y_hat:0"})),
    }
    by_collection = confusion({"labels_collection": "truth", "predictions_collection": "guess"}, own)
    assert run(by_collection, [(Step(0), renamed)]).status is Status.ISSUES_FOUND


def test_the_tensor_with_the_given_name_is_read_from_a_collection_of_several() -> None:
    several = {"labels": Collection(include_regex=("labels",)), "predictions": XGBOOST["predictions"]}
    tensors = {**matrix([[5, 0], [0, 5]]), "other_labels": np.array([0, 0])}
    assert run(confusion({}, several), [(Step(0), tensors)]).status is Status.NO_ISSUES_FOUND
    verdict = run(confusion({"labels": "y"}, several), [(Step(0), tensors)])
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "ambiguous")
    assert verdict.notes == (
        "left out, because their collection holds several tensors: say which with the parameter labels: "
        "labels, other_labels",
    )


def test_the_number_of_categories_comes_from_the_parameter_or_the_largest_class() -> None:
    three = matrix([[5, 0, 0], [0, 5, 0], [0, 0, 5]])
    assert judge(three).status is Status.NO_ISSUES_FOUND
    assert judge(three, category_no="3").status is Status.NO_ISSUES_FOUND
    verdict = judge(three, category_no="2")
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "category_no")
    assert "they have more classes than category_no, 2" in verdict.explanation


@pytest.mark.parametrize("tensor", ["labels", "predictions"])
@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_labels_and_predictions_that_are_not_numbers_fire(tensor: str, bad: float) -> None:
    verdict = judge({**matrix([[1, 0], [0, 1]]), tensor: np.array([0.0, bad])})
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "non_finite")
    assert verdict.explanation == f"{tensor} holds {bad:g} at step 0"


GOOD = matrix([[5, 0], [0, 5]])


@pytest.mark.parametrize(
    ("steps", "reason", "words"),
    [
        ([], "nothing_saved", "no step"),
        ([{"train-error": 1.0}], "no_tensor_matches", "none of the saved tensors"),
        ([{"labels": GOOD["labels"]}], "no_predictions", "labels were saved, but no predictions"),
        ([{"predictions": GOOD["labels"]}], "no_labels", "predictions were saved, but no labels"),
        ([{key: value} for key, value in GOOD.items()], "not_together", "never saved at the same step"),
        ([{"labels": np.array([]), "predictions": np.array([])}], "not_together", "were empty"),
        ([{**GOOD, "predictions": np.array([0, 1])}], "unpaired", "one prediction for each label"),
        ([{**GOOD, "labels": np.linspace(0, 1, 10)}], "no_classes", "not whole numbers"),
        ([{**GOOD, "predictions": np.linspace(0, 2, 10)}], "no_classes", "neither classes nor probab"),
        ([{**GOOD, "labels": -GOOD["labels"]}], "no_categories", "do not count from 0"),
        ([{**GOOD, "labels": 1e6 * GOOD["labels"]}], "too_many_classes", "more than 5000 classes"),
        ([{**GOOD, "labels": np.array(["a"] * 10)}], "no_numbers", "no numbers"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    steps: list[dict[str, Value]], reason: str, words: str
) -> None:
    verdict = judge(*steps)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert words in verdict.explanation


def test_a_collection_missing_from_the_job_is_reported() -> None:
    verdict = run(confusion({"labels_collection": "lables"}, XGBOOST), [(Step(0), {"train-error": 0.5})])
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "no_such_collection")
    assert "lables" in verdict.explanation


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("category_no", "1", "a whole number from 2 to 5000"),
        ("category_no", "5001", "a whole number from 2 to 5000"),
        ("category_no", "ten", "a whole number from 2 to 5000"),
        ("min_diag", "90", "a number from 0 to 1"),
        ("min_diag", "-0.1", "a number from 0 to 1"),
        ("max_off_diag", "nan", "a number from 0 to 1"),
        ("formula", "sklearn", "one of PREDICTIONS, AWS"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        Confusion({name: text})
    assert str(refused.value) == f"Confusion: {name} must be {valid}, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="did you mean min_diag") as refused:
        Confusion({"min_diagonal": "0.9"})
    assert str(refused.value).endswith(f"; it has {', '.join(DOCUMENTED)}, formula")


def test_a_large_validation_set_adds_nothing_to_the_state() -> None:
    rule = confusion({"min_diag": "0", "max_off_diag": "1"})
    labels = np.arange(100_000) % 1000
    assert rule.observe(Step(0), {"labels": labels, "predictions": labels[::-1]}) is None
    assert len(json.dumps(rule.state())) < 200


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_the_cells_equal_those_of_a_matrix_filled_pair_by_pair(pairs: list[tuple[int, int]]) -> None:
    filled = np.zeros((5, 5))
    for label, prediction in pairs:
        filled[label][prediction] += 1
    columns = filled.sum(axis=0)
    expected = {
        round(float(filled[label][prediction] / columns[prediction]), 12)
        for label in range(5)
        for prediction in range(5)
        if label != prediction and filled[label][prediction] / max(columns[prediction], 1) > 0.25
    }
    labels, predictions = np.array(pairs).T
    verdict = judge({"labels": labels, "predictions": predictions}, min_diag="0", max_off_diag="0.25")
    reported = {round(row.value, 12) for row in verdict.evidence}
    assert reported == expected if len(verdict.evidence) < 5 else reported <= expected
    assert bool(reported) == bool(expected)


arrays = st.one_of(
    st.lists(st.integers(0, 2), min_size=4, max_size=4).map(np.array),
    st.just(np.array([0, 1, 1, 2])),
    st.sampled_from(
        [np.array([0.5, 0.2, 0.1, 0.9]), np.array([1, 0, math.nan, 2]), np.eye(4), np.array(["a"])]
    ),
)


@given(
    st.lists(st.dictionaries(st.sampled_from(["labels", "predictions", "noise"]), arrays), max_size=12),
    st.sets(st.integers(0, 12)),
    st.sampled_from(["", "2", "3"]),
)
def test_a_restart_at_any_step_does_not_change_the_verdict(
    steps: list[dict[str, Any]], restarts: set[int], category_no: str
) -> None:
    parameters = {"category_no": category_no, "min_diag": "0", "max_off_diag": "0.9"}
    saved = [(Step(3 * index), tensors) for index, tensors in enumerate(steps)]
    assert_restarts_keep_the_verdict(lambda: confusion(parameters), saved, restarts)
