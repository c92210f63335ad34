"""Hints about jobs that no store knows: they have a pace of their own, and delay no known job."""

from __future__ import annotations

from tests.doubles.clock import Clock
from watcher.jobs.work import MAX_UNKNOWN_AT_ONCE, Allowance, LocalWork, Urgency


def taken(work: LocalWork) -> list[str]:
    """What the workers get without waiting."""
    found = []
    while (arn := work.take(0)) is not None:
        found.append(arn)
    return found


def test_known_jobs_come_before_all_unknown_ones():
    work = LocalWork()
    for number in range(600):
        work.put(f"unknown-{number}", Urgency.UNKNOWN)
    work.put("known", Urgency.DUE)
    assert work.take(0) == "known"


def test_unknown_jobs_leave_workers_for_known_ones():
    work = LocalWork()
    for number in range(10):
        work.put(f"unknown-{number}", Urgency.UNKNOWN)
    assert len(taken(work)) == MAX_UNKNOWN_AT_ONCE
    work.put("known", Urgency.DUE)
    assert taken(work) == ["known"]


def test_jobs_that_do_not_exist_are_looked_at_slowly():
    clock = Clock()
    work = LocalWork(Allowance(5, 20, clock.monotonic))
    for number in range(600):
        work.put(f"unknown-{number}", Urgency.UNKNOWN)
    looked_at = 0
    for _ in range(10):
        while (arn := work.take(0)) is not None:
            work.absent(arn)
            looked_at += 1
        clock.turn(1)
    assert looked_at == 20 + 9 * 5


def test_new_jobs_that_exist_are_looked_at_as_fast_as_they_come():
    work = LocalWork(Allowance(5, 20, Clock().monotonic))
    for number in range(600):
        work.put(f"new-{number}", Urgency.UNKNOWN)
    looked_at = 0
    while (arn := work.take(0)) is not None:
        work.done(arn)
        looked_at += 1
    assert looked_at == 600


def test_an_unknown_job_that_becomes_urgent_is_looked_at_once_and_first():
    work = LocalWork()
    work.put("other", Urgency.UNKNOWN)
    work.put("job", Urgency.UNKNOWN)
    work.put("job", Urgency.ENDED)
    assert taken(work) == ["job", "other"]


def test_an_allowance_is_full_again_after_a_while_and_not_fuller():
    clock = Clock()
    allowance = Allowance(2, 3, clock.monotonic)
    assert [allowance.spend() for _ in range(4)] == [0, 0, 0, 0.5]
    clock.turn(1000)
    assert [allowance.spend() for _ in range(3)] == [0, 0, 0]
    assert allowance.spend() > 0
