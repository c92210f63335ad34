"""When a lease has ended, without comparing the clocks of two processes.

A lease is stored as a token that changes with each claim and each renewal, and has no time. Each process
remembers when it first saw a token, on its own monotonic clock. If it has seen a token unchanged for as long
as the lease takes, the owner has died or is too late. Then the lease may be taken over, with a write on the
condition that the token is still the same.

So a takeover never comes too early, whatever the clocks show. It is late by the time until the token was
first seen. A token must never be used again for the same key: a process that did not look meanwhile would
think that the lease has not changed. A lease that this process took itself counts from when it was written.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta

MAX_LEASES = 20_000
"""How many leases a process watches at the same time: those that it asked for last. One takes about 300
bytes."""


class Observed:
    """The leases that this process has seen, by any key, and since when. Safe to use from several threads.

    `monotonic` returns seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, size: int = MAX_LEASES) -> None:
        self._monotonic = monotonic
        self._size = size
        self._seen: OrderedDict[Hashable, tuple[Hashable, float]] = OrderedDict()
        """Token, and when it was first seen. Least recently asked for first."""
        self._lock = threading.Lock()

    def remaining(self, key: Hashable, token: Hashable, lease: float) -> float:
        """Seconds until this token has been seen unchanged for `lease` seconds. Not above 0: it has ended."""
        now = self._monotonic()
        with self._lock:
            seen = self._seen.get(key)
            since = seen[1] if seen and seen[0] == token else now
            self._remember(key, token, since)
        return round(since + lease - now, 6)  # the difference of two large numbers is not exact

    def ended(self, key: Hashable, token: Hashable, lease: float) -> bool:
        return self.remaining(key, token, lease) <= 0

    def taken(self, key: Hashable, token: Hashable) -> None:
        """Call when this process has written the token."""
        with self._lock:
            self._remember(key, token, self._monotonic())

    def forget(self, key: Hashable) -> None:
        """Call when the lease is released or settled, so that it takes no memory."""
        with self._lock:
            self._seen.pop(key, None)

    def _remember(self, key: Hashable, token: Hashable, since: float) -> None:
        self._seen[key] = (token, since)
        self._seen.move_to_end(key)
        while len(self._seen) > self._size:
            self._seen.popitem(last=False)


class ClaimClock:
    """Says when a lease ends on the wall clock of those who claim, so that `next_due` can return a time.

    Until the first claim, an in-flight delivery counts as due when it was due: the first claim begins to
    watch its lease.
    """

    def __init__(self, observed: Observed, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._observed = observed
        self._monotonic = monotonic
        self._last: tuple[datetime, float, float] | None = None

    def claiming(self, now: datetime, lease: float) -> None:
        """Call at the beginning of each claim, with its arguments."""
        self._last = (now, self._monotonic(), lease)

    def ready_at(self, key: Hashable, token: Hashable, due_at: datetime) -> datetime:
        """When an in-flight delivery can be claimed again."""
        if self._last is None:
            return due_at
        now, at, lease = self._last
        passed = self._monotonic() - at
        return now + timedelta(seconds=passed + self._observed.remaining(key, token, lease))
