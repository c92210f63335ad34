"""What Slack says about the stop of a job is true whenever it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import Readers, blocks, changed, issue, running
from tests.e2e.process import command
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox

RULES = ("LossNotDecreasing", "VanishingGradient")
LONG_S = 3600


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the usual pauses: jobs of the sandbox stop quickly, and so do the failures of this Slack."""
    monkeypatch.setattr("watcher.delivery.outbox.VERIFY_INTERVAL_S", 0.1)
    monkeypatch.setattr("watcher.delivery.outbox.FIRST_RETRY_DELAY_S", 0.2)
    monkeypatch.setattr("watcher.delivery.outbox.MAX_CLAIM_INTERVAL_S", 0.1)


def stopping(config: Config, grace: float, grace_limit: float = 2 * LONG_S) -> Config:
    """The first rule stops the job, the others do not."""
    route = [{"rule": RULES[0], "stop": True}]
    return changed(config, route=route, stop={"grace": grace, "grace_limit": grace_limit})


def stops(sandbox: Sandbox) -> int:
    return sandbox.control.calls().get("sagemaker:StopTrainingJob", 0)


def test_a_second_rule_that_fires_before_the_stop_never_says_that_the_job_goes_on(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    readers = Readers(slack)
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue(RULES[0])])
    with running(App(stopping(config, grace=LONG_S))):
        eventually(lambda: slack.messages and "Watcher stops this job at" in blocks(slack), "the grace")
        sandbox.control.put_training_job(
            "churn", DebugRuleEvaluationStatuses=[issue(RULES[0]), issue(RULES[1], step=20)]
        )
        eventually(lambda: RULES[1] in blocks(slack), "the second rule")
        assert "Watcher stops this job at" in blocks(slack)
        sandbox.control.put_training_job("churn", TrainingJobStatus="Stopped", SecondaryStatus="Stopped")
        eventually(lambda: "The job was stopped already, not by Watcher" in blocks(slack), "the end")
    assert len(slack.messages) == 1
    assert not any("no route" in read for read in readers.read)


def test_two_rules_that_fire_together_and_the_stop_are_one_message(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    readers = Readers(slack)
    both = [issue(RULES[1], step=20), issue(RULES[0])]
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=both)
    with running(App(stopping(config, grace=0.5))):
        eventually(lambda: slack.messages and "SageMaker confirms it" in blocks(slack), "the confirmation")
    assert len(slack.messages) == 1
    assert all(rule in blocks(slack) for rule in RULES)
    assert not any("no route" in read or "The job continues" in read for read in readers.read)


def test_the_grace_begins_when_the_alert_can_be_read(config: Config, sandbox: Sandbox, slack: SlackDouble):
    slack.fail("chat.postMessage", "status_500", times=0)
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue(RULES[0])])
    with running(App(stopping(config, grace=0.1))):
        eventually(lambda: slack.calls["chat.postMessage"] > 2, "three attempts, which take longer")
        assert stops(sandbox) == 0
        slack.heal()
        eventually(lambda: stops(sandbox), "the stop")
        assert len(slack.messages) == 1
        eventually(lambda: "SageMaker confirms it" in blocks(slack), "the confirmation")


def test_a_destination_that_cannot_be_reached_delays_the_stop_by_the_limit_and_no_longer(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    slack.fail("chat.postMessage", "status_500", times=0)
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue(RULES[0])])
    with running(App(stopping(config, grace=0.1, grace_limit=0.5))):
        eventually(lambda: stops(sandbox), "the stop")
        assert slack.messages == []
        slack.heal()
        eventually(lambda: slack.messages and "SageMaker confirms it" in blocks(slack), "the alert")
    assert len(slack.messages) == 1


def test_an_alert_that_was_deleted_is_posted_again_with_the_outcome_of_the_stop(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue(RULES[0])])
    with running(App(stopping(config, grace=LONG_S))) as app:
        eventually(lambda: slack.messages and "Watcher stops this job at" in blocks(slack), "the grace")
        slack.workspace.messages.clear()
        sandbox.control.put_training_job("churn", TrainingJobStatus="Completed", SecondaryStatus="Completed")
        eventually(lambda: slack.messages, "another message")
        eventually(lambda: not app.store.has_open(), "it is settled")
    (message,) = slack.messages
    assert "Not stopped: churn ended (Completed) before the stop took effect" in blocks(slack)
    assert "churn" in message["text"]
    assert stops(sandbox) == 0


def test_an_alert_that_was_deleted_is_posted_again_when_a_stop_is_refused(
    config: Config, sandbox: Sandbox, slack: SlackDouble, tmp_path: Path
):
    sandbox.control.inject_fault("sagemaker:StopTrainingJob", "AccessDeniedException", "not allowed")
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with running(App(config)) as app:
        eventually(lambda: slack.messages and not app.store.has_open(), "the alert")
        slack.workspace.messages.clear()
        assert command(tmp_path, "stop", "churn", "--yes").code == 1
        eventually(lambda: slack.messages and "Not stopped: " in blocks(slack), "another message")
        eventually(lambda: not app.store.has_open(), "it is settled")
    assert "sagemaker:StopTrainingJob" in blocks(slack)
    assert len(slack.messages) == 1


def test_the_alert_of_a_job_that_has_completed_does_not_say_that_it_continues(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with running(App(config)):
        eventually(lambda: slack.messages and "The job continues" in blocks(slack), "the alert")
        sandbox.control.put_training_job("churn", TrainingJobStatus="Completed", SecondaryStatus="Completed")
        eventually(lambda: "The job continues" not in blocks(slack), "the edit")
    assert "Completed" in blocks(slack)
    assert len(slack.messages) == 1
