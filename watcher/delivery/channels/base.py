"""The protocol that every channel implements.

To add a channel, write a module here, a case in `open_channel`, and a `DestinationKind` with the form of its
address.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import NamedTuple, Never, Protocol, runtime_checkable

from watcher.alerts.message import Message
from watcher.errors import CannotTell


class Probe(NamedTuple):
    """What `probe` found out about a destination that seems to take messages."""

    found: str
    fix: str = ""
    """What a person should look at. Empty if all is well; otherwise the destination may refuse messages, or
    the channel cannot tell."""


class Channel(Protocol):
    """One destination. Safe to use from several threads.

    Each method makes one attempt, takes at most about 10 seconds, and raises `Retry` for an error that may
    pass, `Undeliverable` for one that somebody must fix, or `FormRefused` if a shorter message may be taken.
    Only the outbox tries again.
    """

    def send(self, message: Message) -> str:
        """Deliver the message. Returns a receipt by which `update` finds it again (may be empty)."""
        ...

    def find(self, message: Message) -> str | None:
        """The receipt of the alert, if it has arrived already; None if it has not. Raises `CannotTell` if the
        destination cannot be asked: then a message that is sent again says that it may be a duplicate."""
        ...

    def probe(self) -> Probe:
        """Find out whether the destination would take a message, without posting anything that a person or
        a program could see there.

        It may make a few requests. Raises `Undeliverable` if the destination would refuse every message as
        things are, and `Retry` if it cannot be reached now.
        """
        ...

    def send_test(self, text: str, at: datetime) -> str:
        """Deliver a short text that no program can mistake for an alert. Returns what the destination did
        with it, in a few words."""
        ...


@runtime_checkable
class EditsMessages(Protocol):
    """A channel that keeps one message about an incident up to date. `policy.incidents.can_edit` says so
    of its destinations. Any other is sent a message for each change worth telling."""

    def update(self, message: Message, receipt: str) -> str:
        """Replace the alert that has this receipt with `message`. Doing so again changes nothing. Returns the
        receipt. Raises `MessageGone` if somebody deleted the alert."""
        ...


class OneWayChannel(ABC):
    """A destination that accepts messages but can neither look one up nor change one."""

    @abstractmethod
    def send(self, message: Message) -> str: ...

    def find(self, message: Message) -> Never:  # noqa: ARG002
        raise CannotTell("this destination cannot be asked for its messages")

    @abstractmethod
    def probe(self) -> Probe: ...

    @abstractmethod
    def send_test(self, text: str, at: datetime) -> str: ...


class File(NamedTuple):
    name: str
    """Unique to its content, so that `has` can find it."""
    title: str
    alt_text: str
    """Describes it to people who cannot see it."""
    content: bytes


@runtime_checkable
class TakesFiles(Protocol):
    """A channel that can show a file next to an alert. Raises as a `Channel` does."""

    def attach(self, file: File, receipt: str) -> None:
        """Put the file next to the alert that has this receipt."""
        ...

    def has(self, file: File, receipt: str) -> bool:
        """Whether the file is there already; False if the channel may not look."""
        ...


TEST_TITLE = "Test of Watcher"
"""The title of a test message, where a destination shows one."""


def identity_of_test(at: datetime) -> str:
    """The id of a test message: no two tests have the same, and no alert has one like it."""
    return f"test-{at:%Y%m%dT%H%M%S%f}"
