"""A whole daemon in the test's process, between a real sandbox and a double of Slack's API."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.slack import SlackDouble
from tests.doubles.webhook import WebhookDouble
from tests.e2e.daemon import Daemons
from tests.waiting import WAIT_LIMIT_S
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.daemon.context import utc_now
from watcher.sandbox.process import Sandbox

SLACK_ANSWER_S = 0.02
"""How long Slack takes to answer behind a `Stall`: long enough for a kill to hit it."""


@pytest.fixture
def slack() -> Iterator[SlackDouble]:
    with SlackDouble() as double:
        yield double


@pytest.fixture
def webhook() -> Iterator[WebhookDouble]:
    with WebhookDouble("a secret that both sides know", utc_now) as double:
        yield double


@pytest.fixture
def config(aws_environment: Sandbox, slack: SlackDouble, tmp_path: Path) -> Config:
    return configured(slack, tmp_path)


def configured(slack: SlackDouble, folder: Path) -> Config:
    """A configuration that sends every finding to Slack and polls SageMaker every second."""
    return Config.model_validate(
        {
            "watch": {"poll_interval": 1},
            "store": {"url": f"sqlite:///{folder}/watcher.db"},
            "http": {"listen": ""},
            "slack": {"bot_token": slack.token, "channel": "#alerts", "api_url": slack.api_url},
        }
    )


@pytest.fixture
def daemons(sandbox: Sandbox) -> Iterator[Daemons]:
    """Daemons as separate processes, killed after the test."""
    daemons = Daemons(sandbox.env)
    yield daemons
    daemons.close()


def arn(name: str) -> str:
    """The ARN of a job in the sandbox."""
    return f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"


@contextmanager
def running(app: App) -> Iterator[App]:
    """Run the daemon until the block ends. The test fails if the daemon ended by itself."""
    thread = threading.Thread(target=app.run, name="daemon")
    thread.start()
    try:
        yield app
    finally:
        app.stop()
        thread.join(WAIT_LIMIT_S)
        app.close()
    assert not thread.is_alive()
    assert app.failure is None


def changed(config: Config, **sections: dict[str, Any]) -> Config:
    """The same configuration with some keys of some sections changed."""
    document = {
        name: {**getattr(config, name).model_dump(), **keys} if isinstance(keys, dict) else keys
        for name, keys in sections.items()
    }
    return Config.model_validate({**config.model_dump(), **document})


def issue(rule: str = "LossNotDecreasing", step: int = 14) -> dict[str, Any]:
    """A DebugRuleEvaluationStatus of a rule that fired."""
    return {
        "RuleConfigurationName": rule,
        "RuleEvaluationStatus": "IssuesFound",
        "StatusDetails": f"RuleEvaluationConditionMet: Evaluation of the rule {rule} at step {step} "
        "resulted in the condition being met\n",
    }


def blocks(slack: SlackDouble, number: int = 0) -> str:
    """What people read in a message, as JSON."""
    return json.dumps(slack.messages[number]["blocks"], ensure_ascii=False)


def texts(slack: SlackDouble) -> list[str]:
    return [message["text"] for message in slack.messages]


class Readers:
    """Everything that people could read in Slack at some time, each message and each of its edits."""

    def __init__(self, slack: SlackDouble) -> None:
        self.read: list[str] = []
        self._call = slack.call
        slack.call = self.call  # type: ignore[method-assign]

    def call(self, method: str, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        answer = self._call(method, arguments, token)
        if method in ("chat.postMessage", "chat.update") and answer["ok"]:
            self.read.append(json.dumps(arguments, ensure_ascii=False))
        return answer


class Stall:
    """Delays Slack's answer after a message or a file is stored, which is the worst time for a kill."""

    def __init__(self, slack: SlackDouble, method: str = "chat.postMessage") -> None:
        self._method = method
        self.on = False
        self.stored = threading.Event()
        self._released = threading.Event()
        self._call = slack.call
        slack.call = self.call  # type: ignore[method-assign]

    def call(self, method: str, arguments: dict[str, object], token: str) -> dict[str, object]:
        time.sleep(SLACK_ANSWER_S / 2)
        answer = self._call(method, arguments, token)
        if self.on and method == self._method:
            self.stored.set()
            self._released.wait(WAIT_LIMIT_S)
        time.sleep(SLACK_ANSWER_S / 2)
        return answer

    def begin(self) -> None:
        self.stored.clear()
        self._released.clear()
        self.on = True

    def end(self) -> None:
        self.on = False
        self._released.set()


class SlowAnswers:
    """Slack stores every message at once, and answers each `every`-th request after `seconds`."""

    def __init__(self, slack: SlackDouble, seconds: float, every: int) -> None:
        self._call = slack.call
        self._seconds, self._every = seconds, every
        self._requests = itertools.count(1)
        slack.call = self.call  # type: ignore[method-assign]

    def call(self, method: str, arguments: dict[str, object], token: str) -> dict[str, object]:
        answer = self._call(method, arguments, token)
        if method in ("chat.postMessage", "chat.update") and next(self._requests) % self._every == 0:
            time.sleep(self._seconds)
        return answer
