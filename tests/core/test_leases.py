"""When the lease of another process has ended, measured on one's own clock."""

from __future__ import annotations

from datetime import timedelta

from tests.doubles.clock import Clock
from watcher.store.leases import ClaimClock, Observed

LEASE_S = 60.0


def test_a_lease_ends_once_it_was_seen_unchanged_for_its_length() -> None:
    clock = Clock()
    observed = Observed(clock.monotonic)

    assert not observed.ended("job", "owner 1", LEASE_S)
    clock.turn(LEASE_S - 1)
    assert observed.remaining("job", "owner 1", LEASE_S) == 1
    clock.turn(1)
    assert observed.ended("job", "owner 1", LEASE_S)


def test_a_lease_that_changes_begins_again() -> None:
    clock = Clock()
    observed = Observed(clock.monotonic)
    observed.remaining("job", "owner 1", LEASE_S)
    clock.turn(LEASE_S)

    assert not observed.ended("job", "owner 2", LEASE_S)
    assert observed.remaining("job", "owner 2", LEASE_S) == LEASE_S


def test_a_lease_that_this_process_took_counts_from_then() -> None:
    clock = Clock()
    observed = Observed(clock.monotonic)
    observed.taken("job", "ours 1")
    clock.turn(LEASE_S / 2)

    assert observed.remaining("job", "ours 1", LEASE_S) == LEASE_S / 2


def test_the_observer_says_how_long_a_lease_is() -> None:
    clock = Clock()
    observed = Observed(clock.monotonic)
    observed.remaining("job", "owner 1", LEASE_S)
    clock.turn(10)

    assert observed.ended("job", "owner 1", 10)
    assert not observed.ended("job", "owner 1", 11)


def test_a_lease_that_was_forgotten_is_seen_for_the_first_time() -> None:
    clock = Clock()
    observed = Observed(clock.monotonic)
    observed.remaining("job", "owner 1", LEASE_S)
    clock.turn(LEASE_S)
    observed.forget("job")
    observed.forget("never seen")

    assert not observed.ended("job", "owner 1", LEASE_S)


def test_only_the_leases_that_were_asked_for_last_are_remembered() -> None:
    clock = Clock()
    observed = Observed(clock.monotonic, size=2)
    for job in ("a", "b", "a", "c"):
        observed.remaining(job, "owner 1", LEASE_S)
    clock.turn(LEASE_S)

    assert observed.ended("a", "owner 1", LEASE_S)
    assert observed.ended("c", "owner 1", LEASE_S)
    assert not observed.ended("b", "owner 1", LEASE_S)


def test_a_delivery_in_flight_is_ready_when_its_lease_ends_on_the_clock_of_those_who_claim() -> None:
    clock, wall = Clock(), Clock()
    wall.turn(-3600)  # the two clocks need not agree
    claims = ClaimClock(Observed(clock.monotonic), clock.monotonic)
    claims.claiming(wall(), LEASE_S)
    ends_at = wall() + timedelta(seconds=LEASE_S)

    assert claims.ready_at("delivery", 1, wall()) == ends_at
    clock.turn(LEASE_S / 4)
    assert claims.ready_at("delivery", 1, wall()) == ends_at


def test_before_the_first_claim_a_delivery_in_flight_is_ready_when_it_was_due() -> None:
    clock = Clock()
    claims = ClaimClock(Observed(clock.monotonic), clock.monotonic)

    assert claims.ready_at("delivery", 1, clock()) == clock()
