"""A finding with its evidence becomes a message, free of any channel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from watcher.model import DeliveryKind, Evidence, Finding


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    """The delivery's id: the same for each attempt at the same delivery."""
    kind: DeliveryKind
    finding: Finding
    at: datetime
    title: str
    """At most 150 characters (Slack's limit of a header)."""
    text: str
    """One plain line, for notifications and for those who see only one line."""
    fields: tuple[tuple[str, str], ...] = ()
    """Label and value, most important first."""
    advice: str = ""
    """What to do about it."""
    stop: str = ""
    """What happens, or happened, to the job."""
    evidence: Evidence = Evidence()
    links: tuple[tuple[str, str], ...] = ()
    repeat: bool = False
    """It may have been told before: Watcher was interrupted, and this channel cannot be asked."""
