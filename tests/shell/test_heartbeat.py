"""The heartbeat pings a URL while the daemon is healthy, and sends nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from tests.doubles.clock import Clock
from tests.doubles.pings import Pings
from watcher.errors import StoreError
from watcher.store.memory import MemoryStore
from watcher.web.heartbeat import Heartbeat
from watcher.web.loops import Loops
from watcher.web.readiness import CHECK_INTERVAL_S, Readiness


class Store(MemoryStore):
    gone = False

    def next_due(self) -> datetime | None:
        if self.gone:
            raise StoreError("store watcher.db: disk I/O error")
        return super().next_due()


@pytest.fixture
def pings() -> Iterator[Pings]:
    with Pings() as pings:
        yield pings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loops(clock: Clock) -> Loops:
    return Loops(clock.monotonic)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def heartbeat(pings: Pings, loops: Loops, store: Store, clock: Clock) -> Heartbeat:
    readiness = Readiness(store, None, lambda: datetime.now(UTC), clock.monotonic)
    return Heartbeat(pings.url, loops, readiness)


def test_a_healthy_daemon_sends_every_ping(heartbeat: Heartbeat, pings: Pings):
    heartbeat.beat()
    heartbeat.beat()

    assert pings.received == 2


def test_a_hanging_loop_stops_the_pings_until_it_runs_again(
    heartbeat: Heartbeat, loops: Loops, clock: Clock, pings: Pings
):
    turned = loops.add("look-1", 300)
    clock.turn(301)

    with capture_logs() as logged:
        heartbeat.beat()

    assert pings.received == 0
    assert logged[0]["problems"] == ["the loop look-1 has made no progress for 301 s"]
    turned()
    heartbeat.beat()
    assert pings.received == 1


def test_a_store_that_does_not_answer_stops_the_pings(
    heartbeat: Heartbeat, store: Store, clock: Clock, pings: Pings
):
    store.gone = True
    heartbeat.beat()
    assert pings.received == 0

    store.gone = False
    clock.turn(CHECK_INTERVAL_S)
    heartbeat.beat()
    assert pings.received == 1


def test_a_refused_ping_is_logged_once_without_the_url_and_retried(heartbeat: Heartbeat, pings: Pings):
    pings.status = 404
    with capture_logs() as logged:
        heartbeat.beat()
        heartbeat.beat()
    pings.status = 200
    heartbeat.beat()

    assert [line["event"] for line in logged] == ["heartbeat_failed"]
    assert logged[0]["error"] == "it answers 404"
    assert pings.secret not in str(logged)
    assert pings.received == 3


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_without_end_is_not_read(heartbeat: Heartbeat, pings: Pings, status: int):
    pings.endless, pings.status = True, status

    heartbeat.beat()

    assert pings.received == 1


@pytest.mark.parametrize(
    "url", ["https://[secret", "https://a..b/secret", f"https://{'secret' * 50}/", "http://"]
)
def test_an_address_that_cannot_be_requested_is_logged_and_ends_nothing(
    loops: Loops, store: Store, clock: Clock, url: str
):
    heartbeat = Heartbeat(url, loops, Readiness(store, None, lambda: datetime.now(UTC), clock.monotonic))

    with capture_logs() as logged:
        heartbeat.beat()

    assert [line["event"] for line in logged] == ["heartbeat_failed"]
    assert "secret" not in str(logged)


def test_an_unreachable_url_stops_nothing_else(loops: Loops, store: Store, clock: Clock):
    with Pings() as gone:
        url = gone.url
    heartbeat = Heartbeat(url, loops, Readiness(store, None, lambda: datetime.now(UTC), clock.monotonic))

    with capture_logs() as logged:
        heartbeat.beat()

    assert logged[0]["event"] == "heartbeat_failed"
    assert gone.secret not in str(logged)
