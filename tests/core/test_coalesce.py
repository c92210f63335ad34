"""Requests of several threads are sent as one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from watcher.store.dynamodb.coalesce import Coalesced

TIMEOUT_S = 60.0


class Squares:
    """Answers with squares once the test allows it, and records each batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def do(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        self.started.release()
        assert self.may_end.acquire(timeout=TIMEOUT_S)
        if 13 in numbers:
            raise RuntimeError("not with 13")
        return [ValueError(f"{n} is negative") if n < 0 else n * n for n in numbers]


def no_wait() -> None:
    pass


@pytest.fixture
def squares() -> Squares:
    return Squares()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def wait_for_queued(coalesced: Coalesced[int, int], count: int) -> None:
    """Wait until `count` requests are queued behind the one that is running."""
    while len(coalesced._queue) < count:
        threading.Event().wait(0.001)


def ask_during_the_first(
    squares: Squares, pool: ThreadPoolExecutor, *numbers: int, most: int = 100
) -> list[Future[int]]:
    """Ask for 1 and, while that is running, for the others; then let all of them finish."""
    coalesced = Coalesced(squares.do, lambda queued: most, no_wait, TIMEOUT_S)
    futures = [pool.submit(coalesced.ask, 1)]
    assert squares.started.acquire(timeout=TIMEOUT_S)
    for count, number in enumerate(numbers, 1):
        futures.append(pool.submit(coalesced.ask, number))
        wait_for_queued(coalesced, count)
    squares.may_end.release(len(futures))
    return futures


def test_a_single_request_is_sent_alone_and_at_once(squares: Squares) -> None:
    coalesced = Coalesced(squares.do, lambda queued: 100, no_wait, TIMEOUT_S)
    squares.may_end.release(2)

    assert [coalesced.ask(3), coalesced.ask(4)] == [9, 16]
    assert squares.batches == [[3], [4]]


def test_requests_made_while_one_is_running_are_sent_together(
    squares: Squares, pool: ThreadPoolExecutor
) -> None:
    futures = ask_during_the_first(squares, pool, 2, 3, 4)

    assert [future.result(TIMEOUT_S) for future in futures] == [1, 4, 9, 16]
    assert squares.batches == [[1], [2, 3, 4]]


def test_a_request_waits_briefly_for_others_to_join_it(squares: Squares, pool: ThreadPoolExecutor) -> None:
    coalesced = Coalesced(squares.do, lambda queued: 100, lambda: wait_for_queued(coalesced, 8), TIMEOUT_S)
    squares.may_end.release()

    assert list(pool.map(coalesced.ask, range(8))) == [n * n for n in range(8)]
    assert [sorted(together) for together in squares.batches] == [list(range(8))]


def test_a_batch_is_no_larger_than_its_limit(squares: Squares, pool: ThreadPoolExecutor) -> None:
    futures = ask_during_the_first(squares, pool, 2, 3, 4, 5, 6, most=2)

    assert [future.result(TIMEOUT_S) for future in futures] == [1, 4, 9, 16, 25, 36]
    assert squares.batches == [[1], [2, 3], [4, 5], [6]]


def test_the_error_of_one_request_is_raised_to_its_caller_only(
    squares: Squares, pool: ThreadPoolExecutor
) -> None:
    one, two, negative = ask_during_the_first(squares, pool, 2, -3)

    assert [one.result(TIMEOUT_S), two.result(TIMEOUT_S)] == [1, 4]
    with pytest.raises(ValueError, match="-3 is negative"):
        negative.result(TIMEOUT_S)


def test_when_a_batch_fails_each_caller_gets_the_error_and_the_next_batch_runs(
    squares: Squares, pool: ThreadPoolExecutor
) -> None:
    coalesced = Coalesced(squares.do, lambda queued: 100, no_wait, TIMEOUT_S)
    squares.may_end.release(2)
    with pytest.raises(RuntimeError, match="not with 13"):
        coalesced.ask(13)
    assert coalesced.ask(2) == 4

    squares.started.acquire(), squares.started.acquire()
    one, *others = ask_during_the_first(squares, pool, 2, 13)
    assert one.result(TIMEOUT_S) == 1
    for other in others:
        with pytest.raises(RuntimeError, match="not with 13"):
            other.result(TIMEOUT_S)


def test_a_batch_that_hangs_does_not_block_the_next(squares: Squares, pool: ThreadPoolExecutor) -> None:
    coalesced = Coalesced(squares.do, lambda queued: 100, no_wait, 0.01)
    hanging = pool.submit(coalesced.ask, 1)
    assert squares.started.acquire(timeout=TIMEOUT_S)

    other = pool.submit(coalesced.ask, 2)
    assert squares.started.acquire(timeout=TIMEOUT_S)

    assert squares.batches == [[1], [2]]
    squares.may_end.release(2)
    assert [hanging.result(TIMEOUT_S), other.result(TIMEOUT_S)] == [1, 4]


def test_each_of_many_callers_gets_its_own_answer(pool: ThreadPoolExecutor) -> None:
    together: list[int] = []

    def do(numbers: Sequence[int]) -> list[int]:
        together.append(len(numbers))
        return [n * n for n in numbers]

    coalesced = Coalesced(do, lambda queued: 5, no_wait, TIMEOUT_S)
    assert list(pool.map(coalesced.ask, range(2000))) == [n * n for n in range(2000)]
    assert sum(together) == 2000
