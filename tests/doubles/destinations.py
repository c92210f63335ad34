"""Destinations in memory that keep the contract of `Channel`, and fail as they are told to.

Faults: `down` (certainly not taken), `lost_before` and `lost_after` (the answer is lost, and the message was
not taken, or was), `refused`, `too_long` (in any form but the shortest), and `killed_before` and
`killed_after` (the process that sends dies, before the message is taken or after it).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from watcher.alerts.message import Message
from watcher.delivery.channels.base import OneWayChannel, Probe
from watcher.errors import FormRefused, MessageGone, Retry, Undeliverable
from watcher.model import Change, Form

FAULTS = ("down", "lost_before", "lost_after", "refused", "too_long", "killed_before", "killed_after")


class Killed(BaseException):
    """The process ends here. Nothing in Watcher may catch it."""


@dataclass
class Destination:
    faults: list[str] = field(default_factory=list)
    """Of the next requests, one each."""

    def _take_fault(self, message: Message) -> str:
        fault = self.faults.pop(0) if self.faults else ""
        match fault:
            case "down":
                raise Retry("cannot be reached")
            case "lost_before":
                raise Retry("the connection broke", uncertain=True)
            case "refused":
                raise Undeliverable("is_archived")
            case "too_long" if message.form is not Form.PLAIN:
                self.faults.insert(0, fault)
                raise FormRefused("msg_too_long")
            case "killed_before":
                raise Killed
        return fault

    def _lose(self, fault: str) -> None:
        match fault:
            case "lost_after":
                raise Retry("the connection broke", uncertain=True)
            case "killed_after":
                raise Killed

    def probe(self) -> Probe:
        return Probe("takes messages")

    def send_test(self, text: str, at: object) -> str:
        return f"took {text!r} of {at}"


@dataclass
class Shown:
    """A message of a destination that can edit."""

    delivery_id: str
    revision: int
    """Of the incident, when the text was composed."""
    deleted: bool = False


@dataclass
class EditingDestination(Destination):
    messages: list[Shown] = field(default_factory=list)

    def send(self, message: Message) -> str:
        fault = self._take_fault(message)
        self.messages.append(Shown(message.delivery_id, message.incident.revision))
        self._lose(fault)
        return json.dumps(len(self.messages) - 1)

    def find(self, message: Message) -> str | None:
        self._lose(self._take_fault(message))
        found = (
            number
            for number, shown in enumerate(self.messages)
            if shown.delivery_id == message.delivery_id and not shown.deleted
        )
        number = next(found, None)
        return None if number is None else json.dumps(number)

    def update(self, message: Message, receipt: str) -> str:
        shown = self.messages[json.loads(receipt)]
        if shown.deleted:
            raise MessageGone("message_not_found")
        fault = self._take_fault(message)
        assert shown.delivery_id == message.delivery_id, "another incident's message"
        shown.revision = message.incident.revision
        self._lose(fault)
        return receipt

    def shown(self, delivery_id: str) -> list[Shown]:
        return [each for each in self.messages if each.delivery_id == delivery_id and not each.deleted]


@dataclass
class Taken:
    """A message of a destination that cannot edit."""

    delivery_id: str
    key: str
    changes: tuple[Change, ...]
    repeat: bool


@dataclass
class OneWayDestination(Destination, OneWayChannel):
    messages: list[Taken] = field(default_factory=list)

    def send(self, message: Message) -> str:
        fault = self._take_fault(message)
        self.messages.append(Taken(message.delivery_id, message.key, message.changes, message.repeat))
        self._lose(fault)
        return ""
