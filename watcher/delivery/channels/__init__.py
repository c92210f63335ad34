"""The channels that deliver alerts to people, one module each. `base.Channel` is their protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from watcher.config.checks import missing_secret
from watcher.config.destination import Destination, DestinationKind
from watcher.config.settings import Config
from watcher.delivery.channels.base import Channel
from watcher.errors import ConfigError

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient


def open_channel(to: str, config: Config, sns: Callable[[str], SNSClient]) -> Channel:
    """The channel of a destination; `sns` makes a client for a region.

    Raises `ConfigError` if the destination is invalid or its secret is not configured. Loading the
    configuration checks both, but a delivery in the store may be older than the configuration. The SDK of a
    channel is imported when it is first used.
    """
    destination = Destination.parse(to)
    if problem := missing_secret(destination, config):
        raise ConfigError(problem)
    match destination.kind:
        case DestinationKind.CONSOLE:
            from watcher.delivery.channels.console import ConsoleChannel

            return ConsoleChannel()
        case DestinationKind.SLACK:
            from watcher.delivery.channels.slack import SlackChannel

            slack = config.slack
            return SlackChannel(slack.bot_token.get_secret_value(), destination.address, slack.api_url)
        case DestinationKind.WEBHOOK:
            from watcher.delivery.channels.webhook import WebhookChannel

            return WebhookChannel(destination.address, config.webhook.secret.get_secret_value())
        case DestinationKind.SNS:
            from watcher.delivery.channels.sns import SnsChannel

            return SnsChannel(destination.address, sns(destination.region))
