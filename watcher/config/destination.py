"""Where a finding goes: `slack:#channel`, `webhook:https://…`, `sns:arn:…` or `console`.

The syntax is checked here, when the configuration is loaded, and not when the first alert is due.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import urlsplit

from watcher.arn import TOPIC_ARN, Arn
from watcher.errors import ConfigError

_SLACK_CHANNEL = re.compile(r"#[^\s#A-Z.,<>&]{1,80}|[CGD][A-Z0-9]{7,}")


class DestinationKind(StrEnum):
    CONSOLE = "console"
    SLACK = "slack"
    WEBHOOK = "webhook"
    SNS = "sns"


@dataclass(frozen=True, slots=True)
class Destination:
    kind: DestinationKind
    address: str = ""
    """The Slack channel's name with `#`, or its ID; the webhook's URL; the topic's ARN; empty for console."""

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Raises `ConfigError` with the text (without secrets) and how to write it."""
        scheme, colon, address = text.partition(":")
        if scheme == DestinationKind.CONSOLE and not address:
            return cls(DestinationKind.CONSOLE)
        if scheme not in set(DestinationKind) - {DestinationKind.CONSOLE} or not colon:
            raise ConfigError(
                f"{public_url(text)!r} is not a destination: write slack:#channel, webhook:https://…, "
                "sns:arn:aws:sns:… or console"
            )
        destination = cls(DestinationKind(scheme), address)
        if problem := destination._problem():
            raise ConfigError(f"'{destination}' is {problem}")
        return destination

    def _problem(self) -> str:
        match self.kind:
            case DestinationKind.SLACK if not _SLACK_CHANNEL.fullmatch(self.address):
                name = self.address.lstrip("#").lower().replace(" ", "-") or "training-alerts"
                return f"not a Slack channel: write slack:#{name}, or the channel's ID (slack:C0123456789)"
            case DestinationKind.SNS if not TOPIC_ARN.fullmatch(self.address):
                return "not the ARN of a topic: write sns:arn:aws:sns:REGION:ACCOUNT:TOPIC"
            case DestinationKind.WEBHOOK if not _is_http(self.address):
                return "not an HTTP URL: write webhook:https://HOST/PATH"
        return ""

    @property
    def region(self) -> str:
        """The region of an SNS topic; messages go there, whichever region the job runs in."""
        return Arn.parse(self.address).region if self.kind is DestinationKind.SNS else ""

    def __str__(self) -> str:
        """For people and logs, without a webhook's user, password and query, which may be secret."""
        if self.kind is DestinationKind.CONSOLE:
            return str(self.kind)
        address = public_url(self.address) if self.kind is DestinationKind.WEBHOOK else self.address
        return f"{self.kind}:{address}"


@lru_cache  # for tables, in which a few destinations stand thousands of times
def shown(to: str) -> str:
    """A stored destination for people, without what may be secret."""
    try:
        return str(Destination.parse(to))
    except ConfigError:  # a stop, or stored by a version that has another kind of destination
        return to.partition(":")[0]


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number, or the IPv6 address is malformed
        return False


def public_url(url: str) -> str:
    """The URL without user, password, query and fragment, any of which may be a secret."""
    if not _is_http(url):  # it cannot be parsed, so drop everything that may be a password
        return re.sub(r"//.*@", "//", url).partition("?")[0]
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
