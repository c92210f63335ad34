"""Problems in a rule's log reach Slack while the rule's status still says InProgress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import blocks, changed, running, texts
from tests.e2e.daemon import Daemons, end, end_leases, kill
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.logs.stuck_rules import MAX_STATUS_DELAY
from watcher.sandbox.process import Sandbox

RULE = "LossNotDecreasing"
IN_PROGRESS = {"RuleConfigurationName": RULE, "RuleEvaluationStatus": "InProgress"}
STARTED = (
    "[2026-11-20 12:00:00.345 ip-10-0-1-7:1 INFO rule_invoker.py:15] "
    "Started execution of rule LossNotDecreasing at step 0"
)
TRACEBACK = ["Traceback (most recent call last):", '  File "rule.py", line 31', "KeyError: 'loss'"]
TITLE = f"{RULE} is stuck on churn"


def place(sandbox: Sandbox, *said: str, ago: timedelta) -> None:
    """Place a job in training whose rule is in progress and logged these lines some time ago."""
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[IN_PROGRESS])
    stream = sandbox.control.write_logs("churn", [], rule=RULE)
    at = int((datetime.now(UTC) - ago).timestamp() * 1000)
    logs: Any = sandbox.client("logs")
    logs.put_log_events(
        logGroupName="/aws/sagemaker/ProcessingJobs",
        logStreamName=stream,
        logEvents=[{"timestamp": at, "message": line} for line in said],
    )
    logs.close()


def readings(sandbox: Sandbox) -> int:
    return sandbox.control.calls().get("logs:FilterLogEvents", 0)


def test_a_rule_whose_log_ends_with_a_traceback_is_reported_once_despite_kills(
    config: Config, sandbox: Sandbox, slack: SlackDouble, daemons: Daemons
):
    place(sandbox, STARTED, *TRACEBACK, ago=MAX_STATUS_DELAY + timedelta(seconds=5))
    daemon = daemons.start(config)
    eventually(lambda: slack.messages, "an alert")
    for _ in range(2):
        kill(daemon)
        end_leases(config)
        before = readings(sandbox)
        daemon = daemons.start(config)
        eventually(lambda before=before: readings(sandbox) >= before + 2, "the log was read again")
    assert end(daemon) == [0]
    (message,) = slack.messages
    shown = blocks(slack)
    assert message["text"].startswith(TITLE)
    assert "status is still InProgress: KeyError: 'loss'" in shown
    assert "Started execution of rule LossNotDecreasing at step 0" in shown


def test_a_rule_that_falls_silent_is_reported(config: Config, sandbox: Sandbox, slack: SlackDouble):
    place(sandbox, STARTED, ago=timedelta(seconds=1))
    with running(App(changed(config, rules={"stuck_after": 1}))):
        eventually(lambda: slack.messages, "an alert")
    assert texts(slack)[0].startswith(TITLE)
    assert "has written nothing in" in blocks(slack)


def test_with_stuck_after_0_the_logs_of_rules_in_progress_are_not_read(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    place(sandbox, STARTED, *TRACEBACK, ago=MAX_STATUS_DELAY + timedelta(seconds=5))
    with running(App(changed(config, rules={"stuck_after": 0}))):
        eventually(lambda: sandbox.control.calls().get("sagemaker:Search", 0) > 4, "three passes")
    assert readings(sandbox) == 0
    assert slack.messages == []
