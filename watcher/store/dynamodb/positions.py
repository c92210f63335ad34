"""The places of deliveries in the order in which they came."""

from __future__ import annotations

import secrets
import threading
import time


class Positions:
    """Gives each new delivery its place: a text that no other has, and that sorts after all that were seen.

    A hybrid logical clock (Kulkarni et al., 2014): what follows from what was read comes after it, even where
    another machine's clock is ahead.
    """

    def __init__(self) -> None:
        self._last = 0
        self._mine = secrets.token_hex(4)
        self._lock = threading.Lock()

    def next(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return f"{self._last:020d}-{self._mine}"

    def seen(self, position: str) -> None:
        """Nothing, where it is empty."""
        with self._lock:
            self._last = max(self._last, int(position.partition("-")[0] or 0))
