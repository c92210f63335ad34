"""The jobs that wait to be looked at again, when several processes share the work through SQS.

A message is deleted when its job was handled and what that found is stored, never before: a replica that
dies gives its messages back by the queue's visibility timeout, and what nobody can handle ends in the
dead-letter queue.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from watcher.aws.queue import BATCH, LONG_POLL, Queue, QueueMessage
from watcher.errors import AwsError
from watcher.jobs import events
from watcher.jobs.work import PATIENCE, LookAgain, Urgency

log = structlog.get_logger(__name__)

HELD = 60
"""Seconds for which a message is kept from the others; extended for as long as its job is not handled."""
KEEP_EVERY = 1.0
"""Seconds between two rounds of deleting, sending and extending."""
MOST_HELD = 200
"""Jobs that this process keeps waiting: what it cannot get to soon is better left to others."""
FIRST_PAUSE, LONGEST_PAUSE = 15, 900
"""Seconds until a message whose job could not be handled comes again: doubled with each time, so that an
hour's outage at SageMaker fills no dead-letter queue."""


@dataclass(frozen=True, slots=True)
class _Held:
    message: QueueMessage
    until: float
    """On the monotonic clock."""


class QueuedWork:
    """A `work.Work` in front of an SQS queue. `receive` and `keep` are loops, to be run by threads.

    Messages about one job that come together are one look at it.
    """

    def __init__(
        self,
        queue: Queue,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        pause: Callable[[int], int] | None = None,
        held: int = HELD,
    ) -> None:
        self.queue = queue
        self._clock, self._monotonic = clock, monotonic
        self._pause = pause or pause_after
        self._hold_for = held
        self._local = LookAgain()
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, list[_Held]] = defaultdict(list)
        self._handling: dict[str, list[_Held]] = {}
        self._to_delete: list[str] = []
        self._to_send: dict[str, None] = {}
        self._closed = threading.Event()
        self._room = threading.Event()
        self._room.set()
        self._something_to_settle = threading.Event()
        self.oldest = 0.0
        """Age in seconds of the oldest message of the last receive; 0 where that brought none."""

    # -- work.Work --------------------------------------------------------------------------------

    def put(self, arn: str, urgency: Urgency) -> None:  # noqa: ARG002 - a queue has no urgency
        """Ask whichever replica comes first to look at this job."""
        with self._lock:
            self._to_send[events.look_again(arn)] = None
            full = len(self._to_send) >= BATCH
        if full:
            self._something_to_settle.set()

    @property
    def closed(self) -> bool:
        return self._local.closed

    def take(self, patience: float = PATIENCE) -> str | None:
        arn = self._local.take(patience)
        if arn is not None:
            with self._lock:
                self._handling[arn] = self._waiting.pop(arn, [])
        return arn

    def done(self, arn: str) -> None:
        with self._lock:
            self._to_delete += [held.message.receipt for held in self._handling.pop(arn, [])]
            full = len(self._to_delete) >= BATCH
        self._finished(arn)
        if full:
            self._something_to_settle.set()

    def failed(self, arn: str) -> None:
        """It could not be handled: its messages come again, here or elsewhere, after a pause."""
        with self._lock:
            held = self._handling.pop(arn, [])
        self._finished(arn)
        for each in held:
            with suppress(AwsError):  # then they come when their visibility timeout ends
                self.queue.hold([each.message.receipt], self._pause(each.message.receives))

    def waiting(self) -> int:
        return self._local.waiting()

    def close(self) -> None:
        """Take nothing more, and give back what nobody has begun with."""
        self._closed.set()
        self._room.set()
        self._something_to_settle.set()
        self._local.close()

    # -- loops ------------------------------------------------------------------------------------

    def receive(self, wait: int = LONG_POLL) -> None:
        """Receive once, for at most `wait` seconds; returns at once where enough is waiting here."""
        if not self._room.wait(1.0) or self._closed.is_set():
            return
        messages = self.queue.receive(wait)
        now = self._clock()
        self.oldest = max(((now - message.sent_at).total_seconds() for message in messages), default=0.0)
        for message in messages:
            self._accept(message)
        if self._closed.is_set():
            self.give_back()

    def keep(self) -> None:
        """Delete what was handled, send what was put, and hold on to what waits; once, after a moment."""
        self._something_to_settle.wait(KEEP_EVERY)
        self._something_to_settle.clear()
        self.settle()
        self._extend()

    def settle(self) -> None:
        with self._lock:
            deletable, self._to_delete = self._to_delete, []
            sendable, self._to_send = list(self._to_send), {}
        try:
            self.queue.delete(deletable)
            deletable = []
            sendable = self.queue.send(sendable)
        finally:  # what was not done is done in the next round
            with self._lock:
                self._to_delete += deletable
                self._to_send |= dict.fromkeys(sendable)

    def give_back(self) -> None:
        """What waits here, and was not begun with, is visible to the others at once."""
        with self._lock:
            receipts = [held.message.receipt for each in self._waiting.values() for held in each]
            self._waiting.clear()
        self.queue.hold(receipts, 0)

    # ---------------------------------------------------------------------------------------------

    def _accept(self, message: QueueMessage) -> None:
        try:
            arn = events.hint(message.body)
        except events.Unreadable as error:
            log.warning("unreadable_message", queue=self.queue.url, error=str(error), body=message.body[:200])
            arn = None
        with self._lock:
            if arn is None:
                self._to_delete.append(message.receipt)
                return
            # The queue's own timeout is not known here; the first round of `keep` sets ours.
            self._waiting[arn].append(_Held(message, self._monotonic()))
            if len(self._waiting) >= MOST_HELD:
                self._room.clear()
        self._local.put(arn, Urgency.DUE)

    def _finished(self, arn: str) -> None:
        self._local.done(arn)
        with self._lock:
            if len(self._waiting) < MOST_HELD:
                self._room.set()

    def _extend(self) -> None:
        now = self._monotonic()
        with self._lock:
            due = []
            for jobs in (self._waiting, self._handling):
                for arn, held in jobs.items():
                    due += [each.message.receipt for each in held if each.until - now < self._hold_for / 2]
                    jobs[arn] = [
                        each
                        if each.until - now >= self._hold_for / 2
                        else _Held(each.message, now + self._hold_for)
                        for each in held
                    ]
        self.queue.hold(due, self._hold_for)


def pause_after(receives: int) -> int:
    """Seconds until a message comes again that was received so often, and could not be handled."""
    return int(min(FIRST_PAUSE * 2 ** min(receives - 1, 10), LONGEST_PAUSE))
