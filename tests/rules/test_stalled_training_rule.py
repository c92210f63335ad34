"""StalledTrainingRule as documented. The time is given by `tick`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import ParameterError, Status, Step, Verdict
from rules.stalled_training_rule import StalledTrainingRule


def rule(**parameters: str) -> StalledTrainingRule:
    return StalledTrainingRule({"threshold": "100", **parameters})


def test_no_new_step_for_threshold_seconds_fires_and_a_second_less_does_not() -> None:
    evaluation = rule()
    evaluation.observe(Step(7), {})
    assert evaluation.tick(1000) is None
    assert evaluation.tick(1099) is None
    verdict = evaluation.tick(1100)
    assert verdict is not None
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "stalled", 7)
    assert verdict.explanation == (
        "nothing was saved after step 7 for 100 s of training; the rule allows less than 100 s"
    )


def test_the_evidence_is_the_wait_in_seconds() -> None:
    evaluation = rule()
    evaluation.observe(Step(7), {})
    evaluation.tick(0)
    verdict = evaluation.tick(130)
    assert verdict is not None
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.threshold, row.missed_by) == ("*", 7, 130, 100, 30)


def test_each_new_step_restarts_the_wait() -> None:
    evaluation = rule()
    for now in range(0, 1000, 90):
        evaluation.observe(Step(now), {})
        assert evaluation.tick(now) is None
    assert evaluation.verdict(ended=True).status is Status.NO_ISSUES_FOUND


def test_a_step_between_two_infrequent_checks_never_counts_as_a_stall() -> None:
    evaluation = rule()
    evaluation.tick(0)
    evaluation.observe(Step(1), {})
    assert evaluation.tick(5000) is None


def test_a_job_that_never_saved_anything_also_stalls() -> None:
    evaluation = rule()
    assert evaluation.tick(0) is None
    verdict = evaluation.tick(100)
    assert verdict is not None
    assert (verdict.step, verdict.evidence) == (None, ())
    assert verdict.explanation.startswith("nothing was saved for 100 s of training")


def test_the_wait_for_the_first_step_starts_with_training() -> None:
    evaluation = rule()
    evaluation.training_began(1000)
    assert evaluation.tick(1099) is None
    assert evaluation.tick(1100) is not None


def test_the_time_of_an_interruption_does_not_count() -> None:
    evaluation = rule()
    evaluation.observe(Step(1), {})
    evaluation.tick(0)
    evaluation.training_began(5000)  # a spot instance was reclaimed and replaced
    assert evaluation.tick(5050) is None
    assert evaluation.tick(5100) is not None


def test_repeating_the_same_training_start_changes_nothing() -> None:
    evaluation = rule()
    evaluation.training_began(0)
    evaluation.observe(Step(1), {})
    assert evaluation.tick(500) is None
    evaluation.training_began(0)
    assert evaluation.tick(599) is None
    assert evaluation.tick(600) is not None


def test_the_rule_reads_no_tensors() -> None:
    assert not rule().wants("train-logloss")


@pytest.mark.parametrize(
    ("steps", "reason", "word"),
    [([], "nothing_saved", "no step"), ([Step(0)], "not_watched", "was not watched")],
)
def test_a_rule_that_evaluated_nothing_says_why(steps: list[Step], reason: str, word: str) -> None:
    evaluation = rule()
    for step in steps:
        evaluation.observe(step, {"train-logloss": 1.0})
    verdict = evaluation.verdict(ended=True)
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, reason)
    assert word in verdict.explanation


def test_the_rule_is_in_progress_while_the_job_runs() -> None:
    evaluation = rule()
    evaluation.observe(Step(3), {})
    evaluation.tick(0)
    assert evaluation.verdict(ended=False) == Verdict(Status.IN_PROGRESS, step=3, steps_checked=1)


def test_the_defaults_are_those_that_aws_documents() -> None:
    defaults = StalledTrainingRule({}).parameters
    assert (defaults.threshold, defaults.stop_training_on_fire, defaults.training_job_name_prefix) == (
        1800, False, "",
    )  # fmt: skip


def test_the_stop_parameters_are_accepted_but_not_acted_on() -> None:
    parameters = rule(stop_training_on_fire="True", training_job_name_prefix="prod-").parameters
    assert parameters.stop_training_on_fire is True
    assert parameters.training_job_name_prefix == "prod-"


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("threshold", "0", "a whole number of at least 1"),
        ("threshold", "an hour", "a whole number of at least 1"),
        ("stop_training_on_fire", "perhaps", "True or False"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rule(**{name: text})
    assert str(refused.value) == f"StalledTrainingRule: {name} must be {valid}, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    known = "it has threshold, stop_training_on_fire, training_job_name_prefix"
    with pytest.raises(ParameterError, match=known):
        rule(patience="3")


@given(
    st.lists(st.tuples(st.sampled_from(["step", "tick", "began"]), st.integers(0, 70)), max_size=30),
    st.sets(st.integers(0, 30)),
)
def test_a_rule_restored_from_its_state_continues_as_if_it_had_never_stopped(
    events: list[tuple[str, int]], restarts: set[int]
) -> None:
    # This rule needs the passing of time, which the replay of saved steps does not have.
    whole, broken, now = rule(), rule(), 0
    for index, (event, seconds) in enumerate(events):
        if index in restarts:
            state = json.loads(json.dumps(broken.state()))
            broken = rule()
            broken.restore(state)
        now += seconds
        answers = []
        for evaluation in (whole, broken):
            if event == "step":
                answers.append(evaluation.observe(Step(index), {}))
            elif event == "tick":
                answers.append(evaluation.tick(now))
            else:
                evaluation.training_began(now)
        assert answers[1:] == answers[:-1]
        assert broken.verdict(ended=True) == whole.verdict(ended=True)
        if answers and answers[0]:
            break
