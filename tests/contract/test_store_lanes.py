"""The guarantees of lanes, for any sequence of events: no lane ever has two deliveries in flight, deliveries
keep their order, none is lost, and every store agrees with the one in memory."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count, groupby
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

from tests.contract.samples import NOON, delivery, finding, look
from tests.contract.tables import create_table
from watcher.model import Delivery, DeliveryState
from watcher.sandbox.process import Sandbox
from watcher.store.base import Store
from watcher.store.dynamodb.store import DynamoStore
from watcher.store.memory import MemoryStore
from watcher.store.sqlite import SqliteStore

LEASE_S = 10
LANES = ["slack:#a", "slack:#b", "stop"]
ENDS = [state for state in DeliveryState if state is not DeliveryState.IN_FLIGHT]


class Lanes(RuleBasedStateMachine):
    """The stores are compared after each step, so checks read only the one in memory, without a request."""

    held = Bundle("held")
    """Which owner claimed which delivery, even if the lease has expired since."""

    def open(self) -> Store:
        self.folder = tempfile.TemporaryDirectory()
        store = SqliteStore(Path(self.folder.name) / "watcher.db")
        store._connection.execute(
            "PRAGMA synchronous = OFF"
        )  # power cuts are not tested here, and syncing is slow
        return store

    def close(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def __init__(self) -> None:
        super().__init__()
        self.store = self.open()
        self.memory = MemoryStore()
        self.now = NOON
        self.given: list[str] = []

    def teardown(self) -> None:
        while (due := self.next_due()) is not None:
            self.now = max(self.now, due)
            for claimed in self.claim("last", 10):
                assert self.settle("last", replace(claimed, state=DeliveryState.DELIVERED))
        assert not any(delivery.open for delivery in self.store.deliveries())
        self.close()

    # Each of these asks both stores, which must agree.

    def next_due(self) -> datetime | None:
        due = self.store.next_due()
        assert due == self.memory.next_due()
        return due

    def claim(self, owner: str, limit: int) -> list[Delivery]:
        claimed = self.store.claim(owner, self.now, LEASE_S, limit)
        assert claimed == self.memory.claim(owner, self.now, LEASE_S, limit)
        assert claimed.next_due == self.memory.next_due()
        return claimed.deliveries

    def settle(self, owner: str, delivery: Delivery, *then: Delivery) -> bool:
        settled = self.store.settle(owner, delivery, then)
        assert settled is self.memory.settle(owner, delivery, then)
        return settled

    # -- events -----------------------------------------------------------------------------------

    @rule(lanes=st.lists(st.sampled_from(LANES), min_size=1, unique=True), wait=st.integers(0, 3))
    def find(self, lanes: list[str], wait: int) -> None:
        job = f"job-{len(self.given)}"
        issue = finding(job)
        deliveries = [
            delivery(issue, lane, due_at=self.now + timedelta(seconds=wait * LEASE_S)) for lane in lanes
        ]
        found = [look(job, [issue], deliveries)]
        assert self.store.commit(found) == self.memory.commit(found) == (issue,)
        self.given += [delivery.id for delivery in deliveries]

    @rule(target=held, owner=st.sampled_from("ab"), limit=st.integers(1, 3))
    def claim_some(self, owner: str, limit: int) -> object:
        open_before = [delivery for delivery in self.memory.deliveries() if delivery.open]
        claimed = self.claim(owner, limit)
        for one in claimed:
            ahead = next(delivery for delivery in open_before if delivery.lane == one.lane)
            assert one.id == ahead.id
        return multiple(*((owner, delivery) for delivery in claimed))

    @rule(taken=consumes(held), state=st.sampled_from(ENDS), follows=st.booleans())
    def settle_one(self, taken: tuple[str, Delivery], state: DeliveryState, follows: bool) -> None:
        owner, claimed = taken
        update = replace(
            claimed, id=f"after {claimed.id}", state=DeliveryState.PENDING, attempts=0, uncertain=False
        )
        known = update.id in self.given
        settled = self.settle(owner, replace(claimed, state=state), *([update] if follows else []))
        if settled and follows and not known:
            self.given.append(update.id)

    @rule(which=st.integers(0, 100))
    def cancel_one(self, which: int) -> None:
        if self.given:
            delivery_id = self.given[which % len(self.given)]
            assert self.store.cancel(delivery_id) is self.memory.cancel(delivery_id)

    @rule(seconds=st.sampled_from([1, LEASE_S, 3 * LEASE_S]))
    def let_time_pass(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    # -- invariants -------------------------------------------------------------------------------

    @invariant()
    def the_stores_agree_and_lose_nothing(self) -> None:
        deliveries = self.store.deliveries()
        assert deliveries == self.memory.deliveries()
        assert [delivery.id for delivery in deliveries] == self.given
        self.next_due()

    @invariant()
    def no_lane_has_two_in_flight_and_only_its_oldest(self) -> None:
        still_open = sorted(
            (delivery for delivery in self.memory.deliveries() if delivery.open),
            key=lambda delivery: delivery.lane,  # a stable sort keeps the order within a lane
        )
        for _, lane in groupby(still_open, key=lambda delivery: delivery.lane):
            _, *behind = lane
            assert all(delivery.state is DeliveryState.PENDING for delivery in behind)


TestLanes = Lanes.TestCase
TestLanes.settings = settings(
    derandomize=True, database=None, deadline=None, max_examples=20, stateful_step_count=25
)


def test_dynamodb_keeps_the_same_guarantees(sandbox: Sandbox) -> None:
    tables = count()

    class LanesOnDynamoDB(Lanes):
        def open(self) -> Store:
            table = f"lanes-{next(tables)}"
            return DynamoStore(create_table(sandbox, table), table)

        def close(self) -> None:
            self.store.close()

    few = settings(derandomize=True, database=None, deadline=None, max_examples=8, stateful_step_count=20)
    run_state_machine_as_test(LanesOnDynamoDB, settings=few)
