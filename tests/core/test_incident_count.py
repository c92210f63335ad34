"""The metrics say how many incidents are in each state, without reading them all the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.contract.samples import case, incident, look, opens
from tests.doubles.clock import Clock
from watcher.daemon.incident_count import MAX_SHARE, MIN_INTERVAL_S, IncidentCount
from watcher.instruments import Instruments
from watcher.model import Incident, IncidentState
from watcher.store.memory import MemoryStore


class SlowStore(MemoryStore):
    """Takes `seconds` to read all incidents."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock, self.seconds, self.reads = clock, 0.0, 0

    def incidents(self) -> list[Incident]:
        self._clock.turn(self.seconds)
        self.reads += 1
        return super().incidents()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> SlowStore:
    return SlowStore(clock)


@pytest.fixture
def instruments() -> Instruments:
    return Instruments()


@pytest.fixture
def count(store: SlowStore, instruments: Instruments, clock: Clock) -> IncidentCount:
    return IncidentCount(store, instruments, clock.monotonic)


def shown(instruments: Instruments) -> Mapping[str, Any]:
    return {
        sample.labels["state"]: sample.value
        for metric in instruments.registry.collect()
        if metric.name == "watcher_incidents"
        for sample in metric.samples
    }


def store_incident(store: SlowStore, job: str, state: IncidentState) -> None:
    store.commit([look(job, opens(case(job, incident=incident(job, state=state))))])


def test_every_state_is_counted(count: IncidentCount, store: SlowStore, instruments: Instruments):
    store_incident(store, "churn", IncidentState.OPEN)
    store_incident(store, "fraud", IncidentState.OPEN)
    store_incident(store, "sales", IncidentState.RESOLVED)

    count.update()

    assert shown(instruments) == {"open": 2, "acknowledged": 0, "resolved": 1}


def test_the_last_count_is_shown_until_the_next_is_due(
    count: IncidentCount, store: SlowStore, instruments: Instruments, clock: Clock
):
    count.update()
    store_incident(store, "churn", IncidentState.OPEN)

    clock.turn(MIN_INTERVAL_S - 1)
    count.update()
    assert (store.reads, shown(instruments)["open"]) == (1, 0)

    clock.turn(1)
    count.update()
    assert (store.reads, shown(instruments)["open"]) == (2, 1)


def test_where_a_count_takes_long_it_is_made_seldom(count: IncidentCount, store: SlowStore, clock: Clock):
    store.seconds = 10

    for _ in range(100_000):
        count.update()
        clock.turn(1)

    assert store.reads <= 100_000 * MAX_SHARE / store.seconds + 1


def test_a_replica_that_no_longer_reconciles_exports_no_number_of_incidents(
    count: IncidentCount, store: SlowStore, instruments: Instruments
):
    count.update()
    count.leave()
    assert shown(instruments) == {}

    count.update()  # its turn again: what it knew is still fresh enough
    assert (store.reads, shown(instruments)["open"]) == (1, 0)
