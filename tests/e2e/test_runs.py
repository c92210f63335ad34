"""A job's name is used again, or the job is no longer watched: whose finding is it, and what is stopped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import blocks, changed, issue, running
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.daemon.context import utc_now
from watcher.model import StopPhase
from watcher.sandbox.process import Sandbox

TAGS = [{"Key": "watch", "Value": "yes"}]
IN_PROGRESS = {"RuleConfigurationName": "LossNotDecreasing", "RuleEvaluationStatus": "InProgress"}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """See that a job was stopped without the usual 3 seconds, because jobs of the sandbox stop quickly."""
    monkeypatch.setattr("watcher.delivery.outbox.VERIFY_INTERVAL_S", 0.1)


@pytest.fixture
def stopping(config: Config) -> Config:
    return changed(config, route=[{"stop": True}])


@pytest.fixture
def with_grace(stopping: Config) -> Config:
    """Time enough for whatever happens before the stop."""
    return changed(stopping, stop={"grace": 3600})


def replace_run(sandbox: Sandbox, name: str, **members: Any) -> None:
    """Delete an ended job, and begin a new run with its name."""
    sandbox.control.put_training_job(name, TrainingJobStatus="Stopped", SecondaryStatus="Stopped")
    sagemaker = sandbox.client("sagemaker")
    sagemaker.delete_training_job(TrainingJobName=name)
    sagemaker.close()
    sandbox.control.put_training_job(name, **members)


def stops(sandbox: Sandbox) -> int:
    return sandbox.control.calls().get("sagemaker:StopTrainingJob", 0)


def test_each_run_of_a_name_is_reported_and_stopped_by_itself(
    stopping: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue(step=14)])
    with running(App(stopping)) as app:
        eventually(lambda: slack.messages and "SageMaker confirms it" in blocks(slack), "the first stop")
        replace_run(sandbox, "churn", DebugRuleEvaluationStatuses=[issue(step=98)])
        eventually(lambda: len(slack.messages) == 2, "the alert of the second run")
        eventually(lambda: "SageMaker confirms it" in blocks(slack, 1), "the second stop")
        first, second = app.store.jobs("churn")
    assert stops(sandbox) == 2
    assert first.snapshot.run != second.snapshot.run
    assert "step 14" in blocks(slack, 0)
    assert "step 98" not in blocks(slack, 0)
    assert "step 98" in blocks(slack, 1)


def test_a_run_that_was_replaced_during_the_grace_is_not_stopped_nor_is_its_successor(
    with_grace: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with running(App(with_grace)):
        eventually(lambda: slack.messages and "Watcher stops this job at" in blocks(slack), "the grace")
        sandbox.control.delete_training_job("churn")
        sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[IN_PROGRESS])
        eventually(lambda: "a new run has its name" in blocks(slack), "the first run's end")
        assert "Watcher stops this job" not in blocks(slack)
    assert stops(sandbox) == 0
    assert len(slack.messages) == 1
    assert "watcher stop churn" not in blocks(slack), "that would stop the new run"
    assert "InProgress" not in blocks(slack)


def test_a_stop_finds_a_new_run_under_the_name_and_leaves_it_alone(
    with_grace: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with running(App(with_grace)):
        eventually(lambda: slack.messages and "Watcher stops this job at" in blocks(slack), "the grace")
    sandbox.control.delete_training_job("churn")
    sandbox.control.put_training_job("churn")
    app = App(with_grace)  # and its stop comes before its first pass
    app.outbox.clock = lambda: utc_now() + timedelta(hours=2)
    assert app.outbox.run_until_empty(60)
    (incident,) = app.store.incidents()
    app.close()
    assert incident.stop
    assert incident.stop.phase is StopPhase.NOT_STOPPED
    assert "churn is a new run" in blocks(slack)
    assert "watcher stop churn" not in blocks(slack), "that would stop the new run"
    assert stops(sandbox) == 0


def test_a_job_whose_tag_is_taken_off_is_neither_reported_nor_stopped_nor_asked_for(
    stopping: Config, sandbox: Sandbox, slack: SlackDouble
):
    calls = sandbox.control.calls
    sandbox.control.put_training_job("churn", Tags=TAGS, DebugRuleEvaluationStatuses=[IN_PROGRESS])
    with running(App(changed(stopping, watch={"tags": {"watch": "yes"}}))) as app:
        eventually(app.store.watching, "the job is watched")
        sandbox.control.put_training_job("churn", Tags=[], DebugRuleEvaluationStatuses=[issue()])
        eventually(lambda: not app.store.watching(), "the job is no longer watched")
        described, passes = calls()["sagemaker:DescribeTrainingJob"], calls()["sagemaker:Search"]
        eventually(lambda: calls()["sagemaker:Search"] > passes + 4, "more passes")
        assert calls()["sagemaker:DescribeTrainingJob"] == described
    assert slack.messages == []
    assert stops(sandbox) == 0


def test_a_stop_that_waits_is_called_off_when_the_tag_is_taken_off(
    with_grace: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", Tags=TAGS, DebugRuleEvaluationStatuses=[issue()])
    with running(App(changed(with_grace, watch={"tags": {"watch": "yes"}}))):
        eventually(lambda: slack.messages and "Watcher stops this job at" in blocks(slack), "the grace")
        sandbox.control.put_training_job("churn", Tags=[])
        eventually(lambda: "no longer matches watch.jobs or watch.tags" in blocks(slack), "the end")
        assert "Watcher stops this job" not in blocks(slack)
    assert stops(sandbox) == 0
