"""The guarantees of lanes, for any sequence of events: no lane ever has two deliveries in flight, deliveries
keep their order, none is lost, and every store agrees with the one in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.contract.samples import NOON, case, delivery, grows, incident, look, opens
from tests.contract.tables import create_table
from tests.doubles.clock import Clock
from watcher.model import Case, Delivery, DeliveryState
from watcher.sandbox.process import Sandbox
from watcher.store.base import Amend, Store
from watcher.store.dynamodb.store import DynamoStore
from watcher.store.memory import MemoryStore
from watcher.store.sqlite import SqliteStore

LEASE_S = 10
DESTINATIONS = ["slack:#a", "slack:#b", "console"]
ENDS = [state for state in DeliveryState if state is not DeliveryState.IN_FLIGHT]


def cancels(known: Case | None) -> Case | None:
    """Cancels what is pending."""
    assert known is not None
    pending = DeliveryState.PENDING
    rows = (
        replace(each, state=DeliveryState.CANCELLED) if each.state is pending else each
        for each in known.deliveries
    )
    return replace(known, deliveries=tuple(rows))


def sends_again(known: Case | None) -> Case | None:
    """Opens what is not in flight, in the lane of first messages."""
    assert known is not None
    rows = (
        each if each.open else replace(each, state=DeliveryState.PENDING, lane=each.to)
        for each in known.deliveries
    )
    return replace(known, deliveries=tuple(rows))


def closes(known: Case | None) -> Case | None:
    """Wants nothing more to be told."""
    assert known is not None
    return replace(known, deliveries=tuple(replace(each, wanted=each.told) for each in known.deliveries))


class Lanes(RuleBasedStateMachine):
    """The stores are compared after each step, so checks read only the one in memory, without a request."""

    held = Bundle("held")
    """Which owner claimed which delivery, even if the lease has ended since."""

    def open(self, monotonic: Callable[[], float]) -> Store:
        self.folder = tempfile.TemporaryDirectory()
        store = SqliteStore(Path(self.folder.name) / "watcher.db", monotonic=monotonic)
        store._connection.execute(
            "PRAGMA synchronous = OFF"
        )  # power cuts are not tested here, and syncing is slow
        return store

    def close(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(NOON)
        self.store = self.open(self.clock.monotonic)
        self.memory = MemoryStore(self.clock.monotonic)
        self.given: list[str] = []
        self.jobs: list[str] = []

    def teardown(self) -> None:
        for job in self.jobs:
            self.amend(job, closes)
        while (due := self.next_due()) is not None:
            self.clock.turn(max((due - self.clock()).total_seconds(), 0))
            for claimed in self.claim("last", 10):
                assert self.settle("last", replace(claimed, state=DeliveryState.DEAD))
        assert not self.store.has_open()
        self.close()

    # Each of these asks both stores, which must agree.

    def next_due(self) -> datetime | None:
        due = self.store.next_due()
        assert due == self.memory.next_due()
        return due

    def claim(self, owner: str, limit: int) -> list[Delivery]:
        claimed = self.store.claim(owner, self.clock(), LEASE_S, limit)
        assert claimed == self.memory.claim(owner, self.clock(), LEASE_S, limit)
        assert claimed.next_due == self.memory.next_due()
        return claimed.deliveries

    def settle(self, owner: str, delivery: Delivery, amend: Amend | None = None) -> bool:
        settled = self.store.settle(owner, delivery, amend)
        assert settled is self.memory.settle(owner, delivery, amend)
        return settled

    def amend(self, job: str, amend: Amend) -> None:
        assert self.store.amend(incident(job).id, amend) == self.memory.amend(incident(job).id, amend)

    # -- events -----------------------------------------------------------------------------------

    @rule(to=st.lists(st.sampled_from(DESTINATIONS), min_size=1, unique=True), wait=st.integers(0, 3))
    def find(self, to: list[str], wait: int) -> None:
        job = f"job-{len(self.jobs)}"
        due_at = self.clock() + timedelta(seconds=wait * LEASE_S)
        alerts = [delivery(job, one, due_at=due_at) for one in to]
        found = [look(job, opens(case(job, *alerts)))]
        assert self.store.commit(found) == self.memory.commit(found) == (case(job, *alerts),)
        self.jobs.append(job)
        self.given += [alert.id for alert in alerts]

    @rule(target=held, owner=st.sampled_from("ab"), limit=st.integers(1, 3))
    def claim_some(self, owner: str, limit: int) -> object:
        heads = {self.memory._deliveries[head.id].id for head in self.memory._heads()}
        claimed = self.claim(owner, limit)
        assert {one.id for one in claimed} <= heads
        return multiple(*((owner, delivery) for delivery in claimed))

    @rule(taken=consumes(held), state=st.sampled_from(ENDS), changes=st.booleans())
    def settle_one(self, taken: tuple[str, Delivery], state: DeliveryState, changes: bool) -> None:
        owner, claimed = taken
        end = replace(claimed, state=state)
        if state is DeliveryState.DELIVERED:
            end = replace(end, lane=f"{claimed.to} edits", told=claimed.trying)
        elif state in (DeliveryState.REFUSED, DeliveryState.SNOOZED):
            due_at = self.clock() + timedelta(seconds=LEASE_S)
            end = replace(end, lane=f"{state}:{claimed.id}", due_at=due_at)
        self.settle(owner, end, grows if changes else None)

    @rule(which=st.integers(0, 100), amend=st.sampled_from([grows, cancels, sends_again]))
    def change_one(self, which: int, amend: Amend) -> None:
        if self.jobs:
            self.amend(self.jobs[which % len(self.jobs)], amend)

    @rule(seconds=st.sampled_from([1, LEASE_S, 3 * LEASE_S]))
    def let_time_pass(self, seconds: int) -> None:
        self.clock.turn(seconds)

    # -- invariants -------------------------------------------------------------------------------

    @invariant()
    def the_stores_agree_and_lose_nothing(self) -> None:
        deliveries = self.store.deliveries()
        assert deliveries == self.memory.deliveries()
        assert [delivery.id for delivery in deliveries] == self.given
        assert self.store.has_open() is self.memory.has_open()
        self.next_due()

    @invariant()
    def no_lane_has_two_in_flight(self) -> None:
        lanes = [each.lane for each in self.memory.deliveries() if each.state is DeliveryState.IN_FLIGHT]
        assert len(lanes) == len(set(lanes))


TestLanes = Lanes.TestCase
TestLanes.settings = settings(
    derandomize=True, database=None, deadline=None, max_examples=20, stateful_step_count=25
)


def test_dynamodb_keeps_the_same_guarantees(sandbox: Sandbox) -> None:
    tables = count()

    class LanesOnDynamoDB(Lanes):
        def open(self, monotonic: Callable[[], float]) -> Store:
            table = f"lanes-{next(tables)}"
            return DynamoStore(create_table(sandbox, table), table, monotonic=monotonic)

        def close(self) -> None:
            self.store.close()

    few = settings(derandomize=True, database=None, deadline=None, max_examples=8, stateful_step_count=20)
    run_state_machine_as_test(LanesOnDynamoDB, settings=few)
