"""What a person does on the command line reaches the alert that a running daemon keeps current."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import blocks, issue, running
from tests.e2e.process import Ran, command
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox

USER = getpass.getuser()
Watcher = Callable[..., Ran]


@pytest.fixture
def watcher(config: Config, tmp_path: Path) -> Watcher:
    """Runs a command as a process of its own, with the daemon's store."""
    return partial(command, tmp_path)


def listed(watcher: Watcher) -> dict[str, Any]:
    [incident] = json.loads(watcher("incidents", "--json").out)
    return dict(incident)


def test_an_alert_that_slack_refuses_is_kept_and_sent_by_redeliver_once_the_cause_is_fixed(
    config: Config, sandbox: Sandbox, slack: SlackDouble, watcher: Watcher
):
    slack.fail("chat.postMessage", "not_in_channel", times=1000)
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with running(App(config)) as app:
        eventually(app.store.refused, "the alert is refused")

        status = watcher("status").out
        assert "not_in_channel" in status
        assert "invite it with /invite" in status
        assert "send at once: watcher redeliver" in status
        assert "degraded" not in status
        slack.heal()
        assert watcher("redeliver").code == 0
        eventually(lambda: slack.messages, "the alert")

        assert eventually(lambda: listed(watcher)["deliveries"][0]["state"] == "delivered", "it is stored")
    assert watcher("redeliver").code == 1


def test_who_has_an_incident_is_in_the_message_that_told_of_it(
    config: Config, sandbox: Sandbox, slack: SlackDouble, watcher: Watcher
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with running(App(config)) as app:
        eventually(lambda: app.store.deliveries() and not app.store.has_open(), "the alert")

        assert watcher("ack", "churn").code == 0
        eventually(lambda: USER in blocks(slack), "the edit")

    assert len(slack.messages) == 1
    assert listed(watcher)["acknowledged_by"] == USER


def test_a_stop_by_a_person_is_in_the_message_that_told_of_the_job(
    config: Config, sandbox: Sandbox, slack: SlackDouble, watcher: Watcher
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with running(App(config)):
        eventually(lambda: slack.messages and "no route says to stop it" in blocks(slack), "the alert")

        assert watcher("stop", "churn", "--yes").code == 0
        eventually(lambda: "Stopped by Watcher" in blocks(slack), "the edit")

    assert len(slack.messages) == 1
    assert f"watcher stop by {USER}" in blocks(slack)
    assert "no route says to stop it" not in blocks(slack)
