"""Tells a loop of the daemon that hangs from one that waits for work.

A turn is one iteration of a loop. A loop that waits for work also makes a turn, at least every half minute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lag:
    """How long ago a loop began its last turn."""

    loop: str
    seconds: float
    bound: float
    """How many seconds a turn may take, waiting for work included."""

    def __str__(self) -> str:
        return f"the loop {self.loop} has made no progress for {self.seconds:.0f} s"

    @property
    def late(self) -> bool:
        return self.seconds > self.bound


class Loops:
    """`clock` is monotonic, in seconds. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._turned: dict[str, float] = {}
        self._bounds: dict[str, float] = {}

    def add(self, name: str, bound: float) -> Callable[[], None]:
        """Register a loop. It calls the returned function in each turn, at least every `bound` seconds."""

        def turned() -> None:
            with self._lock:
                self._turned[name] = self._clock()

        self._bounds[name] = bound
        turned()
        return turned

    def lags(self) -> list[Lag]:
        now = self._clock()
        with self._lock:
            turned = dict(self._turned)
        return [Lag(name, now - then, self._bounds[name]) for name, then in turned.items()]

    def late(self) -> list[Lag]:
        """The loops that hang."""
        return [lag for lag in self.lags() if lag.late]
