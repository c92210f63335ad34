"""A table that the previous version wrote is brought up to date when the store is opened."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from tests.contract.samples import alert, arn
from tests.contract.tables import TABLE, create_table
from watcher.errors import StoreError, StoreTooNew
from watcher.model import Delivery, DeliveryState
from watcher.sandbox.process import Sandbox
from watcher.store import open_store
from watcher.store.base import Store
from watcher.store.documents import as_text
from watcher.store.dynamodb.store import DynamoStore
from watcher.store.dynamodb.table import Table
from watcher.store.dynamodb.upgrade import KEEP_OLD_ITEMS, LEASE_S, SCHEMA_KEY, VERSION
from watcher.store.dynamodb.writes import keyed, put
from watcher.store.sqlite import SqliteStore

WRITTEN = Path(__file__).parent / "previous_version"
"""What the programs in this folder have written with the previous version's code."""
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
"""Half an hour after the previous version was stopped."""
ONCE = Config(retries={"total_max_attempts": 1})


class Clock:
    """Seconds that pass only when somebody waits. The time of day stands still."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.time = NOW

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self) -> datetime:
        return self.time


def old_items() -> list[dict[str, Any]]:
    def value(attribute: dict[str, str]) -> dict[str, Any]:
        return {kind: base64.b64decode(it) if kind == "B" else it for kind, it in attribute.items()}

    items = json.loads((WRITTEN / "table-1.json").read_text())
    return [{name: value(attribute) for name, attribute in item.items()} for item in items]


def old_table(sandbox: Sandbox, name: str = TABLE) -> Any:
    """A table of the previous version. Returns a client that tries once."""
    dynamodb = create_table(sandbox, name, config=ONCE)
    puts = [{"PutRequest": {"Item": item}} for item in old_items()]
    for start in range(0, len(puts), 25):
        assert not dynamodb.batch_write_item(RequestItems={name: puts[start : start + 25]})[
            "UnprocessedItems"
        ]
    return dynamodb


def keys(dynamodb: Any, name: str = TABLE) -> set[tuple[str, str]]:
    pages = dynamodb.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
    return {(item["pk"]["S"], item["sk"]["S"]) for page in pages for item in page["Items"]}


def opened(dynamodb: Any, name: str = TABLE, clock: Clock | None = None) -> DynamoStore:
    clock = clock or Clock()
    store = DynamoStore(dynamodb, name, clock.wait, clock.monotonic)
    store.bring_up_to_date(clock.now)
    return store


def contents(store: Store) -> dict[str, Any]:
    """Everything that can be read, except the job that only the table has. What is overdue is due now."""
    incidents = sorted(store.incidents(), key=lambda incident: incident.id)
    jobs = {record.snapshot.run: record for record in store.jobs() if record.snapshot.name != "large"}
    cases = [case for incident in incidents if (case := store.case(incident.id))]
    due = store.next_due()
    return {
        "jobs": jobs,
        "watching": sorted(job.run for job in store.watching() if job.name != "large"),
        "fingerprints": store.fingerprints(list(jobs)),
        "evaluation": store.next_evaluation(),
        "incidents": incidents,
        "cases": [replace(case, deliveries=tuple(map(due_now, case.deliveries))) for case in cases],
        "deliveries": [due_now(delivery) for delivery in store.deliveries()],
        "stops": [store.stop_of(run) for run in (*jobs, arn("unknown"))],
        "history": sorted(store.history(), key=lambda change: (change.at, change.run, change.revision)),
        "next": max(due, NOW) if due else None,
    }


def due_now(delivery: Delivery) -> Delivery:
    return replace(delivery, due_at=max(delivery.due_at, NOW))


def claimed(store: Store, now: datetime) -> list[tuple[str, str]]:
    """Incident and destination of what is handed out, lane by lane."""
    rows = []
    while taken := store.claim("us", now, 60, 100).deliveries:
        for each in taken:
            rows.append((each.incident, each.to))
            assert store.settle("us", replace(each, state=DeliveryState.DELIVERED, told=each.wanted))
    return sorted(rows)


def test_it_holds_the_same_as_a_sqlite_file_of_the_previous_version(sandbox: Sandbox, tmp_path: Path) -> None:
    shutil.copy(WRITTEN / "watcher-4.db", tmp_path / "watcher.db")
    sqlite = SqliteStore(tmp_path / "watcher.db", clock=lambda: NOW)
    dynamodb = opened(old_table(sandbox))

    assert len(dynamodb.incidents()) > 10
    assert contents(dynamodb) == contents(sqlite)
    assert len(dynamodb.jobs("large")) == 1
    later = NOW + timedelta(days=1)
    assert dynamodb.claim_evaluations(later, 60, 9, together=True) == sqlite.claim_evaluations(
        later, 60, 9, together=True
    )
    assert claimed(dynamodb, later) == claimed(sqlite, later)
    sqlite.close()


def test_what_was_told_is_not_told_again_when_the_upgrade_is_interrupted_at_any_write(
    sandbox: Sandbox,
) -> None:
    undisturbed = contents(opened(old_table(sandbox, "undisturbed"), "undisturbed"))
    for number in count():
        name = f"killed-{number}"
        dynamodb = old_table(sandbox, name)
        sandbox.control.inject_fault(
            "dynamodb:TransactWriteItems", "InternalServerError", times=1, after=number
        )
        clock = Clock()
        try:
            opened(dynamodb, name, clock)
        except StoreError:
            clock.wait(LEASE_S)
            store = opened(dynamodb, name, clock)
            assert contents(store) == undisturbed
        was_written_that_often = not sandbox.control.faults()
        sandbox.control.clear_faults()
        if not was_written_that_often:
            assert number > 5
            return


def test_an_up_to_date_table_costs_one_request(sandbox: Sandbox) -> None:
    dynamodb = old_table(sandbox)
    clock = Clock()
    opened(dynamodb, clock=clock)
    sandbox.control.forget_calls()

    opened(dynamodb, clock=clock)

    assert sandbox.control.calls() == {"dynamodb:GetItem": 1}


def test_an_empty_table_is_marked_with_the_version(aws_environment: Sandbox) -> None:
    dynamodb = create_table(aws_environment)
    open_store(f"dynamodb://{TABLE}")

    assert keys(dynamodb) == {SCHEMA_KEY}


def test_a_table_without_a_version_but_without_old_items_keeps_what_it_has(sandbox: Sandbox) -> None:
    store = DynamoStore(create_table(sandbox), TABLE)
    store.commit([alert("job", "console")])
    before = contents(store)

    assert contents(opened(sandbox.client("dynamodb"))) == before


def test_a_table_of_a_later_version_is_refused(sandbox: Sandbox) -> None:
    dynamodb = create_table(sandbox)
    Table(dynamodb, TABLE, lambda _: None).write([put(keyed(SCHEMA_KEY, version=VERSION + 1))])

    with pytest.raises(StoreTooNew, match="update Watcher"):
        opened(dynamodb)


# -- several processes ----------------------------------------------------------------------------


def before_write(dynamodb: Any, number: int, act: Callable[[], object]) -> None:
    """Do something once, before the transaction with this number is sent."""
    numbers = count()

    def listen(**_: Any) -> None:
        if next(numbers) == number:
            act()

    dynamodb.meta.events.register("before-call.dynamodb.TransactWriteItems", listen)


class Waiting(Exception):
    """A process begins to wait."""


def test_other_processes_wait_until_the_upgrade_is_done(sandbox: Sandbox) -> None:
    dynamodb = old_table(sandbox)

    def start_another() -> None:
        clock = Clock()
        clock.wait = raise_waiting  # type: ignore[method-assign]
        with pytest.raises(Waiting):
            opened(sandbox.client("dynamodb"), clock=clock)

    def raise_waiting(seconds: float) -> None:
        raise Waiting

    before_write(dynamodb, 1, start_another)

    assert contents(opened(dynamodb))["incidents"]


def test_a_process_that_died_in_the_middle_is_replaced_after_its_lease(sandbox: Sandbox) -> None:
    dynamodb = old_table(sandbox)
    sandbox.control.inject_fault("dynamodb:TransactWriteItems", "InternalServerError", times=1, after=2)
    with pytest.raises(StoreError):
        opened(dynamodb)
    clock = Clock()

    store = opened(sandbox.client("dynamodb"), clock=clock)

    assert clock.seconds >= LEASE_S
    assert contents(store)["incidents"]


def test_a_process_that_was_replaced_changes_nothing_any_more(sandbox: Sandbox) -> None:
    dynamodb = old_table(sandbox)
    after: list[Any] = []

    def be_replaced() -> None:
        store = opened(sandbox.client("dynamodb"))
        assert claimed(store, NOW)
        after.append(contents(store))

    before_write(dynamodb, 1, be_replaced)

    store = opened(dynamodb)

    assert [contents(store)] == after
    assert claimed(store, NOW) == []


def test_what_the_previous_version_sends_meanwhile_is_not_sent_again(sandbox: Sandbox) -> None:
    dynamodb = old_table(sandbox)
    before_write(dynamodb, 1, lambda: send_as_the_previous_version(dynamodb, "last"))

    store = opened(dynamodb)

    (row,) = store.deliveries(incident_id_of(store, "last"))
    assert (row.to, row.state) == ("console", DeliveryState.DELIVERED)
    assert incident_id_of(store, "last") not in {incident for incident, _ in claimed(store, NOW)}
    assert not any(key[0] == "OPEN" for key in keys(dynamodb)), "what is open is left to this version"


def send_as_the_previous_version(dynamodb: Any, job: str) -> None:
    """Settle the job's only delivery as that version did: `DELIVERED`, and no longer open."""
    items = dynamodb.scan(TableName=TABLE)["Items"]
    (finding,) = [
        item["sk"]["S"]
        for item in items
        if item["pk"]["S"] == f"JOB#{arn(job)}" and item["sk"]["S"].startswith("FINDING#")
    ]
    (row,) = [
        item for item in items if item["pk"]["S"] == finding and item["sk"]["S"].startswith("DELIVERY#")
    ]
    sent = json.loads(zlib.decompress(row["delivery"]["B"])) | {"state": "delivered"}
    row["delivery"] = {"B": zlib.compress(json.dumps(sent).encode())}
    dynamodb.put_item(TableName=TABLE, Item=row)
    dynamodb.delete_item(TableName=TABLE, Key={"pk": {"S": "OPEN"}, "sk": row["position"]})


def incident_id_of(store: Store, job: str) -> str:
    (incident,) = [incident for incident in store.incidents() if incident.job == job]
    return incident.id


def test_old_items_are_deleted_an_hour_later(sandbox: Sandbox) -> None:
    dynamodb = old_table(sandbox)
    old = keys(dynamodb)
    clock = Clock()
    before = contents(opened(dynamodb, clock=clock))
    assert {key for key in old if key[0].startswith("JOB#")} <= keys(dynamodb), "others may still read them"

    clock.time += KEEP_OLD_ITEMS + timedelta(seconds=1)
    store = opened(dynamodb, clock=clock)

    assert keys(dynamodb) & old == {("TURNS", "reconcile")}
    assert contents(store) == before
    sandbox.control.forget_calls()
    opened(dynamodb, clock=clock)
    assert sandbox.control.calls() == {"dynamodb:GetItem": 1}


def test_old_items_are_kept_while_the_previous_version_is_used_again(sandbox: Sandbox) -> None:
    dynamodb = old_table(sandbox)
    old = keys(dynamodb)
    clock = Clock()
    opened(dynamodb, clock=clock)
    job = next(item for item in old_items() if item["sk"]["S"] == "JOB")
    clock.time += KEEP_OLD_ITEMS * 24
    dynamodb.put_item(TableName=TABLE, Item=job | {"changed_at": {"S": as_text(clock.time)}})

    clock.time += KEEP_OLD_ITEMS / 2
    opened(dynamodb, clock=clock)
    assert {key for key in old if key[0].startswith("JOB#")} <= keys(dynamodb)

    clock.time += KEEP_OLD_ITEMS
    opened(dynamodb, clock=clock)
    assert keys(dynamodb) & old == {("TURNS", "reconcile")}
