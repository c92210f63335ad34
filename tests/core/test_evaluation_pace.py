"""How often a job's saved data is checked."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.jobs import NOON
from watcher.evaluation.pace import (
    MAX_LOOK_INTERVAL_S,
    MIN_LOOK_INTERVAL_S,
    next_interval,
    next_look,
    next_minute,
)
from watcher.model import Evaluation, Reads

intervals = st.floats(0, 1000)


def test_a_job_that_saves_nothing_is_checked_less_and_less_often():
    interval, waits = 0.0, []
    for _ in range(7):
        interval = next_interval(interval, 0)
        waits.append(interval)
    assert waits == [5, 10, 20, 40, 80, 120, 120]


def test_a_job_that_saves_often_is_checked_often():
    assert next_interval(60, 60) == MIN_LOOK_INTERVAL_S
    assert next_interval(60, 5) == 60
    assert next_interval(60, 1) == MAX_LOOK_INTERVAL_S


@given(intervals, st.integers(0, 100_000))
def test_the_wait_is_bounded(last: float, steps: int):
    assert MIN_LOOK_INTERVAL_S <= next_interval(last, steps) <= MAX_LOOK_INTERVAL_S


@given(intervals, st.integers(1, 1000))
def test_more_new_steps_never_make_the_wait_longer(last: float, steps: int):
    assert next_interval(last, steps + 1) <= next_interval(last, steps)


moments = st.integers(0, 10**7).map(lambda seconds: NOON + timedelta(seconds=seconds / 10))


@given(moments, moments)
def test_metrics_of_all_jobs_are_read_at_the_same_times(one: datetime, other: datetime):
    assert timedelta(0) < next_minute(one, 60) - one <= timedelta(seconds=60)
    assert (next_minute(one, 60) - next_minute(other, 120)) % timedelta(seconds=60) == timedelta(0)


def test_metrics_are_read_each_minute_and_half_as_often_while_none_arrive():
    due = [next_look(Evaluation(None, Reads.METRICS, interval=60), steps, NOON) for steps in (1, 100, 0)]
    assert [interval for interval, _ in due] == [60, 60, 120]
    assert due[0][1] == NOON + timedelta(seconds=60)
