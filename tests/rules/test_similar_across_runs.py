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
        assert evaluation.observe(Step(step), tensors) is None, "it cannot know before the job's end"
    return evaluation.verdict(ended=True)


def trial(*values: Value, tensor: str = "w") -> Trial:
    return {10 * index: {tensor: value} for index, value in enumerate(values)}


def test_a_tensor_that_is_the_same_at_every_common_step_fires_at_the_end() -> None:
    verdict = compare(trial(1.0, 2.0, 3.0), trial(1.0, 2.0, 3.0))
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "similar", 20)
    assert verdict.steps_checked == 3
    assert verdict.explanation == (
        "w is the same as in last-week at 3 common steps: its greatest difference, 0, is within the "
        "tolerance of 1e-05"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.previous_step) == ("w", 0, 1.0, None)
    assert row.threshold == row.missed_by == pytest.approx(1e-5 + 1e-8)


def test_a_tensor_that_differs_at_one_common_step_is_not_an_issue() -> None:
    verdict = compare(trial(1.0, 2.0, 3.0), trial(1.0, 2.5, 3.0))
    assert (verdict.status, verdict.evidence) == (Status.NO_ISSUES_FOUND, ())


def test_only_steps_that_both_jobs_saved_are_compared() -> None:
    every_step = {step: {"w": float(step)} for step in range(9)}
    every_fourth = {step: {"w": float(step)} for step in range(0, 20, 4)}
    verdict = compare(every_step, every_fourth)
    assert (verdict.status, verdict.steps_checked) == (Status.ISSUES_FOUND, 3)


def test_one_equal_tensor_is_enough_and_the_others_are_not_evidence() -> None:
    ours = {step: {"labels": np.ones(3), "predictions": np.full(3, step)} for step in range(3)}
    other = {step: {"labels": np.ones(3), "predictions": np.full(3, step + 1)} for step in range(3)}
    verdict = compare(ours, other)
    assert [row.tensor for row in verdict.evidence] == ["labels"]
    assert verdict.tensors == ("labels", "predictions")


def test_the_evidence_is_the_element_closest_to_differing() -> None:
    ours, other = trial(np.array([1.0, 2.0]), np.array([1.0, 2.25])), trial(np.ones(2), np.ones(2))
    verdict = compare(ours, other, rtol="0", atol="2")
    (row,) = verdict.evidence
    assert (row.step, row.value, row.threshold, row.missed_by) == (10, 2.25, 2, 0.75)


def test_a_difference_counts_only_beyond_the_exact_tolerance() -> None:
    within = {"rtol": "0", "atol": "0.25"}
    assert compare(trial(1.25), trial(1.0), **within).status is Status.ISSUES_FOUND
    assert compare(trial(math.nextafter(1.25, 2)), trial(1.0), **within).status is Status.NO_ISSUES_FOUND


def test_rtol_is_relative_to_the_other_trial() -> None:
    parameters = {"rtol": "0.5", "atol": "0"}
    assert compare(trial(1.0), trial(2.0), **parameters).status is Status.ISSUES_FOUND
    assert compare(trial(2.0), trial(1.0), **parameters).status is Status.NO_ISSUES_FOUND


def test_a_different_shape_differs() -> None:
    assert compare(trial(np.ones(4)), trial(np.ones((2, 2)))).status is Status.NO_ISSUES_FOUND


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.array([math.nan, math.inf])])
def test_two_runs_that_diverge_in_the_same_way_are_the_same(bad: Value) -> None:
    assert compare(trial(1.0, bad), trial(1.0, bad)).status is Status.ISSUES_FOUND
    assert compare(trial(bad), trial(0.0)).status is Status.NO_ISSUES_FOUND


def test_all_tensors_are_compared_unless_some_are_selected() -> None:
    ours = {0: {"dense.weight": 1.0, "bias": 1.0, "loss": 1.0}}
    assert compare(ours, ours).tensors == ("bias", "dense.weight", "loss")
    assert compare(ours, ours, collection_names="weights").tensors == ("dense.weight",)
    both = compare(ours, ours, collection_names="weights", tensor_regex="bias")
    assert both.tensors == ("bias", "dense.weight")


def test_a_tensor_that_differed_is_not_read_again() -> None:
    evaluation = rule(trial(1.0))
    assert evaluation.wants("w")
    evaluation.observe(Step(0), {"w": 2.0})
    assert not evaluation.wants("w")
    assert evaluation.wants("v")


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
