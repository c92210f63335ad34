"""Whether every loop of the daemon still turns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lag:
    """How long ago a loop turned."""

    loop: str
    seconds: float
    bound: float
    """What the longest turn may take, waiting for work included."""

    def __str__(self) -> str:
        return f"the loop {self.loop} has not turned for {self.seconds:.0f} s"

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
        """What this loop has to call in each of its turns, from now on at least every `bound` seconds."""

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
        return [lag for lag in self.lags() if lag.late]
