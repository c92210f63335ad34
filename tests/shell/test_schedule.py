"""Periodic work of any duration never overlaps with itself and causes no APScheduler warnings."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from itertools import pairwise
from typing import Any

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from tests.waiting import WAIT_LIMIT_S
from watcher.daemon.schedule import Schedule

INTERVAL_S = 0.05


class ManualScheduler:
    """A scheduler whose ticks come from the test."""

    def __init__(self) -> None:
        self.tick: Callable[[], None] = lambda: None

    def add_job(self, tick: Callable[[], None], *_: object, **__: object) -> None:
        self.tick = tick

    def start(self) -> None:
        self.tick()

    def shutdown(self, **_: object) -> None:
        self.tick = lambda: None


class Pass:
    """Work whose start a test can wait for, and whose end it allows."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def __call__(self) -> None:
        self.started.release()
        assert self.may_end.acquire(timeout=WAIT_LIMIT_S)


@contextmanager
def running(scheduler: Any, work: Callable[[], None]) -> Iterator[Schedule]:
    schedule = Schedule(scheduler)
    loop = schedule.every(INTERVAL_S, work)
    thread = threading.Thread(target=loop, args=(lambda: None,))
    thread.start()
    schedule.start()
    try:
        yield schedule
    finally:
        schedule.close()
        thread.join(WAIT_LIMIT_S)
    assert not thread.is_alive()


def test_the_first_pass_starts_immediately_and_each_later_one_at_a_tick():
    scheduler, one_pass = ManualScheduler(), Pass()
    one_pass.may_end.release(2)

    with running(scheduler, one_pass):
        assert one_pass.started.acquire(timeout=WAIT_LIMIT_S)
        assert not one_pass.started.acquire(timeout=2 * INTERVAL_S)
        tick_until_started(scheduler, one_pass)


def test_ticks_during_a_pass_are_skipped_and_the_next_one_after_it_starts_a_pass():
    scheduler, one_pass = ManualScheduler(), Pass()

    with running(scheduler, one_pass):
        assert one_pass.started.acquire(timeout=WAIT_LIMIT_S)
        for _ in range(3):
            scheduler.tick()
        one_pass.may_end.release(2)
        assert not one_pass.started.acquire(timeout=2 * INTERVAL_S)
        tick_until_started(scheduler, one_pass)


def tick_until_started(scheduler: ManualScheduler, one_pass: Pass) -> None:
    """More than one tick is needed only if the thread of the previous pass is slow to finish."""
    until = time.monotonic() + WAIT_LIMIT_S
    while not one_pass.started.acquire(timeout=INTERVAL_S):
        assert time.monotonic() < until
        scheduler.tick()


def test_passes_longer_than_the_interval_run_one_after_another_without_apscheduler_warnings(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.WARNING)
    started: list[float] = []
    several = threading.Event()

    def long_pass() -> None:
        started.append(time.monotonic())
        if len(started) == 4:
            several.set()
        time.sleep(3 * INTERVAL_S)

    with running(BackgroundScheduler(timezone=UTC), long_pass):
        assert several.wait(WAIT_LIMIT_S)

    assert [record.getMessage() for record in caplog.records] == []
    gaps = [after - before for before, after in pairwise(started)]
    assert min(gaps) >= 3 * INTERVAL_S


def test_passes_shorter_than_the_interval_run_once_per_interval():
    started: list[float] = []
    several = threading.Event()

    def short_pass() -> None:
        started.append(time.monotonic())
        if len(started) == 5:
            several.set()

    begin = time.monotonic()
    with running(BackgroundScheduler(timezone=UTC), short_pass):
        assert several.wait(WAIT_LIMIT_S)

    # Even on a busy machine the fifth pass needs the fifth tick, which is four intervals after the first.
    # APScheduler uses another clock than this test, hence the hundredth of a second.
    assert started[4] >= begin + 4 * INTERVAL_S - 0.01


def test_a_closing_schedule_lets_the_running_pass_end_and_starts_no_other():
    scheduler, one_pass = ManualScheduler(), Pass()

    with running(scheduler, one_pass) as schedule:
        assert one_pass.started.acquire(timeout=WAIT_LIMIT_S)
        schedule.close()
        one_pass.may_end.release(2)

    assert not one_pass.started.acquire(blocking=False)
