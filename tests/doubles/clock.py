"""A clock that a test controls."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.jobs import NOON


class Clock:
    """Returns the time when called, and seconds from `monotonic`. It stands still until a test turns it."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()

    def turn(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
