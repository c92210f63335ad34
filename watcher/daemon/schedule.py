"""Periodic work: APScheduler gives the ticks, and a named thread does the work.

A tick only wakes the thread. So APScheduler never finds an earlier run in progress, about which it would warn
at each tick. A tick during the work is skipped: the next run starts at the first tick after the work has
ended. With ticks every 30 s and a pass of 70 s, passes start at 0, 90 and 180 s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from apscheduler.schedulers.background import BackgroundScheduler

from watcher.daemon.threads import Loop


class Schedule:
    def __init__(self, scheduler: BackgroundScheduler) -> None:
        self._scheduler = scheduler
        self._ticks: list[threading.Event] = []
        self._closed = False

    def every(self, interval_s: float, work: Callable[[], None]) -> Loop:
        """A loop that does `work` when the schedule starts, and then every `interval_s` seconds."""
        tick = threading.Event()
        self._ticks.append(tick)
        self._scheduler.add_job(
            tick.set,
            "interval",
            seconds=interval_s,
            next_run_time=datetime.now(UTC),
            coalesce=True,
            misfire_grace_time=None,  # a tick that comes late, on a busy machine, still counts
        )

        def loop(turned: Callable[[], None]) -> None:
            while self._wait(tick):
                turned()
                work()
                tick.clear()

        return loop

    def start(self) -> None:
        self._scheduler.start()

    def close(self) -> None:
        """End the loops, each after its current work."""
        self._scheduler.shutdown(wait=False)
        self._closed = True
        for tick in self._ticks:
            tick.set()

    def _wait(self, tick: threading.Event) -> bool:
        """Wait for the next tick; False once the schedule is closed."""
        # Checked before the wait too: the loop may have cleared the tick that `close` set.
        return not self._closed and tick.wait() and not self._closed
