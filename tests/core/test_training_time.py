"""For how long a job has trained: a managed spot job may be interrupted, and wait for hours."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

import rules
from rules import Step
from tests.jobs import NOON, a_job, an_ended_job
from watcher.aws.sagemaker import parse_job
from watcher.evaluation.look import look
from watcher.evaluation.rule_run import RuleRun
from watcher.model import Evaluation, JobSnapshot, Phase

MINUTE = timedelta(minutes=1)


def at(minutes: float) -> datetime:
    return NOON + minutes * MINUTE


def phases(*minutes: tuple[str, float, float | None]) -> tuple[Phase, ...]:
    return tuple(
        Phase(status, at(began), None if ended is None else at(ended)) for status, began, ended in minutes
    )


INTERRUPTED = phases(
    ("Starting", 0, 2),
    ("Training", 2, 12),
    ("Interrupted", 12, 190),
    ("Starting", 190, 195),
    ("Training", 195, None),
)


def test_the_phases_are_those_of_sagemakers_record():
    job = parse_job(
        {
            "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/a",
            "TrainingJobName": "a",
            "TrainingJobStatus": "InProgress",
            "CreationTime": NOON,
            "SecondaryStatusTransitions": [
                {"Status": "Starting", "StartTime": at(0), "EndTime": at(2), "StatusMessage": "…"},
                {"Status": "Training", "StartTime": at(2)},
            ],
        }
    )
    assert job.phases == phases(("Starting", 0, 2), ("Training", 2, None))


def test_only_time_in_training_counts():
    job = a_job(phases=INTERRUPTED)
    assert job.trained(at(1)) == timedelta(0)
    assert job.trained(at(7)) == 5 * MINUTE
    assert job.trained(at(100)) == 10 * MINUTE
    assert job.trained(at(200)) == 15 * MINUTE


@pytest.mark.parametrize(
    ("job", "minutes"),
    [
        (a_job(started_at=at(0)), 30),  # a record without transitions
        (a_job(started_at=at(0), phases=phases(("Starting", 0, 20))), 30),
        (a_job(started_at=at(0), phases=phases(("Training", 0, 10))), 30),  # the newest is not there yet
        (a_job(started_at=None), 0),
        (an_ended_job(started_at=at(0), ended_at=at(8)), 8),
    ],
)
def test_where_the_record_says_less_training_goes_on_from_its_start(job: JobSnapshot, minutes: float):
    assert job.trained(at(30)) == minutes * MINUTE


class NoNewSteps:
    """The steps of a job that saves nothing more."""

    place, ended, cursor = "here", False, ""

    def note(self, rule: rules.Rule) -> str:
        return ""

    def collections(self) -> None:
        return None

    def known_until(self, now: datetime) -> datetime:
        return now


def looked_at(job: JobSnapshot, now: datetime, states: dict[str, str], threshold: int) -> Evaluation:
    """A look of a process that knows only what is stored."""
    rule = rules.load("StalledTrainingRule", {"threshold": str(threshold)})
    steps: Any = NoNewSteps()
    before = Evaluation(due_at=now, states=states)
    return look(job, before, RuleRun({"s": rule}, steps, states, lambda _: None), steps, now)


def statuses(evaluation: Evaluation) -> list[str]:
    return [outcome.status for outcome in evaluation.outcomes]


def test_a_job_that_waited_for_a_spot_instance_has_not_stalled():
    now = at(200)
    evaluation = looked_at(a_job(phases=INTERRUPTED), now, {}, threshold=1800)
    assert statuses(evaluation) == ["InProgress"]


@pytest.mark.parametrize("status", ["Interrupted", "Restarting", "Starting", "Downloading"])
def test_nothing_stalls_while_the_job_does_not_train(status: str):
    waiting = a_job(secondary_status=status, phases=phases(("Training", 0, 10), (status, 10, None)))
    assert statuses(looked_at(waiting, at(500), {}, threshold=60)) == ["InProgress"]


def test_the_time_before_and_after_an_interruption_adds_up_whatever_process_looks():
    before = looked_at(a_job(phases=phases(("Training", 0, None))), at(10), {}, threshold=1200)
    assert statuses(before) == ["InProgress"]
    resumed = a_job(
        phases=phases(("Training", 0, 12), ("Interrupted", 12, 100), ("Training", 100, None)),
        started_at=at(100),
    )
    almost = looked_at(resumed, at(107), dict(before.states), threshold=1200)
    assert statuses(almost) == ["InProgress"]
    stalled = looked_at(resumed, at(108), dict(almost.states), threshold=1200)
    assert statuses(stalled) == ["IssuesFound"]
    assert "for 1200 s of training" in stalled.outcomes[0].details


def test_a_stall_is_judged_only_while_the_newest_step_is_in_the_rules_range():
    rule = rules.load("StalledTrainingRule", {"threshold": "60", "start_step": "10", "end_step": "20"})
    rule.training_began(0)
    assert rule.tick(1000) is None
    for step, stalls in ((5, False), (10, True), (20, False)):
        rule.observe(Step(step), {})
        rule.tick(2000 + 1000 * step)
        assert (rule.tick(2500 + 1000 * step) is not None) is stalls


def test_a_file_that_is_written_again_with_the_same_content_is_news():
    rule = rules.load("StalledTrainingRule", {"threshold": "60"})
    rule.observe(Step(5), {})
    rule.tick(0)
    rule.saved_again()
    assert rule.tick(59) is None
    assert rule.tick(100) is None
    assert rule.tick(119) is not None
