"""What every channel can do. Adding a channel is adding a file here and a line in `notify.open_channel`."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from watcher.alerts.message import Message


class Channel(Protocol):
    """One destination.

    Each method makes one attempt, takes at most about 10 seconds, and raises `Retry` for what may pass
    or `Undeliverable` for what will not. Retrying is the outbox's business alone.
    """

    def send(self, message: Message) -> str:
        """Deliver; returns a receipt by which `update` finds the message again (may be empty)."""
        ...

    @property
    def can_find(self) -> bool:
        """Whether `find` knows; where not, a message that may be a repetition says so itself."""
        ...

    def find(self, message: Message) -> str | None:
        """The receipt of this very message where it has already arrived; None where it has not, or
        where the channel has no way to know."""
        ...

    def update(self, message: Message, receipt: str) -> str:
        """Tell what became of a finding whose alert has this receipt."""
        ...


class File(NamedTuple):
    name: str
    """Unique to what it shows, so that it can be found again."""
    title: str
    alt_text: str
    """For those who cannot see it."""
    content: bytes


@runtime_checkable
class TakesFiles(Protocol):
    """A channel that can show a file beside an alert. Raises as a `Channel` does."""

    def attach(self, file: File, receipt: str) -> None:
        """Put it beside the alert that has this receipt."""
        ...

    def has(self, file: File, receipt: str) -> bool:
        """Whether it is there already; False where the channel may not be asked."""
        ...
