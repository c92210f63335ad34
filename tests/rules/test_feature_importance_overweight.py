"""FeatureImportanceOverweight as documented."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.base import Status, Step, Value, Verdict
from rules.feature_importance_overweight import FeatureImportanceOverweight
from rules.parameters import ParameterError
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

EVEN = {"f0": 0.25, "f1": 0.25, "f2": 0.25, "f3": 0.25}


def importances(features: Mapping[str, Value], kind: str = "weight") -> dict[str, Value]:
    return {f"feature_importance/{kind}/{feature}": value for feature, value in features.items()}


def judge(*steps: Mapping[str, Value], **parameters: str) -> Verdict:
    saved = [(Step(step), tensors) for step, tensors in enumerate(steps)]
    return run(FeatureImportanceOverweight(parameters), saved)


def test_three_features_with_more_than_the_allowed_share_fire_and_are_named() -> None:
    verdict = judge(
        importances(EVEN), importances({"f0": 0.5, "age": 0.0625, "f2": 0.25, "f3": 0.125, "f4": 0.0625})
    )
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "overweight", 1)
    assert verdict.explanation == (
        "3 of 5 features that the model uses (f0, f2, f3) make up 0.875 of feature_importance/weight "
        "at step 1; the rule allows 0.8 for the 3 largest"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.threshold) == ("feature_importance/weight", 1, 0.875, 0.8)
    assert row.missed_by == pytest.approx(0.075)


def test_a_sum_of_exactly_the_threshold_is_not_an_issue() -> None:
    exactly = importances({"f0": 0.5, "f1": 0.2, "f2": 0.1, "f3": 0.1, "f4": 0.1})
    assert judge(exactly).status is Status.NO_ISSUES_FOUND
    more = importances({"f0": 0.5, "f1": 0.2, "f2": math.nextafter(0.1, 1) + 1e-12, "f3": 0.1, "f4": 0.1})
    assert judge(more).status is Status.ISSUES_FOUND


def test_the_threshold_and_the_number_of_features_can_be_chosen() -> None:
    assert judge(importances(EVEN), threshold="0.7").status is Status.ISSUES_FOUND
    assert judge(importances(EVEN), nfeatures="4").status is Status.ISSUES_FOUND
    assert judge(importances(EVEN), threshold="0.5", nfeatures="2").status is Status.NO_ISSUES_FOUND
    assert judge(importances(EVEN), threshold="0", nfeatures="1").status is Status.ISSUES_FOUND


def test_a_model_with_few_features_always_fires_and_the_sentence_says_how_few() -> None:
    verdict = judge(importances({"f0": 0.5, "f1": 0.5}))
    assert verdict.status is Status.ISSUES_FOUND
    assert "all 2 features that the model uses (f0, f1) make up 1" in verdict.explanation


def test_only_the_weight_is_read_by_default() -> None:
    verdict = judge(importances({"f0": 1.0}, "gain") | importances(EVEN))
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert all(tensor.startswith("feature_importance/weight/") for tensor in verdict.tensors)
    assert len(verdict.tensors) == 4


def test_each_type_of_importance_is_summed_separately() -> None:
    steps = importances(EVEN) | importances(EVEN, "gain") | importances({"f0": 1.0}, "total_gain")
    verdict = judge(steps, tensor_regex="feature_importance/")
    assert [row.tensor for row in verdict.evidence] == ["feature_importance/total_gain"]
    two = judge(steps, tensor_regex="weight,/gain", threshold="0.7")
    assert [row.tensor for row in two.evidence] == ["feature_importance/gain", "feature_importance/weight"]


def test_a_feature_may_have_a_slash_in_its_name() -> None:
    verdict = judge(importances({"a/b": 0.9, "a/c": 0.1}), nfeatures="1")
    assert "1 of 2 features that the model uses (a/b)" in verdict.explanation


def test_other_tensor_names_give_the_type_before_their_last_slash() -> None:
    steps = {"average_shap/f0": 0.6, "average_shap/f1": 0.4, "importance": 0.5}
    verdict = judge(steps, tensor_regex="shap,importance", nfeatures="1", threshold="0.55")
    assert [(row.tensor, row.value) for row in verdict.evidence] == [("average_shap", 0.6)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_importance_that_is_not_a_number_fires_for_that_reason(bad: float) -> None:
    verdict = judge(importances({**EVEN, "f3": bad}))
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "non_finite")
    assert verdict.explanation == f"feature_importance/weight of f3 is {bad:g} at step 0"
    assert verdict.evidence[0].missed_by is None


def test_a_tensor_that_is_not_a_single_number_is_left_out_and_the_verdict_says_so() -> None:
    odd = {
        "feature_importance/weight/all": np.ones(3),
        "smdebug/reductions/max/feature_importance/weight/f0": 9.0,
    }
    verdict = judge({**odd, **importances({f: np.array([v]) for f, v in EVEN.items()})})
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert verdict.notes == (
        "left out, because they are not single numbers, or are reductions: feature_importance/weight/all, "
        "smdebug/reductions/max/feature_importance/weight/f0",
    )


@pytest.mark.parametrize(
    ("steps", "reason", "words"),
    [
        ([], "nothing_saved", "no step"),
        ([{"train-error": 1.0}], "no_tensor_matches", "none of the saved tensors"),
        ([importances({"f0": np.ones(2)})], "no_scalar", "feature_importance/weight/f0"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    steps: list[dict[str, Value]], reason: str, words: str
) -> None:
    verdict = judge(*steps)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert words in verdict.explanation


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("threshold", "1.1", "a number from 0 to 1"),
        ("threshold", "-0.1", "a number from 0 to 1"),
        ("threshold", "nan", "a number from 0 to 1"),
        ("nfeatures", "0", "a whole number of at least 1"),
        ("nfeatures", "2.5", "a whole number of at least 1"),
        ("tensor_regex", "(", "regular expressions separated by commas"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        FeatureImportanceOverweight({name: text})
    assert str(refused.value) == f"FeatureImportanceOverweight: {name} must be {valid}, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match=r"it has threshold, nfeatures, tensor_regex$"):
        FeatureImportanceOverweight({"depth": "4"})


names = [f"feature_importance/{kind}/f{index}" for kind in ("weight", "gain") for index in range(4)]
values = st.one_of(st.floats(0, 0.3), st.sampled_from([math.nan, 0.9, np.ones(2)]))


@given(
    st.lists(st.dictionaries(st.sampled_from([*names, "noise"]), values), max_size=12),
    st.sets(st.integers(0, 12)),
    st.integers(1, 4),
)
def test_a_restart_at_any_step_does_not_change_the_verdict(
    steps: list[dict[str, Any]], restarts: set[int], nfeatures: int
) -> None:
    saved: Saved = [(Step(3 * index), tensors) for index, tensors in enumerate(steps)]
    parameters = {"nfeatures": str(nfeatures), "tensor_regex": "feature_importance/"}
    assert_restarts_keep_the_verdict(lambda: FeatureImportanceOverweight(parameters), saved, restarts)
