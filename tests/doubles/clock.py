"""A clock that is turned by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.jobs import NOON


class Clock:
    """Gives the time when it is called, and seconds by `monotonic`. Stands still until a test turns it."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()

    def turn(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
