"""Stopping jobs through SageMaker's API, after the guards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from watcher.aws.accounts import Accounts
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.config.settings import Stop, Watch
from watcher.delivery.stop import Stopper, StopState
from watcher.errors import AccessDenied
from watcher.policy.stop_guards import Refusal
from watcher.sandbox.process import Sandbox
from watcher.store.memory import MemoryStore


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    yield MemoryStore()


def a_stopper(store: MemoryStore, watch: Watch | None = None, **settings: object) -> Stopper:
    return Stopper(Accounts(), store, Stop.model_validate(settings), lambda: datetime.now(UTC), watch)


def a_running_job(sandbox: Sandbox, name: str = "churn", **members: object) -> str:
    """Its run."""
    sandbox.control.put_training_job(name, **members)
    return TrainingJobs(Aws()).describe(name).run


def stops(sandbox: Sandbox) -> int:
    return sandbox.control.calls().get("sagemaker:StopTrainingJob", 0)


def status(sandbox: Sandbox, name: str = "churn") -> str:
    return str(sandbox.client("sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobStatus"])


def test_a_job_is_stopped_and_the_stop_is_verified(aws_environment: Sandbox, store: MemoryStore):
    run = a_running_job(aws_environment)
    stopper = a_stopper(store)
    assert stopper.attempt(run, "route job *, rule *").state is StopState.STOPPING
    aws_environment.control.put_training_job("churn", TrainingJobStatus="Stopping")
    assert stopper.attempt(run, "route job *, rule *").state is StopState.STOPPING
    aws_environment.control.put_training_job("churn", TrainingJobStatus="Stopped")
    result = stopper.attempt(run, "route job *, rule *")
    assert result.state is StopState.STOPPED
    assert "route job *, rule *" in result.sentence
    assert stops(aws_environment) == 1


def test_a_stop_interrupted_before_its_call_is_completed_later(aws_environment: Sandbox, store: MemoryStore):
    run = a_running_job(aws_environment)
    store.permit_stop(run, "me", datetime.now(UTC), 10)  # the process died here
    assert a_stopper(store, max_per_hour=0).attempt(run, "me").state is StopState.STOPPING
    assert stops(aws_environment) == 1


@pytest.mark.parametrize("ended", ["Completed", "Failed"])
def test_a_job_that_ends_before_the_stop_takes_effect_is_not_called_stopped(
    aws_environment: Sandbox, store: MemoryStore, ended: str
):
    run = a_running_job(aws_environment)
    a_stopper(store).attempt(run, "me")
    aws_environment.control.put_training_job("churn", TrainingJobStatus=ended)
    assert a_stopper(store).attempt(run, "me").state is StopState.ENDED_OTHERWISE


@pytest.mark.parametrize("now", ["Stopping", "Stopped", "Completed", "Failed", "Hibernating"])
def test_only_a_job_in_progress_is_stopped(aws_environment: Sandbox, store: MemoryStore, now: str):
    run = a_running_job(aws_environment)
    aws_environment.control.put_training_job("churn", TrainingJobStatus=now)
    result = a_stopper(store).attempt(run, "me")
    assert (result.state, result.refusal) == (StopState.REFUSED, Refusal.NOT_IN_PROGRESS)
    assert now in result.sentence
    assert stops(aws_environment) == 0


def test_another_job_with_the_same_name_is_left_alone(aws_environment: Sandbox, store: MemoryStore):
    run = a_running_job(aws_environment)
    result = a_stopper(store).attempt(run.replace("123456789012", "999988887777"), "me")
    assert result.refusal is Refusal.ANOTHER_JOB
    assert stops(aws_environment) == 0


def test_a_deleted_job_is_reported_as_gone(aws_environment: Sandbox, store: MemoryStore):
    run = a_running_job(aws_environment)
    aws_environment.control.delete_training_job("churn")
    assert a_stopper(store).attempt(run, "me").refusal is Refusal.GONE


def test_a_new_run_of_the_same_name_is_left_alone(aws_environment: Sandbox, store: MemoryStore):
    run = a_running_job(aws_environment)
    aws_environment.control.delete_training_job("churn")
    later = a_running_job(aws_environment)
    result = a_stopper(store).attempt(run, "me")
    assert result.refusal is Refusal.ANOTHER_RUN
    assert "churn is a new run since" in result.sentence
    assert stops(aws_environment) == 0
    assert a_stopper(store).attempt(later, "me").state is StopState.STOPPING


def test_the_stop_of_one_run_does_not_count_as_the_stop_of_the_next(
    aws_environment: Sandbox, store: MemoryStore
):
    first = a_running_job(aws_environment)
    a_stopper(store).attempt(first, "me")
    aws_environment.control.delete_training_job("churn")
    second = a_running_job(aws_environment)
    aws_environment.control.put_training_job("churn", TrainingJobStatus="Stopped")
    assert a_stopper(store).attempt(second, "me").refusal is Refusal.NOT_IN_PROGRESS
    assert a_stopper(store).attempt(first, "me").refusal is Refusal.ANOTHER_RUN


@pytest.mark.parametrize(
    "watch", [Watch(tags={"watch": "yes"}), Watch(jobs=("prod-*",))], ids=["tag taken off", "other names"]
)
def test_a_route_stops_no_job_that_is_no_longer_watched(
    aws_environment: Sandbox, store: MemoryStore, watch: Watch
):
    run = a_running_job(aws_environment, Tags=[{"Key": "watch", "Value": "no"}])
    result = a_stopper(store, watch).attempt(run, "route job *, rule *")
    assert result.refusal is Refusal.NOT_WATCHED
    assert "no longer watched" in result.sentence
    assert (stops(aws_environment), store.stop_of(run)) == (0, None)
    assert a_stopper(store).attempt(run, "me").state is StopState.STOPPING, "a person may stop any job"


def test_a_route_stops_a_job_that_has_the_tags(aws_environment: Sandbox, store: MemoryStore):
    run = a_running_job(aws_environment, Tags=[{"Key": "watch", "Value": "yes"}])
    stopper = a_stopper(store, Watch(tags={"watch": "yes"}))
    assert stopper.attempt(run, "route job *, rule *").state is StopState.STOPPING


def test_a_dry_run_stops_nothing_and_does_not_count(aws_environment: Sandbox, store: MemoryStore):
    run = a_running_job(aws_environment)
    result = a_stopper(store, dry_run=True).attempt(run, "me")
    assert result.refusal is Refusal.DRY_RUN
    assert "would be stopped" in result.sentence
    assert store.stop_of(run) is None
    assert (stops(aws_environment), status(aws_environment)) == (0, "InProgress")


def test_a_job_younger_than_min_runtime_is_not_stopped(aws_environment: Sandbox, store: MemoryStore):
    run = a_running_job(aws_environment)
    assert a_stopper(store, min_runtime=3600).attempt(run, "me").refusal is Refusal.TOO_YOUNG
    assert stops(aws_environment) == 0


def test_the_hourly_limit_refuses_further_stops(aws_environment: Sandbox, store: MemoryStore):
    runs = [a_running_job(aws_environment, f"job-{number}") for number in range(4)]
    stopper = a_stopper(store, max_per_hour=2)
    results = [stopper.attempt(run, "me") for run in runs]
    assert [result.refusal for result in results] == [None, None, Refusal.BRAKE, Refusal.BRAKE]
    assert "stop.max_per_hour" in results[-1].sentence
    assert stops(aws_environment) == 2
    an_hour_later = Stopper(
        stopper.accounts, store, stopper.settings, lambda: datetime.now(UTC) + timedelta(hours=1, seconds=5)
    )
    assert an_hour_later.attempt(runs[3], "me").state is StopState.STOPPING


def test_a_missing_permission_is_an_error_that_names_it(aws_environment: Sandbox, store: MemoryStore):
    run = a_running_job(aws_environment)
    aws_environment.control.inject_fault("sagemaker:StopTrainingJob", "AccessDeniedException", "not allowed")
    with pytest.raises(AccessDenied, match="sagemaker:StopTrainingJob"):
        a_stopper(store).attempt(run, "me")


def test_a_stop_that_sagemaker_refused_was_none(aws_environment: Sandbox, store: MemoryStore):
    run = a_running_job(aws_environment)
    aws_environment.control.inject_fault(
        "sagemaker:StopTrainingJob", "AccessDeniedException", "not allowed", times=1
    )
    with pytest.raises(AccessDenied):
        a_stopper(store, max_per_hour=1).attempt(run, "me")

    assert store.stop_of(run) is None
    other = a_running_job(aws_environment, "other")
    assert a_stopper(store, max_per_hour=1).attempt(other, "me").state is StopState.STOPPING
