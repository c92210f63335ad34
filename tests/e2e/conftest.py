"""A whole daemon in the test's process, with a real sandbox before it and a Slack behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.slack import SlackDouble
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox

PATIENCE = 20.0
SLOW = 0.02
"""Seconds that a stalled Slack takes to answer at all, so that there is something to hit."""


@pytest.fixture
def slack() -> Iterator[SlackDouble]:
    with SlackDouble() as double:
        yield double


@pytest.fixture
def config(aws_environment: Sandbox, slack: SlackDouble, tmp_path: Path) -> Config:
    """Every finding goes to Slack, and SageMaker is asked each second."""
    return Config.model_validate(
        {
            "watch": {"poll_interval": 1},
            "store": {"url": f"sqlite:///{tmp_path}/watcher.db"},
            "http": {"listen": ""},
            "slack": {"bot_token": slack.token, "channel": "#alerts", "api_url": slack.api_url},
        }
    )


def arn(name: str) -> str:
    """Of a job in the sandbox."""
    return f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"


def eventually(
    condition: Callable[[], Any], what: str, patience: float = PATIENCE, every: float = 0.02
) -> Any:
    """Wait for another thread or process; the bound is only there so that a failure ends."""
    until = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {patience:.0f} s: {what}")
        time.sleep(every)
    return found


@contextmanager
def running(app: App) -> Iterator[App]:
    """The daemon, until the block ends; what made it end by itself fails the test."""
    thread = threading.Thread(target=app.run, name="daemon")
    thread.start()
    try:
        yield app
    finally:
        app.stop()
        thread.join(15)
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


def texts(slack: SlackDouble) -> list[str]:
    return [message["text"] for message in slack.messages]


class Stall:
    """Holds Slack's answers back once a message, or a file, is stored: the worst moment to be killed."""

    def __init__(self, slack: SlackDouble, method: str = "chat.postMessage") -> None:
        self._method = method
        self.on = False
        self.stored = threading.Event()
        self._released = threading.Event()
        self._call = slack.call
        slack.call = self.call  # type: ignore[method-assign]

    def call(self, method: str, arguments: dict[str, object], token: str) -> dict[str, object]:
        time.sleep(SLOW / 2)
        answer = self._call(method, arguments, token)
        if self.on and method == self._method:
            self.stored.set()
            self._released.wait(PATIENCE)
        time.sleep(SLOW / 2)
        return answer

    def begin(self) -> None:
        self.stored.clear()
        self._released.clear()
        self.on = True

    def end(self) -> None:
        self.on = False
        self._released.set()
