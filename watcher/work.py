"""The jobs that wait to be looked at again, when one process does all the work."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from enum import IntEnum


class Urgency(IntEnum):
    """What is looked at first."""

    ENDED = 0
    """Gone from the jobs in progress, or followed after its end: an outcome may be waiting."""
    DUE = 1


class LookAgain:
    """A queue of job names.

    A name waits in it once however often it is put, and while one worker has it no other gets it:
    one job is handled sequentially, different jobs in parallel.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[Urgency, int, str]] = []
        self._waiting: dict[str, Urgency] = {}
        self._busy: set[str] = set()
        self._count = 0
        self._closed = False

    def put(self, name: str, urgency: Urgency) -> None:
        with self._changed:
            if self._closed or self._waiting.get(name, max(Urgency) + 1) <= urgency:
                return
            self._waiting[name] = urgency
            self._count += 1
            heapq.heappush(self._heap, (urgency, self._count, name))
            self._changed.notify()

    def take(self) -> str | None:
        """Wait for the next job; None when the queue is closed. Call `done` when it was handled."""
        with self._changed:
            while not self._closed:
                if name := self._next():
                    self._busy.add(name)
                    return name
                self._changed.wait()
            return None

    def done(self, name: str) -> None:
        with self._changed:
            self._busy.discard(name)
            self._changed.notify_all()

    def waiting(self) -> int:
        """How many jobs wait."""
        with self._changed:
            return len(self._waiting)

    def wait_until_empty(self, stop: Callable[[], bool], interval: float = 0.2) -> None:
        """Return when nothing waits and nothing is being handled, or when `stop` says so."""
        with self._changed:
            while (self._waiting or self._busy) and not self._closed and not stop():
                self._changed.wait(interval)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> str | None:
        held_back = []
        found = None
        while self._heap and found is None:
            entry = heapq.heappop(self._heap)
            urgency, _, name = entry
            if self._waiting.get(name) != urgency:
                continue  # it was put again with more urgency, and that entry has been taken
            if name in self._busy:
                held_back.append(entry)
                continue
            del self._waiting[name]
            found = name
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
