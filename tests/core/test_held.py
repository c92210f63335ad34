"""The cache of items of the jobs that this process holds."""

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


def test_items_are_taken_once_when_all_their_jobs_were_read(held: HeldJobs):
    held.read("churn", CHURN)
    held.read("sales", None)

    assert held.take(["churn", "sales"]) == [CHURN]
    assert held.take(["churn", "sales"]) is None


def test_nothing_is_taken_if_one_of_the_jobs_was_not_read(held: HeldJobs):
    held.read("churn", CHURN)

    assert held.take(["churn", "sales"]) is None
    assert held.take(["churn"]) is None


def test_holding_a_job_again_discards_what_was_read_before(held: HeldJobs):
    held.read("churn", CHURN)
    held.add(["churn"])

    assert held.take(["churn"]) is None


def test_a_job_that_is_not_held_is_not_cached(held: HeldJobs):
    held.drop("churn")
    held.read("churn", CHURN)

    assert held.take(["churn"]) is None


def test_reading_during_a_take_leaves_no_stale_item(held: HeldJobs):
    """The take happens after the reader checks that the job is held and before it stores the item."""

    class Dict(dict[str, object]):
        def __contains__(self, key: object) -> bool:
            there = super().__contains__(key)
            taker = threading.Thread(target=held.take, args=(["churn"],))
            taker.start()
            taker.join(0.05)  # it waits for the lock; without a lock it would finish here
            takers.append(taker)
            return there

    takers: list[threading.Thread] = []
    held._items = Dict(held._items)  # type: ignore[assignment]
    held.read("churn", CHURN)
    for taker in takers:
        taker.join()

    assert "churn" not in dict(held._items)
