"""The channels on which a finding reaches people. `base.Channel` is what each of them can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from watcher.config.destination import Destination, DestinationKind
from watcher.config.settings import Config
from watcher.delivery.channels.base import Channel
from watcher.errors import ConfigError

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient


def open_channel(to: str, config: Config, sns: Callable[[str], SNSClient]) -> Channel:
    """The channel of a destination; `sns` makes a client for a region.

    Raises `ConfigError` where the destination makes no sense, or where its secret is no longer configured
    (a delivery outlives the configuration under which it was made). Each channel's SDK is imported only
    where the channel is used.
    """
    destination = Destination.parse(to)
    match destination.kind:
        case DestinationKind.CONSOLE:
            from watcher.delivery.channels.console import ConsoleChannel

            return ConsoleChannel()
        case DestinationKind.SLACK:
            from watcher.delivery.channels.slack import SlackChannel

            token = config.slack.bot_token.get_secret_value()
            if not token:
                raise ConfigError(f"'{destination}' needs slack.bot_token")
            return SlackChannel(token, destination.address, config.slack.api_url)
        case DestinationKind.WEBHOOK:
            from watcher.delivery.channels.webhook import WebhookChannel

            secret = config.webhook.secret.get_secret_value()
            if not secret:
                raise ConfigError(f"'{destination}' needs webhook.secret, to sign with")
            return WebhookChannel(destination.address, secret)
        case DestinationKind.SNS:
            from watcher.delivery.channels.sns import SnsChannel

            return SnsChannel(destination.address, sns(destination.region))
