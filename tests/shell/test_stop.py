"""Stopping jobs through SageMaker's API, after the guards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from watcher.aws.accounts import Accounts
from watcher.config.settings import Stop
from watcher.delivery.stop import Stopper, StopState
from watcher.errors import AccessDenied
from watcher.policy.stop_guards import Refusal
from watcher.sandbox.process import Sandbox
from watcher.store.memory import MemoryStore


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    yield MemoryStore()


def a_stopper(store: MemoryStore, **settings: object) -> Stopper:
    return Stopper(Accounts(), store, Stop.model_validate(settings), lambda: datetime.now(UTC))


def a_running_job(sandbox: Sandbox, name: str = "churn") -> str:
    return str(sandbox.control.put_training_job(name)["TrainingJobArn"])


def stops(sandbox: Sandbox) -> int:
    return sandbox.control.calls().get("sagemaker:StopTrainingJob", 0)


def status(sandbox: Sandbox, name: str = "churn") -> str:
    return str(sandbox.client("sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobStatus"])


def test_a_job_is_stopped_and_the_stop_is_verified(aws_environment: Sandbox, store: MemoryStore):
    arn = a_running_job(aws_environment)
    stopper = a_stopper(store)
    assert stopper.attempt(arn, "route job *, rule *").state is StopState.STOPPING
    aws_environment.control.put_training_job("churn", TrainingJobStatus="Stopping")
    assert stopper.attempt(arn, "route job *, rule *").state is StopState.STOPPING
    aws_environment.control.put_training_job("churn", TrainingJobStatus="Stopped")
    result = stopper.attempt(arn, "route job *, rule *")
    assert result.state is StopState.STOPPED
    assert "route job *, rule *" in result.sentence
    assert stops(aws_environment) == 1


def test_a_stop_interrupted_before_its_call_is_completed_later(aws_environment: Sandbox, store: MemoryStore):
    arn = a_running_job(aws_environment)
    store.permit_stop(arn, "me", datetime.now(UTC), 10)  # the process died here
    assert a_stopper(store, max_per_hour=0).attempt(arn, "me").state is StopState.STOPPING
    assert stops(aws_environment) == 1


@pytest.mark.parametrize("ended", ["Completed", "Failed"])
def test_a_job_that_ends_before_the_stop_takes_effect_is_not_called_stopped(
    aws_environment: Sandbox, store: MemoryStore, ended: str
):
    arn = a_running_job(aws_environment)
    a_stopper(store).attempt(arn, "me")
    aws_environment.control.put_training_job("churn", TrainingJobStatus=ended)
    assert a_stopper(store).attempt(arn, "me").state is StopState.ENDED_OTHERWISE


@pytest.mark.parametrize("now", ["Stopping", "Stopped", "Completed", "Failed", "Hibernating"])
def test_only_a_job_in_progress_is_stopped(aws_environment: Sandbox, store: MemoryStore, now: str):
    arn = a_running_job(aws_environment)
    aws_environment.control.put_training_job("churn", TrainingJobStatus=now)
    result = a_stopper(store).attempt(arn, "me")
    assert (result.state, result.refusal) == (StopState.REFUSED, Refusal.NOT_IN_PROGRESS)
    assert now in result.sentence
    assert stops(aws_environment) == 0


def test_another_job_with_the_same_name_is_left_alone(aws_environment: Sandbox, store: MemoryStore):
    arn = a_running_job(aws_environment)
    result = a_stopper(store).attempt(arn.replace("123456789012", "999988887777"), "me")
    assert result.refusal is Refusal.ANOTHER_JOB
    assert stops(aws_environment) == 0


def test_a_deleted_job_is_reported_as_gone(aws_environment: Sandbox, store: MemoryStore):
    arn = a_running_job(aws_environment)
    aws_environment.control.delete_training_job("churn")
    assert a_stopper(store).attempt(arn, "me").refusal is Refusal.GONE


def test_a_dry_run_stops_nothing_and_does_not_count(aws_environment: Sandbox, store: MemoryStore):
    arn = a_running_job(aws_environment)
    result = a_stopper(store, dry_run=True).attempt(arn, "me")
    assert result.refusal is Refusal.DRY_RUN
    assert "would be stopped" in result.sentence
    assert store.stop_of(arn) is None
    assert (stops(aws_environment), status(aws_environment)) == (0, "InProgress")


def test_a_job_younger_than_min_runtime_is_not_stopped(aws_environment: Sandbox, store: MemoryStore):
    arn = a_running_job(aws_environment)
    assert a_stopper(store, min_runtime=3600).attempt(arn, "me").refusal is Refusal.TOO_YOUNG
    assert stops(aws_environment) == 0


def test_the_hourly_limit_refuses_further_stops(aws_environment: Sandbox, store: MemoryStore):
    arns = [a_running_job(aws_environment, f"job-{number}") for number in range(4)]
    stopper = a_stopper(store, max_per_hour=2)
    results = [stopper.attempt(arn, "me") for arn in arns]
    assert [result.refusal for result in results] == [None, None, Refusal.BRAKE, Refusal.BRAKE]
    assert "stop.max_per_hour" in results[-1].sentence
    assert stops(aws_environment) == 2
    an_hour_later = Stopper(
        stopper.accounts, store, stopper.settings, lambda: datetime.now(UTC) + timedelta(hours=1, seconds=5)
    )
    assert an_hour_later.attempt(arns[3], "me").state is StopState.STOPPING


def test_a_missing_permission_is_an_error_that_names_it(aws_environment: Sandbox, store: MemoryStore):
    arn = a_running_job(aws_environment)
    aws_environment.control.inject_fault("sagemaker:StopTrainingJob", "AccessDeniedException", "not allowed")
    with pytest.raises(AccessDenied, match="sagemaker:StopTrainingJob"):
        a_stopper(store).attempt(arn, "me")
