"""SimilarAcrossRuns, with our interpretation of what AWS does not document."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import Collection, ParameterError, Status, Step, Verdict
from rules.base import Value
from rules.similar_across_runs import SimilarAcrossRuns
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict

COLLECTIONS = {"weights": Collection(tensor_names=frozenset({"dense.weight"}))}
Trial = Mapping[int, Mapping[str, Value]]
"""The saved tensors of a job, by step."""


class WithOtherTrial(SimilarAcrossRuns):
    """The rule with its runner's part: it gets the other trial's step before each step of the job."""

    other: Trial

    def observe(self, step: Step, tensors: Mapping[str, Value]) -> Verdict | None:
        if step.number in self.other:
            self.compare_with(step.number, self.other[step.number])
        return super().observe(step, tensors)


def rule(other: Trial, **parameters: str) -> SimilarAcrossRuns:
    evaluation = WithOtherTrial({"other_trials": "last-week", **parameters})
    evaluation.learn(COLLECTIONS)
    evaluation.other = other
    return evaluation


def compare(trial: Trial, other: Trial, **parameters: str) -> Verdict:
    evaluation = rule(other, **parameters)
    for step, tensors in trial.items():
        if verdict := evaluation.observe(Step(step), tensors):
            return verdict
    return evaluation.verdict(ended=True)


def trial(*values: Value, tensor: str = "w") -> Trial:
    return {10 * index: {tensor: value} for index, value in enumerate(values)}


def test_it_fires_at_the_first_common_step_at_which_a_tensor_is_different() -> None:
    verdict = compare(trial(1.0, 2.0, 3.0, 4.0), trial(1.0, 2.0, 3.5, 5.0))
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "different", 20)
    assert verdict.steps_checked == 3
    assert verdict.explanation == (
        "at step 20, w differs from that of last-week: 3 instead of 3.5, with a tolerance of 3.5e-05"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.previous_step) == ("w", 20, 3.0, None)
    assert row.threshold == pytest.approx(3.5e-5 + 1e-8)
    assert row.missed_by == pytest.approx(0.5 - 3.5e-5)
    assert row.needed == pytest.approx(3.5 - 3.5e-5)


def test_two_runs_whose_tensors_are_the_same_are_not_an_issue() -> None:
    verdict = compare(trial(1.0, 2.0, 3.0), trial(1.0, 2.0, 3.0))
    assert (verdict.status, verdict.evidence, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, (), 3)


def test_only_steps_that_both_jobs_saved_are_compared() -> None:
    every_step = {step: {"w": float(step)} for step in range(9)}
    every_fourth = {step: {"w": float(step)} for step in range(0, 20, 4)}
    verdict = compare(every_step, every_fourth)
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 3)
    assert compare({1: {"w": 1.0}, 2: {"w": 2.0}}, {2: {"w": 5.0}}).step == 2


def test_one_different_tensor_is_enough_and_the_others_are_not_evidence() -> None:
    ours = {0: {"labels": np.ones(3), "predictions": np.full(3, 1.0)}}
    other = {0: {"labels": np.ones(3), "predictions": np.full(3, 2.0)}}
    verdict = compare(ours, other)
    assert [row.tensor for row in verdict.evidence] == ["predictions"]
    assert verdict.tensors == ("labels", "predictions")


def test_a_tensor_that_only_one_of_them_saved_is_not_compared() -> None:
    ours, other = {0: {"w": 1.0, "ours": 1.0}}, {0: {"w": 1.0, "theirs": 1.0}}
    assert compare(ours, other).status is Status.NO_ISSUES_FOUND


def test_the_evidence_is_the_element_that_differs_most() -> None:
    verdict = compare(trial(np.array([1.0, 2.0, 5.0])), trial(np.array([1.0, 2.5, 9.0])), rtol="0", atol="1")
    (row,) = verdict.evidence
    assert (row.step, row.value, row.threshold, row.missed_by, row.needed) == (0, 5.0, 1.0, 3.0, 8.0)


def test_a_difference_counts_only_beyond_the_exact_tolerance() -> None:
    within = {"rtol": "0", "atol": "0.25"}
    assert compare(trial(1.25), trial(1.0), **within).status is Status.NO_ISSUES_FOUND
    assert compare(trial(math.nextafter(1.25, 2)), trial(1.0), **within).status is Status.ISSUES_FOUND


def test_rtol_is_relative_to_the_other_trial() -> None:
    parameters = {"rtol": "0.5", "atol": "0"}
    assert compare(trial(1.0), trial(2.0), **parameters).status is Status.NO_ISSUES_FOUND
    assert compare(trial(2.0), trial(1.0), **parameters).status is Status.ISSUES_FOUND


def test_a_different_shape_differs() -> None:
    verdict = compare(trial(np.ones(4)), trial(np.ones((2, 2))))
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "different_shape")
    assert "(4,)" in verdict.explanation
    assert "(2, 2)" in verdict.explanation


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.array([math.nan, math.inf])])
def test_two_runs_that_diverge_in_the_same_way_are_the_same(bad: Value) -> None:
    assert compare(trial(1.0, bad), trial(1.0, bad)).status is Status.NO_ISSUES_FOUND
    assert compare(trial(bad), trial(np.zeros(np.shape(bad)))).status is Status.ISSUES_FOUND


few_numbers = st.sampled_from([0.0, 1.0, 1.0 + 1e-9, 2.0, -1.0])


@given(
    st.lists(st.lists(few_numbers, min_size=2, max_size=2), min_size=1, max_size=6),
    st.lists(st.lists(few_numbers, min_size=2, max_size=2), min_size=1, max_size=6),
)
def test_it_fires_where_numpys_allclose_first_says_no(
    ours: list[list[float]], theirs: list[list[float]]
) -> None:
    first = next(
        (step for step, pair in enumerate(zip(ours, theirs, strict=False)) if not np.allclose(*pair)), None
    )
    verdict = compare(
        {step: {"w": np.array(values)} for step, values in enumerate(ours)},
        {step: {"w": np.array(values)} for step, values in enumerate(theirs)},
    )
    assert (verdict.step if verdict.status is Status.ISSUES_FOUND else None) == first


def test_all_tensors_are_compared_unless_some_are_selected() -> None:
    ours = {0: {"dense.weight": 1.0, "bias": 1.0, "loss": 1.0}}
    assert compare(ours, ours).tensors == ("bias", "dense.weight", "loss")
    assert compare(ours, ours, collection_names="weights").tensors == ("dense.weight",)
    both = compare(ours, ours, collection_names="weights", tensor_regex="bias")
    assert both.tensors == ("bias", "dense.weight")


def test_the_other_trials_step_is_kept_for_the_same_step_only() -> None:
    evaluation = SimilarAcrossRuns({"other_trials": "last-week"})
    evaluation.compare_with(0, {"w": 1.0})
    evaluation.observe(Step(1), {"w": 1.0})
    evaluation.observe(Step(0), {"w": 1.0})
    assert evaluation.verdict(ended=True).reason == "no_common_step"


def test_the_rule_is_in_progress_while_the_job_runs() -> None:
    evaluation = rule(trial(1.0))
    evaluation.observe(Step(0), {"w": 1.0})
    assert evaluation.verdict(ended=False).status is Status.IN_PROGRESS


@pytest.mark.parametrize(
    ("ours", "other", "parameters", "reason", "word"),
    [
        ({}, trial(1.0), {}, "nothing_saved", "no step"),
        (trial(1.0), {}, {}, "no_common_step", "last-week"),
        (trial(1.0), {5: {"w": 1.0}}, {}, "no_common_step", "last-week"),
        (trial(1.0), trial(1.0, tensor="v"), {}, "no_common_tensor", "last-week"),
        (trial(1.0), trial(1.0), {"collection_names": "wieghts"}, "no_such_collection", "wieghts"),
        (trial(1.0), trial(1.0), {"tensor_regex": "nosuch"}, "no_tensor_matches", "none"),
        (trial(np.array(["a"])), trial(np.array(["a"])), {}, "no_numbers", "no numbers"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    ours: Trial, other: Trial, parameters: dict[str, str], reason: str, word: str
) -> None:
    verdict = compare(ours, other, **parameters)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert word in verdict.explanation


def test_the_other_trial_is_a_required_parameter() -> None:
    assert rule({}).other_trial == "last-week"
    with pytest.raises(ParameterError, match="SimilarAcrossRuns needs other_trials"):
        SimilarAcrossRuns({"tensor_regex": "."})


def test_the_tolerances_are_numpys_by_default() -> None:
    assert (rule({}).parameters.rtol, rule({}).parameters.atol) == (1e-5, 1e-8)


@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_a_tolerance_out_of_range_is_refused_with_what_is_valid(name: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rule({}, **{name: "-1"})
    assert str(refused.value) == f"SimilarAcrossRuns: {name} must be a number of at least 0, not '-1'"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    known = "it has other_trials, collection_names, tensor_regex, rtol, atol"
    with pytest.raises(ParameterError, match=known):
        rule({}, other_trial="last-week")


def test_the_state_does_not_grow_with_the_size_of_the_tensors() -> None:
    large = {step: {"w": np.full(10_000, step)} for step in range(50)}
    evaluation = rule(large)
    for step, tensors in large.items():
        evaluation.observe(Step(step), tensors)
    assert len(json.dumps(evaluation.state())) < 500


elements = st.sampled_from([0.0, 1.0, math.nan])
values = st.one_of(elements, st.lists(elements, max_size=2).map(np.array), st.just(np.array(["text"])))
trials = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), values), max_size=8)


@given(trials, trials, st.sets(st.integers(0, 8)))
def test_a_rule_restored_from_its_state_continues_as_if_it_had_never_stopped(
    ours: list[dict[str, Value]], other: list[dict[str, Value]], restarts: set[int]
) -> None:
    saved: Saved = [(Step(number), tensors) for number, tensors in enumerate(ours)]
    assert_restarts_keep_the_verdict(lambda: rule(dict(enumerate(other))), saved, restarts)
