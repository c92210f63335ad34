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
from enum import StrEnum

import structlog

from watcher.aws.queue import LONG_POLL_S, MAX_MESSAGES_PER_REQUEST, Queue, QueueMessage
from watcher.errors import AwsError, StoreError
from watcher.jobs import events
from watcher.jobs.failures import Failures
from watcher.jobs.work import TAKE_TIMEOUT_S, Allowance, LocalWork, Urgency
from watcher.lru import LruCache

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

MAX_FRUITLESS_PER_SECOND, FRUITLESS_BURST = 5.0, 20
"""How many hints a second about jobs that do not exist lead to a request to SageMaker. Anyone who may send to
the queue can write such hints. A job that exists does not count."""
ABSENT_PAUSE_S = 15.0
"""Before another look at a job that did not exist. Its messages stay, because SageMaker may know a new job a
little later than its event arrives."""
MAX_UNKNOWN_WAITING = 1000
"""Further hints about unknown jobs are left to the queue, whose visibility timeout brings them back."""
MAX_MESSAGES_PER_JOB = 10
"""Messages that are held for one job that waits. Further ones are deleted, because the same look answers
them."""
KNOWN_CACHE_SIZE = 20_000
"""Jobs that this process knows to exist, and as many that did not exist."""


class Ignored(StrEnum):
    """Why a message leads to no look."""

    UNREADABLE = "unreadable"
    ELSEWHERE = "elsewhere"
    """It names an account or a region that no setting names."""


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
        *,
        is_ours: Callable[[str], bool] = lambda arn: True,  # noqa: ARG005
        is_stored: Callable[[str], bool] = lambda arn: False,  # noqa: ARG005
        ignored: Callable[[Ignored], None] = lambda reason: None,  # noqa: ARG005
        failures: Failures | None = None,
    ) -> None:
        """`is_ours`: whether a job's account and region are to be watched. `is_stored`: whether the store
        knows a run of the job; may raise `StoreError`. `ignored` is called with each message that leads to no
        look. All but `ignored` take an ARN."""
        self.queue = queue
        self._is_ours, self._is_stored, self._ignored = is_ours, is_stored, ignored
        self._failures = failures or Failures()
        self._known = LruCache[bool](KNOWN_CACHE_SIZE)
        self._absent = LruCache[float](KNOWN_CACHE_SIZE)
        """When to look again at jobs that did not exist, on the monotonic clock."""
        self._clock, self._monotonic = clock, monotonic
        self._retry_delay = retry_delay or retry_delay_s
        self._visibility_timeout_s = visibility_timeout_s
        self._local = LocalWork(Allowance(MAX_FRUITLESS_PER_SECOND, FRUITLESS_BURST, monotonic))
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, list[_Held]] = defaultdict(list)
        """The messages of each job that waits here."""
        self._handling: dict[str, list[_Held]] = {}
        """The messages that a job had when a worker took it. One that arrives later may be about a newer
        change, so it waits for the next look."""
        self._paused: dict[str, float] = {}
        """The jobs among `_waiting` that another process holds or that did not exist, and when to look at
        them again, on the monotonic clock. Their messages stay here: to hand them out again and again would
        fill the dead-letter queue, and only a process that looks again itself can see that a lease has
        ended."""
        self._unknown: set[str] = set()
        """The jobs among `_waiting` that no store knows. They wait for their own pace, and take no room: else
        they would keep this process from receiving what is about known jobs."""
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
                self._unknown.discard(arn)
        return arn

    def done(self, arn: str) -> None:
        self._known.put(arn, value=True)
        self._absent.pop(arn)
        self._answered(arn, self._local.done)

    def absent(self, arn: str) -> None:
        """There is no such job. The next hint about it waits for a while."""
        self._known.pop(arn)
        self._absent.put(arn, self._monotonic() + ABSENT_PAUSE_S)
        self._answered(arn, self._local.absent)

    def _answered(self, arn: str, finish: Callable[[str], None]) -> None:
        with self._lock:
            self._to_delete += [held.message.receipt for held in self._handling.pop(arn, [])]
            full = len(self._to_delete) >= MAX_MESSAGES_PER_REQUEST
        self._finished(arn, finish)
        if full:
            self._something_to_settle.set()

    def held_elsewhere(self, arn: str) -> None:
        """Another process holds the job. Its messages stay here until the next look, after a pause."""
        with self._lock:
            if held := self._handling.pop(arn, []):
                if arn not in self._waiting:  # if a newer message waits, the next look is due already
                    self._paused[arn] = self._monotonic() + HELD_ELSEWHERE_PAUSE_S
                self._waiting[arn] = [*held, *self._waiting[arn]]
        self._finished(arn, self._local.held_elsewhere)

    def failed(self, arn: str) -> None:
        """The job could not be handled now. Its messages become visible again after a delay."""
        with self._lock:
            held = self._handling.pop(arn, [])
        self._finished(arn, self._local.failed)
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
            consequence = "the message stays in the queue, and goes to its dead-letter queue in the end"
            with self._failures.caught("message_failed", consequence):
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
            self._unknown.clear()
        self.queue.hold(receipts, 0)

    # ---------------------------------------------------------------------------------------------

    def _accept(self, message: QueueMessage) -> None:
        arn = self._hint(message)
        if arn is None:
            with self._lock:
                self._to_delete.append(message.receipt)
            return
        urgency = self._urgency(arn)
        now = self._monotonic()
        absent_until = self._absent.get(arn) or now
        with self._lock:
            waits_already = arn in self._waiting
            if waits_already and len(self._waiting[arn]) >= MAX_MESSAGES_PER_JOB:
                self._to_delete.append(message.receipt)
                return
            if urgency is not Urgency.UNKNOWN:
                self._unknown.discard(arn)
            elif not waits_already:
                if len(self._unknown) >= MAX_UNKNOWN_WAITING:
                    return
                self._unknown.add(arn)
            # As if its visibility ended now: the queue's own timeout is not known here, so the first round of
            # `keep` sets ours.
            self._waiting[arn].append(_Held(message, now))
            if absent_until > now:
                if not waits_already:
                    self._paused[arn] = absent_until
                return
            self._paused.pop(arn, None)
            if not self._room():
                self._has_room.clear()
        self._local.put(arn, urgency)

    def _hint(self, message: QueueMessage) -> str | None:
        """The job to look at; None if the message leads to no look."""
        try:
            arn = events.hint(message.body)
        except events.Unreadable as error:
            log.warning("unreadable_message", queue=self.queue.url, error=str(error), body=message.body[:200])
            self._ignored(Ignored.UNREADABLE)
            return None
        if arn is not None and not self._is_ours(arn):
            log.debug("event_from_elsewhere", arn=arn)
            self._ignored(Ignored.ELSEWHERE)
            return None
        return arn

    def _urgency(self, arn: str) -> Urgency:
        if self._known.get(arn):
            return Urgency.DUE
        try:
            stored = self._is_stored(arn)
        except StoreError as error:  # the look will show whether the store answers
            log.debug("store_failed", error=str(error), consequence="the job counts as unknown")
            stored = False
        if stored:
            self._known.put(arn, value=True)
        return Urgency.DUE if stored else Urgency.UNKNOWN

    def _finished(self, arn: str, finish: Callable[[str], None]) -> None:
        finish(arn)
        with self._lock:
            if self._room():
                self._has_room.set()

    def _room(self) -> bool:
        """Whether this process may receive more. A job whose next look is paused takes no room."""
        without_room = len(self._unknown | self._paused.keys())
        return len(self._waiting) - without_room < MAX_WAITING_JOBS

    def _end_pauses(self) -> None:
        now = self._monotonic()
        with self._lock:
            due = [arn for arn, at in self._paused.items() if at <= now]
            for arn in due:
                del self._paused[arn]
        for arn in due:
            self._local.put(arn, Urgency.DUE if self._known.get(arn) else Urgency.UNKNOWN)

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
