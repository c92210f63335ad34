"""The queue of jobs to look at: the protocol, and the queue of a single process."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

TAKE_TIMEOUT_S = 30.0
"""How long a worker waits for a job before its next turn, so that `/healthz` can tell it from one that
hangs."""
MAX_UNKNOWN_AT_ONCE = 4
"""Workers that may look at unknown jobs at the same time. The others stay free for known ones."""


class Urgency(IntEnum):
    """Lower values are looked at first."""

    ENDED = 0
    """The job or one of its rules may just have ended."""
    DUE = 1
    """Time for its regular look."""
    UNKNOWN = 2
    """A hint names a job that is in no store: it is new, or does not exist."""


class Work(Protocol):
    """A queue of training jobs' ARNs, from which several workers take.

    While one worker has a job, no other worker of this process gets it: one job is handled sequentially,
    different jobs in parallel.
    """

    def put(self, arn: str, urgency: Urgency) -> None: ...

    @property
    def closed(self) -> bool: ...

    def take(self, timeout_s: float = TAKE_TIMEOUT_S) -> str | None:
        """Wait for the next job; None after `timeout_s` without one, or once the queue is closed.

        Call `done`, `absent`, `held_elsewhere` or `failed` afterwards.
        """
        ...

    def done(self, arn: str) -> None:
        """The job was handled, and the findings are stored."""
        ...

    def absent(self, arn: str) -> None:
        """There is no such job, or none that is to be watched."""
        ...

    def held_elsewhere(self, arn: str) -> None:
        """Another process or thread holds the job, so it could not be handled now."""
        ...

    def failed(self, arn: str) -> None:
        """The job could not be handled now."""
        ...

    def waiting(self) -> int:
        """Number of jobs that wait in this process."""
        ...

    def close(self) -> None: ...


class Allowance:
    """Allows `burst` things at once, and `per_second` of them in the long run. Not safe to use from several
    threads."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left, self._as_of = float(burst), clock()

    def spend(self) -> float:
        """Spend one and return 0; if none is left, return the seconds until there is one."""
        now = self._clock()
        self._left = min(self._left + (now - self._as_of) * self._per_second, self._burst)
        self._as_of = now
        if self._left < 1 - 1e-3:  # times are not exact
            return (1 - self._left) / self._per_second
        self._left -= 1
        return 0.0

    def refund(self) -> None:
        """Take back one that was spent."""
        self._left += 1


class LocalWork:
    """The queue of a process that does all of the work itself.

    A job waits in it once, however often it is put. One that could not be handled is put again by the next
    pass.
    """

    def __init__(self, fruitless: Allowance | None = None) -> None:
        """`fruitless` limits how fast unknown jobs are handed out that turn out not to exist. Known jobs come
        first, and do not wait for it."""
        self._fruitless = fruitless
        self._unknown: set[str] = set()
        """The jobs among `_busy` that were put as unknown."""
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        """Wakes one worker when another job can be taken."""
        self._settled = threading.Condition(self._lock)
        self._heap: list[tuple[Urgency, int, str]] = []
        """Urgency, then order of `put`. An entry is stale if `_waiting` has the job with another urgency, or
        not at all: it is skipped when it comes up, which is cheaper than removing it."""
        self._waiting: dict[str, Urgency] = {}
        self._busy: set[str] = set()
        self._count = 0
        self._closed = False

    def put(self, arn: str, urgency: Urgency) -> None:
        with self._lock:
            if self._closed or self._waiting.get(arn, max(Urgency) + 1) <= urgency:
                return
            self._waiting[arn] = urgency
            self._count += 1
            heapq.heappush(self._heap, (urgency, self._count, arn))
            self._ready.notify()

    @property
    def closed(self) -> bool:
        return self._closed

    def take(self, timeout_s: float = TAKE_TIMEOUT_S) -> str | None:
        until = time.monotonic() + timeout_s
        with self._ready:
            while not self._closed:
                found, wait = self._next()
                if found is not None:
                    self._busy.add(found)
                    self._wake_for_unknown()
                    return found
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._ready.wait(min(left, wait))
            return None

    def done(self, arn: str) -> None:
        self._finished(arn, fruitless=False)

    def absent(self, arn: str) -> None:
        self._finished(arn, fruitless=True)

    def held_elsewhere(self, arn: str) -> None:
        self._finished(arn, fruitless=False)

    def failed(self, arn: str) -> None:
        self._finished(arn, fruitless=True)

    def _finished(self, arn: str, *, fruitless: bool) -> None:
        with self._lock:
            self._busy.discard(arn)
            if arn in self._unknown:
                self._unknown.discard(arn)
                if self._fruitless and not fruitless:
                    self._fruitless.refund()
            if arn in self._waiting:  # the worker that `put` woke for it could not take it
                self._ready.notify()
            self._wake_for_unknown()
            self._settled.notify_all()

    def _wake_for_unknown(self) -> None:
        """Wake another worker for the next unknown job: the one that `put` woke may not have taken it."""
        if self._heap and self._heap[0][0] is Urgency.UNKNOWN:
            self._ready.notify()

    def waiting(self) -> int:
        with self._lock:
            return len(self._waiting)

    def wait_until_empty(self, stop: Callable[[], bool], interval: float = 0.2) -> None:
        """Return when no job waits or is being handled, or when `stop` returns True."""
        with self._settled:
            while (self._waiting or self._busy) and not self._closed and not stop():
                self._settled.wait(interval)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._ready.notify_all()
            self._settled.notify_all()

    def _next(self) -> tuple[str | None, float]:
        """The next job, or None and the seconds after which there may be one without another `put`."""
        held_back = []
        found, wait = None, TAKE_TIMEOUT_S
        while self._heap and found is None:
            entry = self._heap[0]
            urgency, _, arn = entry
            is_stale = self._waiting.get(arn) != urgency  # an entry with more urgency was taken already
            if urgency is Urgency.UNKNOWN and not is_stale and arn not in self._busy:
                if len(self._unknown) >= MAX_UNKNOWN_AT_ONCE:
                    break
                if self._fruitless and (wait := self._fruitless.spend()):
                    break
                self._unknown.add(arn)
            heapq.heappop(self._heap)
            if is_stale:
                continue
            if arn in self._busy:
                held_back.append(entry)
                continue
            del self._waiting[arn]
            found = arn
        for entry in held_back:
            heapq.heappush(self._heap, entry)
        return found, wait


class Pace:
    """Spaces calls evenly, so that a pass over many jobs does not use up an API's quota."""

    def __init__(
        self, per_second: float, clock: Callable[[], float], wait: Callable[[float], object]
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._next = 0.0

    def keep(self) -> None:
        """Wait until the next call may be made."""
        with self._lock:
            now = self._clock()
            due = max(self._next, now)
            self._next = due + self._interval
        if due > now:
            self._wait(due - now)
