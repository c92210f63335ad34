"""What happens to a job while nobody looks is reported, once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import issue, running, texts
from tests.e2e.process import command, write_settings
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox

FAILED = {
    "TrainingJobStatus": "Failed",
    "SecondaryStatus": "Failed",
    "FailureReason": "AlgorithmError: exit code 1",
}
COMPLETED = {"TrainingJobStatus": "Completed", "SecondaryStatus": "Completed"}


def one_pass(config: Config) -> None:
    app = App(config)
    assert app.run_once()
    app.close()


@pytest.fixture
def watched_before(config: Config) -> Config:
    """A configuration with whose store Watcher ran before, and runs no more."""
    one_pass(config)
    return config


def test_a_job_that_began_and_failed_while_no_daemon_ran_is_reported_once(
    watched_before: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("brief", **FAILED)
    with running(App(watched_before)):
        eventually(lambda: slack.messages, "an alert")
    one_pass(watched_before)
    (text,) = texts(slack)
    assert "brief failed" in text


def test_a_rule_that_fired_on_a_job_that_completed_while_no_daemon_ran_is_reported_once(
    watched_before: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("brief", DebugRuleEvaluationStatuses=[issue()], **COMPLETED)
    with running(App(watched_before)):
        eventually(lambda: slack.messages, "an alert")
    one_pass(watched_before)
    (text,) = texts(slack)
    assert "LossNotDecreasing found an issue in brief at step 14" in text


def test_a_job_that_begins_and_ends_between_two_passes_is_reported_once(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    def passes() -> int:
        return sandbox.control.calls().get("sagemaker:Search", 0)

    with running(App(config)) as app:
        eventually(lambda: app.store.mark("us-east-1") or passes() > 2, "a pass that found nothing")
        sandbox.control.put_training_job("brief", **FAILED)
        eventually(lambda: slack.messages, "an alert")
        before = passes()
        eventually(lambda: passes() > before + 4, "more passes")
    assert len(slack.messages) == 1


def test_passes_that_cron_starts_report_what_happened_between_them_once(
    config: Config, sandbox: Sandbox, slack: SlackDouble, tmp_path: Path
):
    write_settings(config, tmp_path)
    assert command(tmp_path, "run", "--once").code == 0
    sandbox.control.put_training_job("brief", DebugRuleEvaluationStatuses=[issue()], **FAILED)
    for _ in range(2):
        assert command(tmp_path, "run", "--once").code == 0
    (text,) = texts(slack)
    assert "brief" in text


def test_the_first_daemon_ever_reports_what_ended_lately_and_nothing_older(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    now = time.time()
    for name, ago in (("yesterday", 86_400), ("lately", 600)):
        began, ended = now - ago - 60, now - ago
        times = {"CreationTime": began, "TrainingStartTime": began, "TrainingEndTime": ended}
        sandbox.control.put_training_job(name, LastModifiedTime=ended, **times, **FAILED)
    one_pass(config)
    (text,) = texts(slack)
    assert "lately failed" in text
