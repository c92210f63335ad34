"""Remembers what does not answer (a bucket, an account), so that the jobs that need it wait together.

Without it, each of many jobs with one missing bucket would ask for it, and others would have to wait for
their answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from watcher.lru import LruCache

FIRST_DELAY_S, MAX_DELAY_S = 5.0, 300.0
"""Between two attempts. The delay doubles with each that fails."""
ATTEMPT_S = 60.0
"""While one attempt is made, others wait: for so long at most."""
BACKOFF_CACHE_SIZE = 1000
"""Things that do not answer."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    failures: int
    until: datetime


class Backoff:
    """Safe to use from several threads."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._refusals = LruCache[_Refusal](BACKOFF_CACHE_SIZE)
        self._lock = threading.Lock()

    def wait_until(self, things: Iterable[str]) -> datetime | None:
        """When to ask these things again; None if they may be asked now. Whoever gets None is to call
        `refused` or `answered` afterwards."""
        now = self._clock()
        with self._lock:
            known = {thing: found for thing in things if (found := self._refusals.get(thing))}
            if waits := [found.until for found in known.values() if found.until > now]:
                return max(waits)
            for thing, found in known.items():  # one attempt, while the others wait
                attempt = _Refusal(found.failures, now + timedelta(seconds=ATTEMPT_S))
                self._refusals.put(thing, attempt)
        return None

    def refused(self, thing: str) -> None:
        """It did not answer."""
        with self._lock:
            known = self._refusals.get(thing)
            failures = known.failures + 1 if known else 1
            delay = min(FIRST_DELAY_S * 2.0 ** min(failures - 1, 20), MAX_DELAY_S)
            self._refusals.put(thing, _Refusal(failures, self._clock() + timedelta(seconds=delay)))

    def answered(self, things: Iterable[str]) -> None:
        with self._lock:
            for thing in things:
                self._refusals.pop(thing)
