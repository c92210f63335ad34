"""A loop that hangs can be distinguished from one that waits."""

from __future__ import annotations

import pytest

from tests.doubles.clock import Clock
from watcher.web.loops import Lag, Loops


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loops(clock: Clock) -> Loops:
    return Loops(clock.monotonic)


def test_a_loop_that_has_just_started_is_not_late(loops: Loops):
    loops.add("receive", 300)

    assert loops.lags() == [Lag("receive", 0, 300)]
    assert loops.late() == []


def test_a_loop_is_late_when_it_does_not_turn_within_its_own_limit(loops: Loops, clock: Clock):
    turned = loops.add("receive", 300)
    loops.add("logs", 900)

    clock.turn(300)
    assert loops.late() == []
    clock.turn(1)
    assert [lag.loop for lag in loops.late()] == ["receive"]
    turned()
    assert loops.late() == []


def test_a_turn_of_one_loop_does_not_count_for_another(loops: Loops, clock: Clock):
    turned = loops.add("look-1", 300)
    loops.add("look-2", 300)

    clock.turn(301)
    turned()

    assert loops.late() == [Lag("look-2", 301, 300)]
