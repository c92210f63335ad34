"""Events from EventBridge over SQS: changes are reported immediately, and processes share the work."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import changed, issue, running
from tests.e2e.queues import Queues, create_queues, event
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox

PASS_INTERVAL_S = 10 * 365 * 86_400
"""So long that anything reported earlier must come from an event."""


@pytest.fixture
def queue(sandbox: Sandbox) -> Queues:
    return create_queues(sandbox)


@pytest.fixture
def evented(config: Config, queue: Queues) -> Config:
    return changed(config, watch={"poll_interval": PASS_INTERVAL_S, "queue_url": queue.url})


def rule(status: str = "InProgress") -> dict[str, str]:
    return {"RuleConfigurationName": "LossNotDecreasing", "RuleEvaluationStatus": status}


def test_a_change_is_reported_when_its_event_arrives(
    evented: Config, queue: Queues, sandbox: Sandbox, slack: SlackDouble
):
    with running(App(evented)) as app:
        sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[rule()])
        eventually(app.store.watching, "the job is known from its event")
        sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
        eventually(lambda: slack.messages, "an alert")
        eventually(lambda: queue.depth() == (0, 0), "every message is deleted")
    assert len(slack.messages) == 1


def test_a_job_that_starts_and_ends_between_two_passes_is_seen(
    evented: Config, sandbox: Sandbox, slack: SlackDouble
):
    with running(App(evented)):
        sandbox.control.put_training_job(
            "brief", TrainingJobStatus="Failed", FailureReason="AlgorithmError: exit code 1"
        )
        eventually(lambda: slack.messages, "an alert")
    assert "failed" in slack.messages[0]["text"]


def test_irrelevant_messages_are_deleted_and_block_nothing(
    evented: Config, queue: Queues, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    envelope = json.dumps({"Type": "Notification", "Message": event("churn")})
    queue.send("no JSON", "[]", '{"detail-type": "Something Else"}', event("long-gone"))
    queue.send(envelope, event("churn"), event("churn"))
    with running(App(evented)):
        eventually(lambda: slack.messages, "an alert")
        eventually(lambda: queue.depth() == (0, 0), "every message is deleted")
    assert len(slack.messages) == 1


def test_an_event_is_not_lost_when_sagemaker_refuses(
    evented: Config, queue: Queues, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    sandbox.control.inject_fault("sagemaker:*", "InternalFailure", "down", status=500)
    app = App(evented)
    assert app.queued
    app.queued._retry_delay = lambda receives: 0
    with running(app):
        eventually(lambda: sandbox.control.calls().get("sagemaker:DescribeTrainingJob", 0) > 2, "tries")
        assert queue.depth() != (0, 0)
        sandbox.control.clear_faults()
        eventually(lambda: slack.messages, "an alert")
        eventually(lambda: queue.depth() == (0, 0), "every message is deleted")


def test_one_of_several_processes_reconciles_and_all_handle_the_jobs_it_finds(
    evented: Config, queue: Queues, sandbox: Sandbox, slack: SlackDouble
):
    """The processes share the queue and the store."""
    jobs: list[dict[str, Any]] = [
        {"TrainingJobName": f"job-{number:02d}", "DebugRuleEvaluationStatuses": [issue()]}
        for number in range(40)
    ]
    sandbox.control.put_training_jobs(jobs)
    eventually(lambda: sum(queue.depth()) >= 40, "the events of the placed jobs")
    sandbox.control.forget_calls()
    with ExitStack() as replicas:
        apps = [replicas.enter_context(running(App(evented))) for _ in range(3)]
        eventually(lambda: len(slack.messages) >= 40, "every alert")
        eventually(lambda: queue.depth() == (0, 0), "every message is deleted")
        assert sandbox.control.calls()["sagemaker:Search"] == 2, "one pass, which searches twice"
        assert len(apps) == 3
    incidents = [message["metadata"]["event_payload"]["incident_id"] for message in slack.messages]
    assert len(incidents) == len(set(incidents)) == 40
