"""How often a job's debug output is looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from watcher.evaluate import LONGEST, SHORTEST, next_interval

intervals = st.floats(0, 1000)


def test_a_job_that_saves_nothing_is_looked_at_less_and_less():
    interval, waits = 0.0, []
    for _ in range(7):
        interval = next_interval(interval, 0)
        waits.append(interval)
    assert waits == [5, 10, 20, 40, 80, 120, 120]


def test_a_job_that_saves_often_is_looked_at_often():
    assert next_interval(60, 60) == SHORTEST
    assert next_interval(60, 5) == 60
    assert next_interval(60, 1) == LONGEST


@given(intervals, st.integers(0, 100_000))
def test_the_wait_is_bounded(last: float, steps: int):
    assert SHORTEST <= next_interval(last, steps) <= LONGEST


@given(intervals, st.integers(1, 1000))
def test_more_new_steps_never_make_the_wait_longer(last: float, steps: int):
    assert next_interval(last, steps + 1) <= next_interval(last, steps)
