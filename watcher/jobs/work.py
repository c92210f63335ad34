"""The queue of jobs to look at: the protocol, and the queue of a single process."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

TAKE_TIMEOUT_S = 30.0
"""How long a worker waits for a job before its next turn, so that `/healthz` can tell it from one that
hangs."""


class Urgency(IntEnum):
    """Lower values are looked at first."""

    ENDED = 0
    """The job or one of its rules may just have ended."""
    DUE = 1
    """Time for its regular look."""


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

        Call `done`, `held_elsewhere` or `failed` afterwards.
        """
        ...

    def done(self, arn: str) -> None:
        """The job was handled, and the findings are stored."""
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


class LocalWork:
    """The queue of a process that does all of the work itself.

    A job waits in it once, however often it is put. One that could not be handled is put again by the next
    pass.
    """

    def __init__(self) -> None:
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
        with self._ready:
            found = self._ready.wait_for(lambda: self._closed or self._next(), timeout_s)
            if not isinstance(found, str):
                return None
            self._busy.add(found)
            return found

    def done(self, arn: str) -> None:
        with self._lock:
            self._busy.discard(arn)
            if arn in self._waiting:  # the worker that `put` woke for it could not take it
                self._ready.notify()
            self._settled.notify_all()

    def held_elsewhere(self, arn: str) -> None:
        self.done(arn)

    def failed(self, arn: str) -> None:
        self.done(arn)

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

    def _next(self) -> str | None:
        held_back = []
        found = None
        while self._heap and found is None:
            entry = heapq.heappop(self._heap)
            urgency, _, arn = entry
            if self._waiting.get(arn) != urgency:
                continue  # an entry with more urgency has been taken already
            if arn in self._busy:
                held_back.append(entry)
                continue
            del self._waiting[arn]
            found = arn
        for entry in held_back:
            heapq.heappush(self._heap, entry)
        return found


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
