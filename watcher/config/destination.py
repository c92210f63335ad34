"""Where a finding goes: `slack:#channel`, `webhook:https://…`, `sns:arn:…` or `console`.

The syntax is checked here, when the configuration is loaded, and not when the first alert is due.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from urllib.parse import urlsplit

from watcher.arn import TOPIC_ARN, Arn
from watcher.errors import ConfigError
from watcher.redaction import MASK, redacted

_SLACK_CHANNEL = re.compile(r"#[^\s#A-Z.,<>&]{1,80}|[CGD][A-Z0-9]{7,}")


MIN_TOKEN_LENGTH = 16
MIN_TOKEN_CHANGES = 3


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
    """The URL without what may be a secret: user, password, query, fragment, and each part of the path that
    looks like a token, as in the addresses of Slack's, Discord's or Teams's webhooks."""
    if not _is_http(url):  # it cannot be parsed, so drop everything that may be a password
        scheme, slashes, rest = url.partition("//")
        return f"{scheme}{slashes}{rest.rpartition('@')[2]}".partition("?")[0]
    parts = urlsplit(url)
    bare = redacted(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    origin, path = bare.split("/")[:3], bare.split("/")[3:]
    return "/".join([*origin, *(MASK if _is_token(part) else part for part in path)])


def _is_token(part: str) -> bool:
    """Long, and with digits that follow letters several times, as in no name that people choose."""
    changes = sum(one.isalpha() and other.isdigit() for one, other in pairwise(part))
    return len(part) >= MIN_TOKEN_LENGTH and changes >= MIN_TOKEN_CHANGES
