from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import SecretStr

from watcher.config.settings import Config, Slack, Webhook
from watcher.delivery.channels import open_channel
from watcher.delivery.channels.base import EditsMessages
from watcher.delivery.channels.console import ConsoleChannel
from watcher.delivery.channels.slack import SlackChannel
from watcher.delivery.channels.sns import SnsChannel
from watcher.delivery.channels.webhook import WebhookChannel
from watcher.errors import ConfigError
from watcher.policy.incidents import can_edit

TOPIC = "arn:aws:sns:eu-west-1:123456789012:training-alerts"
CONFIG = Config(
    slack=Slack(bot_token=SecretStr("xoxb-test")), webhook=Webhook(secret=SecretStr("a shared secret"))
)


class Regions:
    """A factory of SNS clients that records the requested regions."""

    def __init__(self) -> None:
        self.regions: list[str] = []

    def __call__(self, region: str) -> Any:
        self.regions.append(region)


@pytest.mark.parametrize(
    ("to", "kind"),
    [
        ("console", ConsoleChannel),
        ("slack:#prod", SlackChannel),
        ("webhook:https://h.example/", WebhookChannel),
        (f"sns:{TOPIC}", SnsChannel),
    ],
)
def test_each_destination_opens_its_channel(to: str, kind: type) -> None:
    assert isinstance(open_channel(to, CONFIG, Regions()), kind)


@pytest.mark.parametrize("to", ["console", "slack:#prod", "webhook:https://h.example/", f"sns:{TOPIC}"])
def test_policy_knows_which_channels_can_edit(to: str) -> None:
    assert can_edit(to) == isinstance(open_channel(to, CONFIG, Regions()), EditsMessages)


def test_a_destination_of_another_version_counts_as_one_that_cannot_edit() -> None:
    assert not can_edit("pigeon:coop")


def test_a_topic_gets_a_client_in_its_own_region_and_no_other_channel_needs_aws() -> None:
    sns = Regions()
    open_channel("slack:#prod", CONFIG, sns)
    open_channel(f"sns:{TOPIC}", CONFIG, sns)
    assert sns.regions == ["eu-west-1"]


@pytest.mark.parametrize(
    ("to", "key"), [("slack:#prod", "slack.bot_token"), ("webhook:https://h.example/", "webhook.secret")]
)
def test_a_destination_whose_secret_is_missing_is_refused_with_the_key(to: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        open_channel(to, Config(), Regions())


def test_an_invalid_destination_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a destination"):
        open_channel("pigeon:coop", CONFIG, Regions())


def test_no_channels_sdk_is_imported_before_the_channel_is_used() -> None:
    code = (
        "import sys, watcher.delivery.channels\n"
        "print({'slack_sdk', 'httpx', 'botocore', 'rich'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
