"""Gives deliveries their positions, which keep the order in which they were added."""

from __future__ import annotations

import secrets
import threading
import time


class Positions:
    """Gives each new delivery its position: a text that is unique and sorts after all that were seen.

    A hybrid logical clock (Kulkarni et al., 2014): a delivery that follows from one that was read comes after
    it, even if that one was added by a machine whose clock is ahead.
    """

    def __init__(self) -> None:
        self._last = 0
        self._suffix = secrets.token_hex(4)
        """Keeps positions unique if two processes add a delivery in the same nanosecond."""
        self._lock = threading.Lock()

    def next(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return f"{self._last:020d}-{self._suffix}"

    def seen(self, position: str) -> None:
        """Call this with the last position of what was read; does nothing if it is empty."""
        with self._lock:
            self._last = max(self._last, int(position.partition("-")[0] or 0))
