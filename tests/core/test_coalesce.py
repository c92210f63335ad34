"""Requests of several threads as one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from watcher.store.dynamodb.coalesce import Coalesced

LONG = 60.0


class Squares:
    """Answers with squares, when it is let; remembers what went together."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def do(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.asked.append(list(numbers))
        self.begun.release()
        assert self.may_end.acquire(timeout=LONG)
        if 13 in numbers:
            raise RuntimeError("not with 13")
        return [ValueError(f"{n} is negative") if n < 0 else n * n for n in numbers]


def at_once() -> None:
    pass


@pytest.fixture
def squares() -> Squares:
    return Squares()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def waiting(coalesced: Coalesced[int, int], count: int) -> None:
    """Until so many wait for the one that is under way."""
    while len(coalesced._queue) < count:
        threading.Event().wait(0.001)


def asked_during_the_first(
    squares: Squares, pool: ThreadPoolExecutor, *numbers: int, most: int = 100
) -> list[Future[int]]:
    """Ask for 1 and, while that is under way, for the others; then let all of them end."""
    coalesced = Coalesced(squares.do, lambda queued: most, at_once, LONG)
    futures = [pool.submit(coalesced.ask, 1)]
    assert squares.begun.acquire(timeout=LONG)
    for count, number in enumerate(numbers, 1):
        futures.append(pool.submit(coalesced.ask, number))
        waiting(coalesced, count)
    squares.may_end.release(len(futures))
    return futures


def test_one_that_is_alone_goes_alone_and_at_once(squares: Squares) -> None:
    coalesced = Coalesced(squares.do, lambda queued: 100, at_once, LONG)
    squares.may_end.release(2)

    assert [coalesced.ask(3), coalesced.ask(4)] == [9, 16]
    assert squares.asked == [[3], [4]]


def test_what_is_asked_while_one_is_under_way_goes_together(
    squares: Squares, pool: ThreadPoolExecutor
) -> None:
    futures = asked_during_the_first(squares, pool, 2, 3, 4)

    assert [future.result(LONG) for future in futures] == [1, 4, 9, 16]
    assert squares.asked == [[1], [2, 3, 4]]


def test_one_waits_a_moment_for_others_to_come_along(squares: Squares, pool: ThreadPoolExecutor) -> None:
    coalesced = Coalesced(squares.do, lambda queued: 100, lambda: waiting(coalesced, 8), LONG)
    squares.may_end.release()

    assert list(pool.map(coalesced.ask, range(8))) == [n * n for n in range(8)]
    assert [sorted(together) for together in squares.asked] == [list(range(8))]


def test_only_as_many_go_together_as_fit(squares: Squares, pool: ThreadPoolExecutor) -> None:
    futures = asked_during_the_first(squares, pool, 2, 3, 4, 5, 6, most=2)

    assert [future.result(LONG) for future in futures] == [1, 4, 9, 16, 25, 36]
    assert squares.asked == [[1], [2, 3], [4, 5], [6]]


def test_an_error_of_one_is_raised_to_that_one(squares: Squares, pool: ThreadPoolExecutor) -> None:
    one, two, negative = asked_during_the_first(squares, pool, 2, -3)

    assert [one.result(LONG), two.result(LONG)] == [1, 4]
    with pytest.raises(ValueError, match="-3 is negative"):
        negative.result(LONG)


def test_where_all_of_them_fail_each_is_told_and_the_next_goes_on(
    squares: Squares, pool: ThreadPoolExecutor
) -> None:
    coalesced = Coalesced(squares.do, lambda queued: 100, at_once, LONG)
    squares.may_end.release(2)
    with pytest.raises(RuntimeError, match="not with 13"):
        coalesced.ask(13)
    assert coalesced.ask(2) == 4

    squares.begun.acquire(), squares.begun.acquire()
    one, *others = asked_during_the_first(squares, pool, 2, 13)
    assert one.result(LONG) == 1
    for other in others:
        with pytest.raises(RuntimeError, match="not with 13"):
            other.result(LONG)


def test_one_that_hangs_is_not_waited_for(squares: Squares, pool: ThreadPoolExecutor) -> None:
    coalesced = Coalesced(squares.do, lambda queued: 100, at_once, 0.01)
    hanging = pool.submit(coalesced.ask, 1)
    assert squares.begun.acquire(timeout=LONG)

    other = pool.submit(coalesced.ask, 2)
    assert squares.begun.acquire(timeout=LONG)

    assert squares.asked == [[1], [2]]
    squares.may_end.release(2)
    assert [hanging.result(LONG), other.result(LONG)] == [1, 4]


def test_whoever_asks_gets_the_own_answer_however_many_do(pool: ThreadPoolExecutor) -> None:
    together: list[int] = []

    def do(numbers: Sequence[int]) -> list[int]:
        together.append(len(numbers))
        return [n * n for n in numbers]

    coalesced = Coalesced(do, lambda queued: 5, at_once, LONG)
    assert list(pool.map(coalesced.ask, range(2000))) == [n * n for n in range(2000)]
    assert sum(together) == 2000
