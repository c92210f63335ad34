"""The jobs that wait to be looked at again: what any such queue does, and the one for a single process."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

PATIENCE = 30.0
"""Seconds that a worker waits for a job before it turns: one that waits can be told from one that hangs."""


class Urgency(IntEnum):
    """What is looked at first."""

    ENDED = 0
    """Gone from the jobs in progress, or followed after its end: an outcome may be waiting."""
    DUE = 1


class Work(Protocol):
    """A queue of training jobs' ARNs, from which several workers take.

    While one worker has a job, no other worker of this process gets it: one job is handled sequentially,
    different jobs in parallel.
    """

    def put(self, arn: str, urgency: Urgency) -> None: ...

    @property
    def closed(self) -> bool: ...

    def take(self, patience: float = PATIENCE) -> str | None:
        """Wait for the next job; None where `patience` seconds brought none, or the queue is closed. Call
        `done` or `failed` afterwards."""
        ...

    def done(self, arn: str) -> None:
        """It was handled, and what that found is stored."""
        ...

    def failed(self, arn: str) -> None:
        """It could not be handled now."""
        ...

    def waiting(self) -> int:
        """How many jobs wait in this process."""
        ...

    def close(self) -> None: ...


class LookAgain:
    """All of the work is in this process.

    A job waits in it once however often it is put. One that failed is put again by the next pass.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        """One more can be taken: wakes one worker."""
        self._settled = threading.Condition(self._lock)
        self._heap: list[tuple[Urgency, int, str]] = []
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

    def take(self, patience: float = PATIENCE) -> str | None:
        with self._ready:
            found = self._ready.wait_for(lambda: self._closed or self._next(), patience)
            if not isinstance(found, str):
                return None
            self._busy.add(found)
            return found

    def done(self, arn: str) -> None:
        with self._lock:
            self._busy.discard(arn)
            if arn in self._waiting:  # whoever was woken for it could not have it
                self._ready.notify()
            self._settled.notify_all()

    def failed(self, arn: str) -> None:
        self.done(arn)

    def waiting(self) -> int:
        with self._lock:
            return len(self._waiting)

    def wait_until_empty(self, stop: Callable[[], bool], interval: float = 0.2) -> None:
        """Return when nothing waits and nothing is being handled, or when `stop` says so."""
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
                continue  # it was put again with more urgency, and that entry has been taken
            if arn in self._busy:
                held_back.append(entry)
                continue
            del self._waiting[arn]
            found = arn
        for entry in held_back:
            heapq.heappush(self._heap, entry)
        return found


class Pace:
    """Lets calls through at a steady rate, so that a sweep never uses up an API's quota."""

    def __init__(
        self, per_second: float, clock: Callable[[], float], wait: Callable[[float], object]
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._next = 0.0

    def keep(self) -> None:
        """Return when the next call is due."""
        with self._lock:
            now = self._clock()
            due = max(self._next, now)
            self._next = due + self._interval
        if due > now:
            self._wait(due - now)
