"""Leases between processes whose clocks do not agree. Each has its own, and they share a store."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.contract.conftest import OpenStore
from tests.contract.samples import NOON, alert, arn, grows, look
from tests.doubles.clock import Clock
from watcher.model import Delivery, DeliveryState
from watcher.store.base import Store

LEASE_S = 60.0
POLL_S = 10


class Replica:
    """A process with its own idea of the time."""

    def __init__(self, open_replica: OpenStore, name: str, ahead_s: float = 0) -> None:
        self.clock = Clock(NOON + timedelta(seconds=ahead_s))
        self.name = name
        self.store: Store = open_replica(self.clock)

    def claim(self) -> list[Delivery]:
        return self.store.claim(self.name, self.clock(), LEASE_S, 10).deliveries

    def hold(self) -> bool:
        return bool(self.store.hold([arn("job")], self.name, LEASE_S))

    def settle(self, delivery: Delivery) -> bool:
        done = replace(delivery, state=DeliveryState.DELIVERED, told=delivery.trying)
        return self.store.settle(self.name, done)

    @property
    def next_due(self) -> datetime | None:
        return self.store.next_due()


def let_pass(seconds: float, *replicas: Replica) -> None:
    for each in replicas:
        each.clock.turn(seconds)


@pytest.fixture
def slow(open_replica: OpenStore) -> Replica:
    return Replica(open_replica, "slow")


@pytest.fixture
def ahead(open_replica: OpenStore) -> Replica:
    return Replica(open_replica, "ahead", ahead_s=2 * LEASE_S)


def test_a_delivery_in_flight_is_left_to_its_owner_by_a_process_whose_clock_is_ahead(
    slow: Replica, ahead: Replica
) -> None:
    slow.store.commit([alert("job", "console")])
    (claimed,) = slow.claim()
    for _ in range(6):  # the destination takes its time to answer
        assert ahead.claim() == []
        let_pass(1, slow, ahead)

    assert slow.settle(claimed)
    assert ahead.claim() == []


def test_the_delivery_of_a_process_that_died_is_taken_over_after_a_lease_on_ones_own_clock(
    slow: Replica, ahead: Replica
) -> None:
    slow.store.commit([alert("job", "console")])
    slow.claim()  # and dies
    assert ahead.claim() == []
    assert ahead.next_due == ahead.clock() + timedelta(seconds=LEASE_S)

    let_pass(LEASE_S - 1, ahead)
    assert ahead.claim() == []
    let_pass(1, ahead)
    (taken,) = ahead.claim()

    assert taken.uncertain
    assert ahead.settle(taken)


def test_a_lease_counts_from_when_it_was_first_seen(slow: Replica, ahead: Replica) -> None:
    slow.store.commit([alert("job", "console")])
    slow.claim()
    let_pass(10 * LEASE_S, slow, ahead)

    assert ahead.claim() == []
    let_pass(LEASE_S, ahead)
    assert len(ahead.claim()) == 1


def test_a_later_claim_by_the_same_owner_is_another_lease(slow: Replica, ahead: Replica) -> None:
    slow.store.commit([alert("job", "console")])
    (first,) = slow.claim()
    assert ahead.claim() == []
    let_pass(LEASE_S / 2, slow, ahead)
    assert slow.store.settle("slow", replace(first, state=DeliveryState.PENDING))
    slow.claim()
    let_pass(LEASE_S / 2, slow, ahead)

    assert ahead.claim() == []  # it sees the second one for the first time
    let_pass(LEASE_S, ahead)
    assert len(ahead.claim()) == 1


def test_an_attempt_that_was_taken_over_cannot_be_settled_by_its_first_owner(
    slow: Replica, ahead: Replica
) -> None:
    slow.store.commit([alert("job", "console")])
    (stale,) = slow.claim()
    ahead.claim()
    let_pass(LEASE_S, ahead)
    (fresh,) = ahead.claim()

    assert not slow.settle(stale)
    assert ahead.settle(fresh)


def test_of_two_that_have_seen_a_lease_end_one_takes_over(open_replica: OpenStore, slow: Replica) -> None:
    slow.store.commit([alert("job", "console")])
    slow.claim()
    others = [Replica(open_replica, f"other-{n}", ahead_s=1000 * n) for n in range(2)]
    for each in others:
        each.claim()
    let_pass(LEASE_S, *others)

    assert [len(each.claim()) for each in others] == [1, 0]


def test_an_amendment_does_not_end_or_extend_a_lease(slow: Replica, ahead: Replica) -> None:
    slow.store.commit([alert("job", "console")])
    (claimed,) = slow.claim()
    assert ahead.claim() == []
    let_pass(LEASE_S - 1, ahead)
    ahead.store.amend(claimed.incident, grows)
    assert ahead.claim() == []
    let_pass(1, ahead)
    assert len(ahead.claim()) == 1


# -- jobs -----------------------------------------------------------------------------------------


def test_a_job_that_is_held_is_left_to_its_owner_by_a_process_whose_clock_is_ahead(
    slow: Replica, ahead: Replica
) -> None:
    assert slow.hold()
    assert not ahead.hold()
    let_pass(LEASE_S - 1, slow, ahead)
    assert not ahead.hold()

    slow.store.commit([look("job")], "slow")
    assert ahead.hold()


def test_the_job_of_a_process_that_died_is_free_after_a_lease_on_ones_own_clock(
    slow: Replica, ahead: Replica
) -> None:
    assert slow.hold()
    let_pass(10 * LEASE_S, slow, ahead)
    assert not ahead.hold()
    let_pass(LEASE_S, ahead)
    assert ahead.hold()


def test_a_lease_that_is_extended_never_ends(slow: Replica, ahead: Replica) -> None:
    assert slow.hold()
    for _ in range(20):
        assert not ahead.hold()
        let_pass(POLL_S, slow, ahead)
        assert slow.hold()


def test_a_job_that_was_released_and_held_again_between_two_looks_is_under_a_new_lease(
    slow: Replica, ahead: Replica
) -> None:
    assert slow.hold()
    assert not ahead.hold()
    let_pass(LEASE_S, slow, ahead)
    slow.store.release([arn("job")], "slow")
    assert slow.hold()

    assert not ahead.hold()


def test_work_without_an_arn_is_held_in_the_same_way(slow: Replica, ahead: Replica) -> None:
    assert slow.store.hold(["rule logs"], "slow", LEASE_S)
    assert not ahead.store.hold(["rule logs"], "ahead", LEASE_S)
    let_pass(LEASE_S, ahead)
    assert ahead.store.hold(["rule logs"], "ahead", LEASE_S)
    assert not slow.store.hold(["rule logs"], "slow", LEASE_S)
