"""Runs that begin, end or change while nobody looks are found by the next pass, and each is told once.

The sandbox is asked as SageMaker is. Where a test needs hours to pass, it places jobs with the times that
they would have, and turns the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.clock import Clock
from tests.jobs import NOON
from tests.pipelines import Process
from watcher.config.settings import Account, Config, Watch
from watcher.jobs.reconcile import OVERLAP_S
from watcher.model import ChangeKind
from watcher.sandbox.process import Sandbox
from watcher.store.base import JobRecord, Store
from watcher.store.memory import MemoryStore
from watcher.store.sqlite import SqliteStore

RULE = "LossNotDecreasing"
FIRED = [{"RuleConfigurationName": RULE, "RuleEvaluationStatus": "IssuesFound"}]
RUNNING = [{"RuleConfigurationName": RULE, "RuleEvaluationStatus": "InProgress"}]
CHURN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/churn"


class CountingStore(MemoryStore):
    """Counts the reads of records."""

    def __init__(self) -> None:
        super().__init__()
        self.records_read = self.jobs_held = 0

    def job(self, run: str) -> JobRecord | None:
        self.records_read += 1
        return super().job(run)

    def hold(self, names: Sequence[str], owner: str, lease: float) -> set[str]:
        self.jobs_held += len(names)
        return super().hold(names, owner, lease)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> CountingStore:
    return CountingStore()


@pytest.fixture
def process(aws_environment: Sandbox, store: CountingStore, clock: Clock) -> Process:
    return Process(store, clock)


def ended(sandbox: Sandbox, name: str, at: datetime, status: str = "Failed", **members: Any) -> None:
    """Place a job that ran for eight seconds until `at`."""
    sandbox.control.put_training_job(
        name,
        TrainingJobStatus=status,
        SecondaryStatus=status,
        CreationTime=(at - timedelta(seconds=60)).timestamp(),
        TrainingStartTime=(at - timedelta(seconds=8)).timestamp(),
        TrainingEndTime=at.timestamp(),
        LastModifiedTime=at.timestamp(),
        **members,
    )


def told(store: Store) -> list[tuple[str, str]]:
    """Job and text of everything that was told, in alphabetical order."""
    opened = (ChangeKind.OPENED, ChangeKind.WORSE, ChangeKind.ADDED)
    changes = [change for change in store.history() if change.kind in opened]
    return sorted((store.job(change.run).snapshot.name, change.text) for change in changes)  # type: ignore[union-attr]


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


# -- between two passes, over restarts and pauses --------------------------------------------------


def test_a_job_of_eight_seconds_between_two_passes_is_told_once(
    process: Process, aws_environment: Sandbox, store: CountingStore
):
    process.make_a_pass()
    ended(aws_environment, "churn", NOON + timedelta(seconds=12))
    for number in range(1, 20):
        process.make_a_pass(NOON + timedelta(seconds=30 * number))

    assert told(store) == [("churn", "the job failed")]


def test_a_job_whose_rule_fires_and_that_completes_while_no_process_runs_is_told_once(
    aws_environment: Sandbox, store: CountingStore, clock: Clock
):
    Process(store, clock).make_a_pass()
    ended(aws_environment, "churn", NOON + minutes(50), "Completed", DebugRuleEvaluationStatuses=FIRED)
    for restart in range(3):
        Process(store, clock).make_a_pass(NOON + minutes(60 + restart))

    assert told(store) == [("churn", f"{RULE} found an issue")]


def test_a_job_that_ends_while_no_process_runs_is_told_with_what_it_ended_with(
    aws_environment: Sandbox, store: CountingStore, clock: Clock
):
    aws_environment.control.put_training_job("churn", DebugRuleEvaluationStatuses=RUNNING)
    Process(store, clock).make_a_pass()
    aws_environment.control.put_training_job(
        "churn", TrainingJobStatus="Failed", FailureReason="AlgorithmError", DebugRuleEvaluationStatuses=FIRED
    )
    for restart in range(2):
        Process(store, clock).make_a_pass(NOON + minutes(60 + restart))

    assert told(store) == [("churn", f"{RULE} found an issue"), ("churn", "the job failed")]


def test_a_pass_of_cron_tells_each_run_once_from_a_file(
    aws_environment: Sandbox, tmp_path: Path, clock: Clock
):
    for hour in range(4):
        clock.now = NOON + timedelta(hours=hour)
        store = SqliteStore(tmp_path / "watcher.db")
        Process(store, clock).make_a_pass()
        ended(aws_environment, f"job-{hour}", clock.now + minutes(30))
        all_told = told(store)
        store.close()

    assert all_told == [(f"job-{hour}", "the job failed") for hour in range(3)]


def test_what_happened_while_a_laptop_slept_for_a_weekend_is_told(
    process: Process, aws_environment: Sandbox, store: CountingStore
):
    process.make_a_pass()
    for hours in (1, 30, 59):
        ended(aws_environment, f"after-{hours}-hours", NOON + timedelta(hours=hours))
    process.make_a_pass(NOON + timedelta(hours=60))
    process.make_a_pass(NOON + timedelta(hours=60, seconds=30))

    assert [job for job, _ in told(store)] == ["after-1-hours", "after-30-hours", "after-59-hours"]


@pytest.mark.parametrize(
    ("look_back", "expected"),
    [(3600, ["59-minutes-ago"]), (7200, ["59-minutes-ago", "61-minutes-ago"]), (0, [])],
)
def test_the_first_start_looks_back_a_bounded_time(
    aws_environment: Sandbox, store: CountingStore, clock: Clock, look_back: float, expected: list[str]
):
    for ago in (59, 61, 300):
        ended(aws_environment, f"{ago}-minutes-ago", NOON - minutes(ago))
    process = Process(store, clock, Config(watch=Watch(look_back=look_back)))
    process.make_a_pass()

    assert [job for job, _ in told(store)] == expected


def test_a_change_that_search_finds_late_is_told(
    process: Process, aws_environment: Sandbox, store: CountingStore
):
    process.make_a_pass()
    ended(aws_environment, "churn", NOON - timedelta(seconds=OVERLAP_S - 10))
    process.make_a_pass(NOON + timedelta(seconds=30))

    assert told(store) == [("churn", "the job failed")]


def test_a_clock_that_is_set_back_loses_nothing(
    process: Process, aws_environment: Sandbox, store: CountingStore
):
    process.make_a_pass(NOON + timedelta(hours=1))
    ended(aws_environment, "churn", NOON)
    process.make_a_pass(NOON + minutes(1))

    assert told(store) == [("churn", "the job failed")]


# -- the mark --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [0, 1], ids=["jobs in progress", "changed jobs"])
def test_after_a_pass_that_failed_the_next_one_looks_back_further(
    process: Process, aws_environment: Sandbox, store: CountingStore, fails: int
):
    process.make_a_pass()
    ended(aws_environment, "churn", NOON + minutes(1))
    aws_environment.control.inject_fault("sagemaker:Search", "ValidationException", "not now", after=fails)
    assert not process.make_a_pass(NOON + minutes(30)).complete
    assert told(store) == []
    aws_environment.control.clear_faults()
    assert process.make_a_pass(NOON + minutes(60)).complete

    assert told(store) == [("churn", "the job failed")]


def test_one_place_that_refuses_holds_back_the_mark_of_no_other(
    aws_environment: Sandbox, store: CountingStore, clock: Clock
):
    member = Account(role_arn="arn:aws:iam::999999999999:role/watcher")
    process = Process(store, clock, Config(account=(member,)))
    aws_environment.control.inject_fault("sts:AssumeRole", "AccessDenied", "not authorized", status=403)
    assert not process.make_a_pass().complete
    home, other = process.pipeline.accounts.places

    assert (store.mark(home.name), store.mark(other.name)) == (NOON, None)


def test_a_pass_that_is_cut_short_does_not_move_the_mark(
    process: Process, aws_environment: Sandbox, store: CountingStore
):
    object.__setattr__(process.reconciler, "stopping", lambda: True)
    process.make_a_pass()

    assert store.mark("us-east-1") is None


# -- rules that end after their job ----------------------------------------------------------------


def test_a_run_that_is_found_ended_is_followed_until_its_rules_are_final(
    process: Process, aws_environment: Sandbox, store: CountingStore
):
    ended(aws_environment, "churn", NOON - minutes(1), "Completed", DebugRuleEvaluationStatuses=RUNNING)
    process.make_a_pass()
    assert [job.name for job in store.watching()] == ["churn"]
    aws_environment.control.put_training_job("churn", DebugRuleEvaluationStatuses=FIRED)
    process.make_a_pass(NOON + minutes(1))

    assert told(store) == [("churn", f"{RULE} found an issue")]
    assert store.watching() == []


def test_a_rule_that_becomes_final_when_its_job_is_no_longer_followed_is_told(
    process: Process, aws_environment: Sandbox, store: CountingStore
):
    ended(aws_environment, "churn", NOON - minutes(40), "Completed", DebugRuleEvaluationStatuses=RUNNING)
    process.make_a_pass()
    assert store.watching() == []
    late = (NOON + timedelta(hours=2)).timestamp()
    aws_environment.control.put_training_job(
        "churn", DebugRuleEvaluationStatuses=FIRED, LastModifiedTime=late
    )
    process.make_a_pass(NOON + timedelta(hours=2, minutes=1))

    assert told(store) == [("churn", f"{RULE} found an issue")]
    assert store.watching() == []


def test_the_profiler_rules_of_a_run_that_is_found_ended_are_read(
    process: Process, aws_environment: Sandbox, store: CountingStore
):
    profiler = [{"RuleConfigurationName": "ProfilerReport", "RuleEvaluationStatus": "IssuesFound"}]
    ended(aws_environment, "churn", NOON, "Completed", ProfilerRuleEvaluationStatuses=profiler)
    process.make_a_pass()

    assert told(store) == [("churn", "ProfilerReport found an issue")]


# -- without the permission for Search -------------------------------------------------------------


def test_without_search_an_ended_job_is_found_by_listing_and_told_once(
    process: Process, aws_environment: Sandbox, store: CountingStore
):
    aws_environment.control.inject_fault("sagemaker:Search", "AccessDeniedException", "not authorized")
    process.make_a_pass()
    ended(aws_environment, "churn", NOON + timedelta(seconds=12))
    for number in range(1, 4):
        process.make_a_pass(NOON + timedelta(seconds=30 * number))

    assert told(store) == [("churn", "the job failed")]
    assert store.mark("us-east-1") == NOON + timedelta(seconds=90)


def test_without_search_the_mark_waits_for_the_listed_jobs_to_be_described(
    process: Process, aws_environment: Sandbox, store: CountingStore, clock: Clock
):
    aws_environment.control.inject_fault("sagemaker:Search", "AccessDeniedException", "not authorized")
    ended(aws_environment, "churn", NOON)
    process.reconciler.run()
    clock.turn(30)
    process.reconciler.run()
    assert store.mark("us-east-1") == NOON

    process.look_at_queued_jobs()
    process.make_a_pass(NOON + minutes(2))
    assert store.mark("us-east-1") == NOON + minutes(2)


# -- what it costs ---------------------------------------------------------------------------------


def test_a_pass_over_known_jobs_that_have_not_changed_costs_one_more_search_and_reads_no_record(
    process: Process, aws_environment: Sandbox, store: CountingStore
):
    for number in range(30):
        ended(aws_environment, f"ended-{number}", NOON)
    aws_environment.control.put_training_jobs(
        {"TrainingJobName": f"running-{number}", "TrainingJobStatus": "InProgress"} for number in range(30)
    )
    process.make_a_pass()
    process.make_a_pass()
    aws_environment.control.forget_calls()
    store.records_read = store.jobs_held = 0
    process.make_a_pass(NOON + timedelta(seconds=30))

    assert aws_environment.control.calls() == {"sagemaker:Search": 2}
    assert (store.records_read, store.jobs_held) == (0, 0)


def test_with_jobs_named_on_the_command_line_nothing_is_searched(
    aws_environment: Sandbox, store: CountingStore, clock: Clock
):
    ended(aws_environment, "churn", NOON)
    ended(aws_environment, "another", NOON)
    process = Process(store, clock, None, CHURN)
    process.make_a_pass()

    assert [job for job, _ in told(store)] == ["churn"]
    assert process.reconciler.finished()
    assert "sagemaker:Search" not in aws_environment.control.calls()


def test_jobs_that_the_settings_do_not_name_are_not_told(
    aws_environment: Sandbox, store: CountingStore, clock: Clock
):
    watched = [{"Key": "watch", "Value": "yes"}]
    ended(aws_environment, "churn-1", NOON, Tags=watched)
    ended(aws_environment, "churn-2", NOON)
    ended(aws_environment, "fraud-1", NOON, Tags=watched)
    Process(store, clock, Config(watch=Watch(jobs=("churn-*",), tags={"watch": "yes"}))).make_a_pass()

    assert [job for job, _ in told(store)] == ["churn-1"]


def test_the_real_clock_of_sagemaker_is_compared_with_the_mark(
    aws_environment: Sandbox, store: CountingStore
):
    process = Process(store, Clock(datetime.now(UTC)))
    process.make_a_pass()
    aws_environment.control.put_training_job("churn")
    aws_environment.control.put_training_job("churn", TrainingJobStatus="Failed")
    process.make_a_pass(datetime.now(UTC))

    assert told(store) == [("churn", "the job failed")]
