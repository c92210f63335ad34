"""Where a finding goes: `slack:#channel`, `webhook:https://…`, `sns:arn:…` or `console`.

Only what the text itself can tell is checked here, so that a configuration is refused when it is loaded
and not when the first alert is due.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
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
    """Slack's channel name with its `#` (or its id), the webhook's URL, the topic's ARN; console has none."""

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Raises `ConfigError`, which names the text (without secrets) and how to write it."""
        scheme, colon, address = text.partition(":")
        if scheme == DestinationKind.CONSOLE and not address:
            return cls(DestinationKind.CONSOLE)
        if scheme not in set(DestinationKind) - {DestinationKind.CONSOLE} or not colon:
            raise ConfigError(
                f"{public_url(text)!r} is no destination: write slack:#channel, webhook:https://…, "
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
                return f"no Slack channel: write slack:#{name}, or the channel's id (slack:C0123456789)"
            case DestinationKind.SNS if not TOPIC_ARN.fullmatch(self.address):
                return "no topic's ARN: write sns:arn:aws:sns:REGION:ACCOUNT:TOPIC"
            case DestinationKind.WEBHOOK if not _is_http(self.address):
                return "no HTTP address: write webhook:https://HOST/PATH"
        return ""

    @property
    def region(self) -> str:
        """The region of an SNS topic; a topic is written to in its own, wherever the jobs run."""
        return Arn.parse(self.address).region if self.kind is DestinationKind.SNS else ""

    def __str__(self) -> str:
        """For people and logs: a webhook's user, password and query are left out, they may be secret."""
        if self.kind is DestinationKind.CONSOLE:
            return str(self.kind)
        address = public_url(self.address) if self.kind is DestinationKind.WEBHOOK else self.address
        return f"{self.kind}:{address}"


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bad IPv6 address
        return False


def public_url(url: str) -> str:
    """The URL without user, password, query and fragment, any of which may be a secret."""
    if not _is_http(url):  # nobody knows what is what in it, so whatever may be a password goes
        return re.sub(r"//.*@", "//", url).partition("?")[0]
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
