"""The cache of items of the runs of jobs that this process holds."""

from __future__ import annotations

import pytest

from watcher.store.dynamodb.held import HeldJobs

CHURN = {"pk": "RUN#churn@1", "sk": "RUN", "version": 7}


@pytest.fixture
def held() -> HeldJobs:
    jobs = HeldJobs()
    jobs.add(["churn", "sales"])
    return jobs


def test_items_are_taken_once_when_all_their_jobs_were_read(held: HeldJobs):
    held.read("churn@1", CHURN)
    held.read("sales@1", None)

    assert held.take(["churn@1", "sales@1"]) == [CHURN]
    assert held.take(["churn@1", "sales@1"]) is None


def test_nothing_is_taken_if_one_of_the_jobs_was_not_read(held: HeldJobs):
    held.read("churn@1", CHURN)

    assert held.take(["churn@1", "sales@1"]) is None
    assert held.take(["churn@1"]) is None


def test_holding_a_job_again_discards_what_was_read_before(held: HeldJobs):
    held.read("churn@1", CHURN)
    held.add(["churn"])

    assert held.take(["churn@1"]) is None


def test_a_run_is_not_taken_for_another_run_of_the_same_job(held: HeldJobs):
    held.read("churn@1", CHURN)

    assert held.take(["churn@2"]) is None


def test_a_job_that_is_not_held_is_not_cached(held: HeldJobs):
    held.drop("churn")
    held.read("churn@1", CHURN)

    assert held.take(["churn@1"]) is None
