"""The queue of jobs to look at, when several processes share the work through SQS.

A message is deleted only after its job was handled and the findings are stored. If a process dies, the
visibility timeout gives its messages to the others. A message that no process can handle ends in the
dead-letter queue. One whose job another process holds stays where it is until that process is done.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from watcher.aws.queue import LONG_POLL_S, MAX_MESSAGES_PER_REQUEST, Queue, QueueMessage
from watcher.errors import AwsError
from watcher.jobs import events
from watcher.jobs.work import TAKE_TIMEOUT_S, LocalWork, Urgency

log = structlog.get_logger(__name__)

VISIBILITY_TIMEOUT_S = 60
"""How long a message is hidden from other processes. `keep` extends it until the job is handled."""
KEEP_INTERVAL_S = 1.0
"""Time between two rounds of `keep`."""
MAX_WAITING_JOBS = 200
"""A process in which so many jobs wait receives no more messages: others may handle them sooner."""
HELD_ELSEWHERE_PAUSE_S = 5.0
"""Before another look at a job that another process holds. Short, because most are released within a second;
one that died holds a job until its lease ends."""
FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S = 15, 900
"""When a message whose job could not be handled becomes visible again. Doubles with each attempt, so that an
outage of an hour does not fill the dead-letter queue."""


@dataclass(slots=True)
class _Held:
    message: QueueMessage
    until: float
    """When its visibility timeout ends, on the monotonic clock."""


class QueuedWork:
    """A `work.Work` in front of an SQS queue. One thread calls `receive`, and another `keep`, in a loop.

    Several messages about one job that wait here lead to one look at it.
    """

    def __init__(
        self,
        queue: Queue,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        retry_delay: Callable[[int], int] | None = None,
        visibility_timeout_s: int = VISIBILITY_TIMEOUT_S,
    ) -> None:
        self.queue = queue
        self._clock, self._monotonic = clock, monotonic
        self._retry_delay = retry_delay or retry_delay_s
        self._visibility_timeout_s = visibility_timeout_s
        self._local = LocalWork()
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, list[_Held]] = defaultdict(list)
        """The messages of each job that waits here."""
        self._handling: dict[str, list[_Held]] = {}
        """The messages that a job had when a worker took it. One that arrives later may be about a newer
        change, so it waits for the next look."""
        self._paused: dict[str, float] = {}
        """The jobs among `_waiting` that another process holds, and when to look at them again, on the
        monotonic clock. Their messages stay here: to hand them out again and again would fill the dead-letter
        queue, and only a process that looks again itself can see that a lease has ended."""
        # Deleting and sending are collected, because SQS charges for each request, not for each message.
        self._to_delete: list[str] = []
        self._to_send: dict[str, None] = {}
        """Bodies, each once, in their order."""
        self._closed = threading.Event()
        self._has_room = threading.Event()
        """Whether this process may receive more."""
        self._has_room.set()
        self._something_to_settle = threading.Event()
        """Wakes `keep` early: a whole request can be filled, or the queue is closed."""
        self.oldest_s = 0.0
        """Age in seconds of the oldest message of the last receive; 0 if that brought none."""

    # -- work.Work --------------------------------------------------------------------------------

    def put(self, arn: str, urgency: Urgency) -> None:  # noqa: ARG002 - SQS has no priorities
        """Send a message that asks for a look at this job. Any process may receive it."""
        with self._lock:
            self._to_send[events.look_again(arn)] = None
            full = len(self._to_send) >= MAX_MESSAGES_PER_REQUEST
        if full:
            self._something_to_settle.set()

    @property
    def closed(self) -> bool:
        return self._local.closed

    def take(self, timeout_s: float = TAKE_TIMEOUT_S) -> str | None:
        arn = self._local.take(timeout_s)
        if arn is not None:
            with self._lock:
                self._handling[arn] = self._waiting.pop(arn, [])
        return arn

    def done(self, arn: str) -> None:
        with self._lock:
            self._to_delete += [held.message.receipt for held in self._handling.pop(arn, [])]
            full = len(self._to_delete) >= MAX_MESSAGES_PER_REQUEST
        self._finished(arn)
        if full:
            self._something_to_settle.set()

    def held_elsewhere(self, arn: str) -> None:
        """Another process holds the job. Its messages stay here until the next look, after a pause."""
        with self._lock:
            if held := self._handling.pop(arn, []):
                if arn not in self._waiting:  # if a newer message waits, the next look is due already
                    self._paused[arn] = self._monotonic() + HELD_ELSEWHERE_PAUSE_S
                self._waiting[arn] = [*held, *self._waiting[arn]]
        self._finished(arn)

    def failed(self, arn: str) -> None:
        """The job could not be handled now. Its messages become visible again after a delay."""
        with self._lock:
            held = self._handling.pop(arn, [])
        self._finished(arn)
        for each in held:
            with suppress(AwsError):  # then they become visible when their visibility timeout ends
                self.queue.hold([each.message.receipt], self._retry_delay(each.message.receives))

    def waiting(self) -> int:
        return self._local.waiting()

    def close(self) -> None:
        """Receive no more, and hand out no more jobs."""
        self._closed.set()
        self._has_room.set()
        self._something_to_settle.set()
        self._local.close()

    # -- called by threads ------------------------------------------------------------------------

    def receive(self, wait: int = LONG_POLL_S) -> None:
        """Receive once, waiting at most `wait` seconds. Receives nothing while `MAX_WAITING_JOBS` wait."""
        if not self._has_room.wait(1.0) or self._closed.is_set():
            return
        messages = self.queue.receive(wait)
        now = self._clock()
        self.oldest_s = max(((now - message.sent_at).total_seconds() for message in messages), default=0.0)
        for message in messages:
            self._accept(message)
        if self._closed.is_set():  # while it received: no worker will take these jobs any more
            self.give_back()

    def keep(self, wait: float = KEEP_INTERVAL_S) -> None:
        """One round, after at most `wait` seconds: put the jobs whose pause is over, `settle`, and extend the
        messages that are held."""
        self._something_to_settle.wait(wait)
        self._something_to_settle.clear()
        self._end_pauses()
        try:
            self.settle()
        finally:  # also if SQS refuses to delete or to send: else what waits here would be handed out again
            self._extend()

    def settle(self) -> None:
        """Delete the messages of handled jobs, and send those that `put` has asked for."""
        with self._lock:
            deletable, self._to_delete = self._to_delete, []
            sendable, self._to_send = list(self._to_send), {}
        try:
            self.queue.delete(deletable)
            deletable = []
            sendable = self.queue.send(sendable)
        finally:  # the next round does what is left
            with self._lock:
                self._to_delete += deletable
                self._to_send |= dict.fromkeys(sendable)

    def give_back(self) -> None:
        """Make the messages of jobs that only wait here visible to other processes at once."""
        with self._lock:
            receipts = [held.message.receipt for each in self._waiting.values() for held in each]
            self._waiting.clear()
            self._paused.clear()
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
            # As if its visibility ended now: the queue's own timeout is not known here, so the first round of
            # `keep` sets ours.
            self._waiting[arn].append(_Held(message, self._monotonic()))
            self._paused.pop(arn, None)
            if not self._room():
                self._has_room.clear()
        self._local.put(arn, Urgency.DUE)

    def _finished(self, arn: str) -> None:
        self._local.done(arn)
        with self._lock:
            if self._room():
                self._has_room.set()

    def _room(self) -> bool:
        """Whether this process may receive more. A job that another process holds takes no room."""
        return len(self._waiting) - len(self._paused) < MAX_WAITING_JOBS

    def _end_pauses(self) -> None:
        now = self._monotonic()
        with self._lock:
            due = [arn for arn, at in self._paused.items() if at <= now]
            for arn in due:
                del self._paused[arn]
        for arn in due:
            self._local.put(arn, Urgency.DUE)

    def _extend(self) -> None:
        now = self._monotonic()
        timeout = self._visibility_timeout_s
        with self._lock:
            held = [each for jobs in (self._waiting, self._handling) for job in jobs.values() for each in job]
        # At half time, so that a request that fails can be repeated before the timeout ends.
        ending = [each for each in held if each.until - now < timeout / 2]
        self.queue.hold([each.message.receipt for each in ending], timeout)
        for each in ending:  # only now: if SQS has refused it, the next round tries again
            each.until = now + timeout


def retry_delay_s(receives: int) -> int:
    """Seconds until a message becomes visible again that could not be handled `receives` times."""
    return int(min(FIRST_RETRY_DELAY_S * 2 ** min(receives - 1, 10), MAX_RETRY_DELAY_S))
