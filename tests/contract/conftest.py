"""The stores that the contract is tested on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.samples import NOON
from tests.contract.tables import TABLE, create_table
from tests.doubles.clock import Clock
from watcher.store.base import Store
from watcher.store.dynamodb.store import DynamoStore
from watcher.store.memory import MemoryStore
from watcher.store.sqlite import SqliteStore

OpenStore = Callable[[Clock], Store]


@pytest.fixture
def clock() -> Clock:
    """The clock by which the store measures leases. It stands still until a test turns it."""
    return Clock(NOON)


@pytest.fixture(params=["memory", "sqlite", "dynamodb"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store: Store
    match request.param:
        case "memory":
            store = MemoryStore(clock.monotonic)
        case "sqlite":
            store = SqliteStore(tmp_path / "watcher.db", monotonic=clock.monotonic)
        case _:
            table = create_table(request.getfixturevalue("sandbox"))
            store = DynamoStore(table, TABLE, monotonic=clock.monotonic)
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "dynamodb"])
def open_replica(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same store as another process does, which has a clock of its own."""
    with ExitStack() as opened:
        if request.param == "sqlite":

            def open_(clock: Clock) -> Store:
                return SqliteStore(tmp_path / "watcher.db", monotonic=clock.monotonic)
        else:
            table = create_table(request.getfixturevalue("sandbox"))

            def open_(clock: Clock) -> Store:
                return DynamoStore(table, TABLE, monotonic=clock.monotonic)

        def open_and_close_later(clock: Clock) -> Store:
            store = open_(clock)
            opened.callback(store.close)
            return store

        yield open_and_close_later
