"""What is remembered of the jobs that this process holds."""

from __future__ import annotations

import threading

import pytest

from watcher.store.dynamodb.held import HeldJobs

CHURN = {"pk": "JOB#churn", "sk": "JOB", "version": 7}


@pytest.fixture
def held() -> HeldJobs:
    jobs = HeldJobs()
    jobs.add(["churn", "sales"])
    return jobs


def test_the_items_of_jobs_that_were_all_read_are_taken_once(held: HeldJobs):
    held.read("churn", CHURN)
    held.read("sales", None)

    assert held.take(["churn", "sales"]) == [CHURN]
    assert held.take(["churn", "sales"]) is None


def test_nothing_is_taken_if_one_of_the_jobs_was_not_read(held: HeldJobs):
    held.read("churn", CHURN)

    assert held.take(["churn", "sales"]) is None
    assert held.take(["churn"]) is None


def test_what_was_read_before_the_job_was_held_again_is_forgotten(held: HeldJobs):
    held.read("churn", CHURN)
    held.add(["churn"])

    assert held.take(["churn"]) is None


def test_a_job_that_is_not_held_is_not_remembered(held: HeldJobs):
    held.drop("churn")
    held.read("churn", CHURN)

    assert held.take(["churn"]) is None


def test_a_thread_that_reads_while_another_takes_leaves_nothing_behind(held: HeldJobs):
    """The reader stands between its look whether the job is held and its write of what it read."""

    class Dict(dict[str, object]):
        def __contains__(self, key: object) -> bool:
            there = super().__contains__(key)
            taker = threading.Thread(target=held.take, args=(["churn"],))
            taker.start()
            taker.join(0.05)  # it waits for the lock; without one, it would be done
            takers.append(taker)
            return there

    takers: list[threading.Thread] = []
    held._items = Dict(held._items)  # type: ignore[assignment]
    held.read("churn", CHURN)
    for taker in takers:
        taker.join()

    assert "churn" not in dict(held._items)
