"""What Slack refuses is kept, shown, and sent when the cause is gone."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.doubles.slack import Conversation, SlackDouble
from tests.e2e.conftest import changed, issue, running
from tests.e2e.process import command
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox


@pytest.fixture
def outside(config: Config) -> Config:
    """Alerts go to a channel that the bot is not in."""
    return changed(config, slack={"channel": "#others"}, http={"listen": "127.0.0.1:0"})


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon sees at once what a command has changed in the store, and tries nothing again before."""
    monkeypatch.setattr("watcher.delivery.outbox.MAX_CLAIM_INTERVAL_S", 0.1)
    monkeypatch.setattr("watcher.delivery.outbox.FIRST_REFUSED_DELAY_S", 3600.0)
    monkeypatch.setattr("watcher.web.readiness.CHECK_INTERVAL_S", 0.0)


def others(slack: SlackDouble) -> Conversation:
    return next(one for one in slack.workspace.conversations if one.name == "others")


def get(app: App, page: str) -> str:
    server = eventually(lambda: app.server, "the daemon listens")
    return httpx.get(f"http://127.0.0.1:{server.port}/{page}", trust_env=False).text


REFUSED = 'watcher_refused_deliveries{destination="slack"}'


def test_readyz_and_metrics_show_what_is_refused_until_it_is_redelivered(
    outside: Config, sandbox: Sandbox, slack: SlackDouble, tmp_path: Path
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with running(App(outside)) as app:
        eventually(app.store.refused, "the refusal")
        assert "slack:#others has refused the alerts of 1 incident" in get(app, "readyz")
        assert "not_in_channel" in get(app, "readyz")
        assert f"{REFUSED} 1.0" in get(app, "metrics")

        others(slack).member = True
        redelivered = command(tmp_path, "redeliver")
        assert (redelivered.code, redelivered.err) == (0, "")
        eventually(lambda: slack.messages, "the alert")
        eventually(lambda: not app.store.refused(), "nothing is refused")
        assert "refused" not in get(app, "readyz")
        assert f"{REFUSED} 0.0" in get(app, "metrics")
    assert len(slack.messages) == 1


@pytest.mark.parametrize("error", ["not_in_channel", "channel_not_found", "is_archived", "token_revoked"])
def test_a_refused_alert_is_delivered_by_itself_once_the_cause_is_gone(
    config: Config,
    sandbox: Sandbox,
    slack: SlackDouble,
    monkeypatch: pytest.MonkeyPatch,
    error: str,
):
    monkeypatch.setattr("watcher.delivery.outbox.FIRST_REFUSED_DELAY_S", 0.1)
    slack.fail("chat.postMessage", error, times=0)
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with running(App(config)) as app:
        eventually(lambda: slack.calls["chat.postMessage"] > 2, "three attempts")
        slack.heal()
        eventually(lambda: slack.messages, "the alert")
        eventually(lambda: not app.store.has_open(), "it is settled")
        assert not app.store.refused()
    assert len(slack.messages) == 1


def test_what_was_refused_is_delivered_when_the_daemon_starts_again(
    outside: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with running(App(outside)) as app:
        eventually(app.store.refused, "the refusal")
    others(slack).member = True
    with running(App(outside)):
        eventually(lambda: slack.messages, "the alert")
    assert len(slack.messages) == 1


def test_one_alert_that_is_taken_again_brings_the_others_along(
    outside: Config, sandbox: Sandbox, slack: SlackDouble
):
    fired = [issue()]
    for name in ("first", "second"):
        sandbox.control.put_training_job(name, DebugRuleEvaluationStatuses=fired)
    with running(App(outside)) as app:
        eventually(lambda: len(app.store.refused()) == 2, "the refusals")
        others(slack).member = True
        sandbox.control.put_training_job("third", DebugRuleEvaluationStatuses=fired)
        eventually(lambda: len(slack.messages) == 3, "all alerts")
    assert {"first", "second", "third"} == {
        name
        for name in ("first", "second", "third")
        if any(name in json.dumps(message) for message in slack.messages)
    }
