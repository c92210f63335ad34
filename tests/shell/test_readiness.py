"""Store and queue are checked rarely, and a slow check blocks only one request."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.contract.samples import NOON, case, delivery, look, opens
from tests.doubles.clock import Clock
from tests.waiting import WAIT_LIMIT_S
from watcher.aws.queue import Depth
from watcher.errors import Unavailable
from watcher.store import open_store
from watcher.store.memory import MemoryStore
from watcher.web.readiness import CHECK_INTERVAL_S, CHECK_TIMEOUT_S, Answer, Readiness


class Queue:
    """A queue that answers, refuses or hangs."""

    def __init__(self) -> None:
        self.calls = 0
        self.refuses = False
        self.hangs = False
        self.called = threading.Event()
        self.released = threading.Event()

    def depth(self) -> Depth:
        self.calls += 1
        self.called.set()
        if self.hangs:
            self.released.wait(WAIT_LIMIT_S)
        if self.refuses:
            raise Unavailable("sqs:GetQueueAttributes did not answer", operation="sqs:GetQueueAttributes")
        return Depth(3, 1, 0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def readiness(clock: Clock, queue: Queue) -> Readiness:
    return Readiness(MemoryStore(), queue.depth, lambda: NOON, clock.monotonic)


def test_it_is_ready_and_repeats_the_answers_when_both_answer(readiness: Readiness):
    assert readiness.answer() == Answer((), 0.0, Depth(3, 1, 0))


def test_without_a_queue_only_the_store_is_checked(clock: Clock):
    answer = Readiness(MemoryStore(), None, lambda: NOON, clock.monotonic).answer()

    assert answer == Answer((), 0.0, None)


def test_they_are_checked_again_only_when_the_answer_is_too_old(
    readiness: Readiness, clock: Clock, queue: Queue
):
    for _ in range(100):
        readiness.answer()
    assert queue.calls == 1

    queue.refuses = True
    clock.turn(CHECK_INTERVAL_S)
    assert readiness.answer().problems == ("sqs:GetQueueAttributes did not answer",)
    assert queue.calls == 2


def test_it_is_ready_again_when_they_answer_again(readiness: Readiness, clock: Clock, queue: Queue):
    queue.refuses = True
    assert not readiness.answer().ready
    queue.refuses = False
    clock.turn(CHECK_INTERVAL_S)
    assert readiness.answer().ready


def test_a_request_during_a_hanging_check_gets_the_last_answer_and_later_none(
    readiness: Readiness, clock: Clock, queue: Queue
):
    readiness.answer()
    queue.called.clear()
    queue.hangs = True
    clock.turn(CHECK_INTERVAL_S)
    hanging = threading.Thread(target=readiness.answer)
    hanging.start()
    assert queue.called.wait(WAIT_LIMIT_S)

    assert readiness.answer().ready
    clock.turn(CHECK_TIMEOUT_S)
    assert readiness.answer().problems == (f"store and queue have not answered for {CHECK_TIMEOUT_S:.0f} s",)

    queue.released.set()
    hanging.join()
    assert readiness.answer().ready


def test_the_first_requests_after_a_long_silence_still_get_the_last_answer(
    readiness: Readiness, clock: Clock, queue: Queue
):
    readiness.answer()
    queue.called.clear()
    queue.hangs = True
    clock.turn(10 * CHECK_TIMEOUT_S)
    first = threading.Thread(target=readiness.answer)
    first.start()
    assert queue.called.wait(WAIT_LIMIT_S)

    assert readiness.answer().ready

    queue.released.set()
    first.join()


def test_it_is_not_ready_before_store_and_queue_have_answered_once(readiness: Readiness, queue: Queue):
    queue.hangs = True
    hanging = threading.Thread(target=readiness.answer)
    hanging.start()
    assert queue.called.wait(WAIT_LIMIT_S)

    assert readiness.answer().problems == ("store and queue have not answered yet",)

    queue.released.set()
    hanging.join()
    assert readiness.answer().ready


def test_an_unreadable_store_is_a_problem_with_an_explanation(tmp_path: Path, clock: Clock):
    file = tmp_path / "watcher.db"
    store = open_store(f"sqlite:///{file}")
    readiness = Readiness(store, None, lambda: NOON, clock.monotonic)
    assert readiness.answer().ready

    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE deliveries")
    clock.turn(CHECK_INTERVAL_S)

    (problem,) = readiness.answer().problems
    assert str(file) in problem
    assert readiness.answer().overdue is None
    store.close()


@pytest.mark.parametrize(("due_in", "overdue"), [(-90, 90), (30, 0)])
def test_a_due_delivery_that_is_not_delivered_is_overdue(clock: Clock, due_in: float, overdue: float):
    store = MemoryStore()
    due = delivery("churn", due_at=NOON + timedelta(seconds=due_in))
    store.commit([look("churn", opens(case("churn", due)))])

    assert Readiness(store, None, lambda: NOON, clock.monotonic).answer().overdue == overdue
