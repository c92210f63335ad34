"""A name that is used again, a tag that is taken off, and stops that people ask for.

The jobs are the sandbox's. A job that is deleted and placed again is a new run of the same ARN.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.doubles.clock import Clock
from tests.pipelines import Process
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.config.settings import Config, Route, Stop, Watch
from watcher.delivery.stop import Stopper, StopState
from watcher.errors import StoreError
from watcher.model import (
    ISSUES_FOUND,
    Case,
    ChangeKind,
    Closing,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Evaluation,
    IncidentState,
    Judge,
    Outcome,
    RuleFamily,
    StopPhase,
    incident_id,
)
from watcher.policy.stop_guards import Refusal
from watcher.sandbox.process import Sandbox
from watcher.store.base import Look
from watcher.store.memory import MemoryStore

CHURN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/churn"
RULE = "LossNotDecreasing"
QUIET = [{"RuleConfigurationName": RULE, "RuleEvaluationStatus": "InProgress"}]
FIRED = [{"RuleConfigurationName": RULE, "RuleEvaluationStatus": "IssuesFound"}]
STOPPING = Config(route=(Route(to=("console",), stop=True),))
WITH_GRACE = Config(route=(Route(to=("console",), stop=True),), stop=Stop(grace=40))
TAGGED = Config(route=(Route(to=("console",), stop=True),), watch=Watch(tags={"watch": "yes"}))
YES, NO = [{"Key": "watch", "Value": "yes"}], [{"Key": "watch", "Value": "no"}]


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime.now(UTC))  # real time, as that of the sandbox


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def place(sandbox: Sandbox, rules: list[Any] = QUIET, **members: Any) -> str:
    """Place the job `churn` as it is to be now. Returns its run."""
    sandbox.control.put_training_job("churn", **{"DebugRuleEvaluationStatuses": rules, **members})
    return TrainingJobs(Aws()).describe("churn").run


def place_anew(sandbox: Sandbox, rules: list[Any] = QUIET, **members: Any) -> str:
    """Delete the job, and place a new run with its name."""
    sandbox.control.delete_training_job("churn")
    time.sleep(0.002)  # runs are told apart by milliseconds, as SageMaker counts them
    return place(sandbox, rules, **members)


def case_of(store: MemoryStore, run: str) -> Case:
    case = store.case(incident_id(run))
    assert case
    return case


def kinds(case: Case) -> list[ChangeKind]:
    return [change.kind for change in case.changes]


def the_stop(case: Case) -> Delivery:
    [row] = [row for row in case.deliveries if row.kind is DeliveryKind.STOP]
    return row


def watched_runs(store: MemoryStore) -> list[str]:
    return [job.run for job in store.watching()]


# -- two runs with one name ------------------------------------------------------------------------


def test_a_new_run_of_a_name_whose_last_run_was_stopped_is_told_and_stopped(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock, STOPPING)
    first = place(aws_environment, FIRED)
    process.make_a_pass()
    store.permit_stop(first, "route job *, rule *", clock(), 10)
    place(aws_environment, FIRED, TrainingJobStatus="Stopped")
    process.make_a_pass()
    assert case_of(store, first).incident.stop.phase is StopPhase.STOPPED

    second = place_anew(aws_environment, FIRED)
    process.make_a_pass()

    after = case_of(store, second)
    assert kinds(after) == [ChangeKind.OPENED, ChangeKind.STOP_ASKED]
    assert the_stop(after).run == second
    assert case_of(store, first).incident.stop.phase is StopPhase.STOPPED
    assert store.stop_of(second) is None
    stopper = Stopper(process.pipeline.accounts, store, Stop(), clock, Watch())
    assert stopper.attempt(second, the_stop(after).actor).state is StopState.STOPPING


def test_a_pass_ends_the_watch_of_a_run_that_was_replaced_when_the_look_at_the_new_one_was_interrupted(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock)
    first = place(aws_environment, FIRED)
    process.make_a_pass()
    before = store.job(first)
    assert before
    second = place_anew(aws_environment)
    process.make_a_pass()
    store.commit([Look(before.snapshot, "as before", clock(), watching=True)])
    assert watched_runs(store) == [first, second]

    process.make_a_pass()

    assert watched_runs(store) == [second]


def test_a_stop_that_waits_for_its_grace_ends_with_its_run(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock, WITH_GRACE)
    first = place(aws_environment, FIRED)
    process.make_a_pass()
    assert the_stop(case_of(store, first)).state is DeliveryState.PENDING
    second = place_anew(aws_environment)
    process.make_a_pass()

    case = case_of(store, first)
    assert the_stop(case).state is DeliveryState.CANCELLED
    assert case.incident.stop.reason == "Not stopped: the job was deleted, and a new run has its name"
    assert [finding.closing for finding in case.findings] == [Closing.UNWATCHED]
    assert case.incident.state is IncidentState.RESOLVED
    assert watched_runs(store) == [second]
    assert store.case(incident_id(second)) is None
    assert [case.incident.run for case, _ in process.told] == [first, first]


def test_a_run_that_was_replaced_before_anybody_noticed_is_not_stopped(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock, WITH_GRACE)
    first = place(aws_environment, FIRED)
    process.make_a_pass()
    place_anew(aws_environment, FIRED)
    stopper = Stopper(process.pipeline.accounts, store, Stop(), clock, Watch())

    assert stopper.attempt(first, "route job *, rule *").refusal is Refusal.ANOTHER_RUN
    assert aws_environment.control.calls().get("sagemaker:StopTrainingJob", 0) == 0


def test_a_run_that_is_replaced_while_no_process_runs_is_told_as_two(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    first = place(aws_environment)
    Process(store, clock).make_a_pass()
    second = place_anew(aws_environment, FIRED, TrainingJobStatus="Failed")
    Process(store, clock).make_a_pass()

    assert [finding.run for finding in store.findings()] == [second, second]
    assert watched_runs(store) == []
    assert not store.job(first).watching


def test_an_event_about_a_new_run_ends_the_watching_of_the_last_one(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock)
    place(aws_environment, FIRED)
    process.pipeline.look_again(CHURN)
    second = place_anew(aws_environment, FIRED)
    process.pipeline.look_again(CHURN)
    process.pipeline.look_again(CHURN)

    assert watched_runs(store) == [second]
    assert len(store.findings()) == 2


def test_what_is_open_about_a_deleted_job_is_closed(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock, WITH_GRACE)
    run = place(aws_environment, FIRED)
    process.make_a_pass()
    aws_environment.control.delete_training_job("churn")
    process.make_a_pass()
    process.make_a_pass()

    case = case_of(store, run)
    assert kinds(case).count(ChangeKind.CLOSED) == 1
    assert case.findings[0].closing_reason == "the job no longer exists"
    assert the_stop(case).state is DeliveryState.CANCELLED
    assert watched_runs(store) == []


@pytest.mark.parametrize("call", ["unwatch", "amend"])
def test_what_is_open_about_a_deleted_job_is_closed_though_the_store_fails_meanwhile(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, call: str
):
    process = Process(store, clock)
    run = place(aws_environment, FIRED)
    process.make_a_pass()
    aws_environment.control.delete_training_job("churn")

    def fails(*_: Any) -> Any:
        raise StoreError("the disk is full")

    with monkeypatch.context() as broken, suppress(StoreError):
        broken.setattr(store, call, fails)
        process.pipeline.look_again(CHURN)
    process.pipeline.look_again(CHURN)

    assert not any(finding.open for finding in case_of(store, run).findings)
    assert watched_runs(store) == []


class SlowStore(MemoryStore):
    """Something happens after a commit, before the process that made it goes on."""

    meanwhile: Callable[[], object] | None = None

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Case, ...]:
        cases = super().commit(looks, holder)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        return cases


def test_a_look_at_a_run_does_not_end_the_watching_of_one_that_another_process_found_meanwhile(
    aws_environment: Sandbox, clock: Clock
):
    store = SlowStore()
    runs = [place(aws_environment, FIRED)]
    Process(store, clock).make_a_pass()
    runs.append(place_anew(aws_environment, FIRED))

    def another_finds_a_third() -> None:
        runs.append(place_anew(aws_environment, FIRED))
        Process(store, clock).pipeline.look_again(CHURN)

    store.meanwhile = another_finds_a_third
    Process(store, clock).pipeline.look_again(CHURN)

    assert watched_runs(store) == [runs[2]]
    states = [case_of(store, run).incident.state for run in runs]
    assert states == [IncidentState.RESOLVED, IncidentState.RESOLVED, IncidentState.OPEN]


# -- a tag that is taken off, a name that no longer matches ------------------------------------------


def test_a_job_whose_tag_was_taken_off_is_neither_told_nor_stopped_nor_described_again(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock, TAGGED)
    place(aws_environment, Tags=YES)
    process.make_a_pass()
    assert len(store.watching()) == 1
    place(aws_environment, FIRED, Tags=NO)
    process.make_a_pass()
    aws_environment.control.forget_calls()
    process.make_a_pass()

    assert store.findings() == []
    assert store.watching() == []
    assert aws_environment.control.calls() == {"sagemaker:Search": 2}


def test_the_tags_are_read_at_each_look(aws_environment: Sandbox, store: MemoryStore, clock: Clock):
    process = Process(store, clock, TAGGED)
    place(aws_environment, Tags=YES)
    process.make_a_pass()
    place(aws_environment, FIRED, Tags=NO)
    process.pipeline.look_again(CHURN)

    assert store.findings() == []
    assert store.watching() == []


def test_tags_are_not_read_unless_the_settings_name_some(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    place(aws_environment, Tags=YES)
    process = Process(store, clock)
    process.make_a_pass()
    process.pipeline.look_again(CHURN)

    assert "sagemaker:ListTags" not in aws_environment.control.calls()
    assert store.jobs("churn")[0].snapshot.tags == {"watch": "yes"}, "those that Search found are kept"


def test_a_stop_that_waits_is_called_off_when_the_tag_is_taken_off(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    run = place(aws_environment, FIRED, Tags=YES)
    process = Process(store, clock, WITH_GRACE.model_copy(update={"watch": TAGGED.watch}))
    process.make_a_pass()
    place(aws_environment, FIRED, Tags=NO)
    process.make_a_pass()

    case = case_of(store, run)
    assert the_stop(case).state is DeliveryState.CANCELLED
    assert "no longer matches watch.jobs or watch.tags" in case.incident.stop.reason


def evaluated(status: str) -> Evaluation:
    return Evaluation(due_at=None, outcomes=(Outcome(RULE, RuleFamily.DEBUGGER, Judge.WATCHER, status),))


def test_what_watchers_own_evaluation_finds_is_not_told_when_the_tag_was_taken_off_meanwhile(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock, TAGGED)
    run = place(aws_environment, Tags=YES)
    process.make_a_pass()
    place(aws_environment, Tags=NO)
    process.pipeline.evaluated(run, evaluated(ISSUES_FOUND))

    assert store.findings() == []
    assert store.watching() == []


def test_what_watchers_own_evaluation_finds_of_a_replaced_run_is_not_told(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock)
    first = place(aws_environment)
    process.make_a_pass()
    place_anew(aws_environment)
    process.make_a_pass()
    process.pipeline.evaluated(first, evaluated(ISSUES_FOUND))

    assert store.findings() == []


def test_a_job_that_gets_its_tag_back_is_watched_again(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock, TAGGED)
    run = place(aws_environment, Tags=YES)
    process.make_a_pass()
    place(aws_environment, Tags=NO)
    process.make_a_pass()
    place(aws_environment, FIRED, Tags=YES)
    process.make_a_pass()

    assert watched_runs(store) == [run]
    assert [finding.kind for finding in store.findings()] == ["rule_issue"]


def test_a_job_whose_name_the_new_settings_do_not_match_is_no_longer_watched(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    run = place(aws_environment, FIRED)
    Process(store, clock).make_a_pass()
    restarted = Process(store, clock, Config(watch=Watch(jobs=("prod-*",))))
    assert restarted.make_a_pass().watched == []

    assert store.watching() == []
    assert case_of(store, run).findings[0].closing is Closing.UNWATCHED


# -- a person's stop ---------------------------------------------------------------------------------


def test_an_incident_says_who_stopped_its_run_once_the_run_has_ended(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock)
    run = place(aws_environment, FIRED)
    process.make_a_pass()
    store.permit_stop(run, "watcher stop by ana", clock(), 10)
    place(aws_environment, FIRED, TrainingJobStatus="Stopped")
    process.make_a_pass()

    case = case_of(store, run)
    assert case.incident.stop.phase is StopPhase.STOPPED
    assert case.incident.stop.reason.startswith("Stopped by Watcher (watcher stop by ana) at ")
    assert kinds(case) == [ChangeKind.OPENED, ChangeKind.STOPPED, ChangeKind.CLOSED, ChangeKind.RESOLVED]


def test_a_stop_that_waits_is_called_off_when_its_issue_recovers(
    aws_environment: Sandbox, store: MemoryStore, clock: Clock
):
    process = Process(store, clock, WITH_GRACE)
    run = place(aws_environment)
    process.make_a_pass()
    process.pipeline.evaluated(run, evaluated(ISSUES_FOUND))
    assert the_stop(case_of(store, run)).state is DeliveryState.PENDING
    process.pipeline.evaluated(run, evaluated("Recovered"))

    case = case_of(store, run)
    assert the_stop(case).state is DeliveryState.CANCELLED
    assert case.incident.stop.reason == f"Not stopped: {RULE} recovered before the stop."
    process.pipeline.evaluated(run, evaluated(ISSUES_FOUND))
    again = case_of(store, run)
    assert (again.findings[0].episode, the_stop(again).state) == (2, DeliveryState.PENDING)
