"""Brings a table that the previous version has written up to date, when the store is opened.

    no SCHEMA, no old items          SCHEMA is written
    no SCHEMA, old items             copy ──► take over what is open ──► write SCHEMA, with the time
    SCHEMA with a time               an hour later, and after the last change by the previous version: delete
                                     the old items, write SCHEMA without the time
    SCHEMA                           nothing to do; reading it is the only request

Until SCHEMA is there, every process of this version waits for the one that holds the lease of the upgrade.
Each write of that process renews the lease in the same transaction, so nothing is written by one that has
lost it. If it dies, the next process begins again: the old items are all still there, and what was copied so
far is replaced. Which incidents the old findings are is decided in `watcher.store.upgrade`.

Processes of the previous version may still run meanwhile, as in a rolling deployment, and have only the old
items. So those are not deleted at once: otherwise every job would be new to such a process, and it would send
all alerts again. The entries of what is still to be sent are removed, each on the condition that it has not
changed since it was copied: from then on it is ours. A finding that both versions make within that minute is
reported twice. No new item has a sort key that the previous version looks for when it reads the whole table,
so it can also be started again, if a deployment is rolled back.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import TypeAdapter

from watcher.errors import StoreTooNew
from watcher.model import Case
from watcher.store.documents import EVALUATION, SNAPSHOT, as_text, from_text
from watcher.store.dynamodb.items import (
    OUTBOX,
    STOPPED,
    WATCHED,
    case_expiry,
    delivery_item,
    delivery_key,
    document_writes,
    due_entry,
    due_name,
    due_writes,
    evaluation_name,
    has_place,
    incident_writes,
    job_key,
    name_key,
    outbox_item,
    parsing,
    parts,
    stop_key,
    unpack,
    watched_key,
)
from watcher.store.dynamodb.leases import Leases, renewal
from watcher.store.dynamodb.table import REFUSED, Conflict, Table
from watcher.store.dynamodb.writes import (
    MAX_TRANSACTION_ITEMS,
    Item,
    ItemKey,
    batches,
    delete,
    keyed,
    put,
    written_key,
)
from watcher.store.leases import Observed
from watcher.store.upgrade import OldDelivery, OldFinding, OldJob, OldStop, current_document, upgraded

VERSION = 2
"""The version of the layout that `items` describes."""
SCHEMA_KEY = ("SCHEMA", "SCHEMA")
UPGRADE = "store upgrade"
"""The lease of the process that upgrades."""
LEASE_S = 30.0
POLL_S = 2.0
"""How often the others look whether it is done."""
KEEP_OLD_ITEMS = timedelta(hours=1)
"""After they were copied, and after the last change. Longer than a rolling deployment takes."""
MAX_ROUNDS = 5
"""How often everything is copied again because a process of the previous version sent something meanwhile."""
MAX_OLD_LEASE = timedelta(minutes=2)
"""A process of the previous version may still be sending for so long what it has claimed."""

_OLD_PARTITIONS = ("JOB#", "FINDING#", "DELIVERY#", "STOP#", "EVALUATIONS#")
_OLD_NAMES = frozenset({"WATCHING", "OPEN", "STOPS"})
_COPIED_PARTITIONS = ("RUN#", "NAME#", "INCIDENT#", "DUE#")
_COPIED_NAMES = frozenset({WATCHED, OUTBOX, STOPPED})

_FINDING = TypeAdapter(OldFinding)
_DELIVERY = TypeAdapter(OldDelivery)

T = TypeVar("T")


class _LeaseLost(Exception):
    """Another process upgrades now."""


def bring_up_to_date(
    table: Table,
    clock: Callable[[], datetime],
    wait: Callable[[float], object],
    monotonic: Callable[[], float],
) -> None:
    """Upgrade the table if need be, or wait until another process has done so. Raises `StoreTooNew`."""
    lease = _Lease(table, monotonic)
    while (schema := table.get(SCHEMA_KEY)) is None:
        with suppress(_LeaseLost):
            if lease.take():
                _upgrade(table, lease, clock)
            else:
                wait(POLL_S)
    if schema["version"] > VERSION:
        raise StoreTooNew(
            f"table {table.name}: has schema version {schema['version']}, but this version of Watcher "
            f"supports only up to {VERSION}; update Watcher, or name another table in store.url"
        )
    copied_at = schema.get("copied_at")
    if copied_at and clock() - from_text(copied_at) > KEEP_OLD_ITEMS and lease.take():
        with suppress(_LeaseLost):  # the other process goes on with it
            _delete_old_items(table, lease, clock())


class _Lease:
    """The right to upgrade. Each write renews it, and fails without it."""

    def __init__(self, table: Table, monotonic: Callable[[], float]) -> None:
        self._table, self._monotonic = table, monotonic
        self._leases = Leases(table, Observed(monotonic))
        self._owner = uuid.uuid4().hex
        self._renewed_at = 0.0

    def take(self) -> bool:
        self._renewed_at = self._monotonic()
        return bool(self._leases.hold([UPGRADE], self._owner, LEASE_S))

    def release(self) -> None:
        self._leases.release([UPGRADE], self._owner)

    def during(self, items: Iterable[T]) -> Iterator[T]:
        """The same items. Renews the lease while they are read. Raises `_LeaseLost`."""
        for item in items:
            if self._monotonic() - self._renewed_at > LEASE_S / 3 and not self.take():
                raise _LeaseLost
            yield item

    def write(self, writes: Sequence[Item]) -> bool:
        """Make these writes, all or none. False if a condition of theirs does not hold. Raises
        `_LeaseLost`."""

        def attempt() -> bool:
            try:
                self._table.write([renewal(UPGRADE, self._owner), *writes])
            except Conflict as conflict:
                if REFUSED & {conflict.reasons[0]}:
                    raise _LeaseLost from None
                if REFUSED & set(conflict.reasons):
                    return False
                raise
            self._renewed_at = self._monotonic()
            return True

        return self._table.retried(attempt)

    def write_all(self, writes: Sequence[Item]) -> None:
        for batch in batches(writes, MAX_TRANSACTION_ITEMS - 1):
            self.write(batch)


def _upgrade(table: Table, lease: _Lease, clock: Callable[[], datetime]) -> None:
    ready_at: dict[str, str] = {}
    """When each open delivery of the previous version can be claimed, by its position."""
    schema = _schema()
    for _ in range(MAX_ROUNDS):
        items = {_key(item): item for item in lease.during(table.scan())}
        old = _OldItems(table, [item for key, item in items.items() if _is_old(key)], ready_at)
        if not old:
            break
        schema = _schema(copied_at=as_text(clock()))
        copies = list(lease.during(old.copies(clock())))
        kept = {written_key(write) for write in copies}
        # Without SCHEMA, what else is there is from an upgrade that was interrupted.
        stale = [delete(key) for key in items if _is_copied(key) and key not in kept]
        lease.write_all([*copies, *stale])
        # All of them, even after one that has changed: in the next round, each is copied as it is then.
        taken = [lease.write([_taken(entry)]) for entry in old.open]
        if all(taken):
            break
    lease.write([put(schema)])
    lease.release()


def _delete_old_items(table: Table, lease: _Lease, now: datetime) -> None:
    """Unless a process of the previous version runs again, because a deployment was rolled back."""
    old = [item for item in lease.during(table.scan()) if _is_old(_key(item))]
    last_change = max((item["changed_at"] for item in old if item["sk"] == "JOB"), default="")
    if last_change < as_text(now - KEEP_OLD_ITEMS):
        lease.write_all([delete(_key(item)) for item in old])
        lease.write([put(_schema())])
    lease.release()


def _key(item: Item) -> ItemKey:
    return item["pk"], item["sk"]


def _schema(copied_at: str | None = None) -> Item:
    return keyed(SCHEMA_KEY, version=VERSION, copied_at=copied_at)


def _is_old(key: ItemKey) -> bool:
    return key[0] in _OLD_NAMES or key[0].startswith(_OLD_PARTITIONS)


def _is_copied(key: ItemKey) -> bool:
    return key[0] in _COPIED_NAMES or key[0].startswith(_COPIED_PARTITIONS)


def _taken(entry: Item) -> Item:
    """Removes the entry of an open delivery, unless it was claimed or sent since it was read."""
    return delete((entry["pk"], entry["sk"]), "#ready_at = :ready_at", {"ready_at": entry["ready_at"]})


# -- the items of the previous version ------------------------------------------------------------


class _OldItems:
    """What the previous version has stored:

    pk                  sk                item
    JOB#<arn>           JOB               a job: snapshot, evaluation, and the rest of its `JobRecord`
    JOB#<arn>           <document>#<n>    a part of a snapshot or evaluation that is too large for its item
    JOB#<arn>           FINDING#<id>      a finding; `position` orders them
    FINDING#<id>        DELIVERY#<id>     a delivery; `position` orders them, and is its key in OPEN
    OPEN                <position>        an open delivery
    STOP#<arn>          STOP              a stop
    STOPS               AT#<time>#<arn>   the same stop, by its time

    Its other items say the same in another order.
    """

    def __init__(self, table: Table, items: Sequence[Item], ready_at: dict[str, str]) -> None:
        self._table = table
        self._partitions: dict[str, dict[str, Item]] = {}
        for item in items:
            self._partitions.setdefault(item["pk"], {})[item["sk"]] = item
        self._positions = {
            item["sk"].removeprefix("DELIVERY#"): item["position"]
            for item in items
            if item["sk"].startswith("DELIVERY#")
        }
        self.open = list(self._partitions.get("OPEN", {}).values())
        ready_at |= {entry["sk"]: entry["ready_at"] for entry in self.open}
        self._ready_at = ready_at

    def __bool__(self) -> bool:
        return bool(self._partitions)

    def copies(self, now: datetime) -> Iterator[Item]:
        """The writes that store all of it as this version does. They replace what there is."""
        for partition, items in self._partitions.items():
            if partition.startswith("JOB#") and "JOB" in items:
                yield from map(_unconditional, self._job_copies(items, now))
        yield from self._stop_copies()

    def _stop_copies(self) -> Iterator[Item]:
        """The stops by their time, and those of jobs that were never watched, so that their runs are not
        known."""
        for key, entry in self._partitions.get("STOPS", {}).items():
            if key.startswith("AT#"):
                yield put(entry | {"pk": STOPPED})
        for partition, items in self._partitions.items():
            arn = partition.removeprefix("STOP#")
            if arn != partition and f"JOB#{arn}" not in self._partitions:
                yield put(_stop_item(arn, items["STOP"]))

    def _job_copies(self, items: dict[str, Item], now: datetime) -> Iterator[Item]:
        before = items["JOB"]
        documents = {
            name: current_document(_document(items, before.get(name)))
            for name in ("snapshot", "evaluation")
            if name in before
        }
        job = self._job(items, documents["snapshot"], now)
        after = upgraded(job, now)
        run = job.snapshot.run
        kept = ("name", "fingerprint", "describe_at", "watching", "first_seen_at", "changed_at")
        item = keyed(
            job_key(run),
            **{name: before.get(name) for name in kept},
            incident=1 if any(case.incident.run == run for case in after.cases) else None,
            version=1,
        )
        yield from document_writes(item, None, "snapshot", documents["snapshot"])
        if "evaluation" in documents:
            yield from self._evaluation_copies(item, run, documents["evaluation"], before.get("due"))
        yield put(item)
        yield put(keyed(name_key(job.snapshot.name, run)))
        if job.watching:
            seen = {name: before.get(name) for name in ("name", "fingerprint", "describe_at")}
            yield put(keyed(watched_key(run), status=job.snapshot.status, **seen))
        for case in after.cases:
            yield from _case_copies(case, self._positions)
        if job.stop:
            yield put(_stop_item(after.stopped_run, self._partitions[f"STOP#{job.snapshot.arn}"]["STOP"]))

    def _evaluation_copies(self, item: Item, run: str, document: bytes, due: str | None) -> Iterator[Item]:
        """`item` is the run's, and gets the evaluation. `due`: what it reads and when it is due, with a space
        between."""
        with parsing(self._table.name):
            evaluation = EVALUATION.validate_json(document)
        family = evaluation.family
        due_at = from_text(due.split(" ", 1)[1]) if due else None
        item[due_name(family)] = entry = due_entry(replace(evaluation, due_at=due_at))
        yield from document_writes(item, None, evaluation_name(family), EVALUATION.dump_json(evaluation))
        yield from due_writes(run, family, None, entry)

    def _job(self, items: dict[str, Item], snapshot: bytes, now: datetime) -> OldJob:
        found = sorted(
            (item for key, item in items.items() if key.startswith("FINDING#")),
            key=lambda item: item["position"],
        )
        with parsing(self._table.name):
            findings = tuple(_FINDING.validate_json(unpack(item["finding"])) for item in found)
            parsed = SNAPSHOT.validate_json(snapshot)
        rows = sorted(
            (
                item
                for finding in findings
                for key, item in self._partitions.get(f"FINDING#{finding.id}", {}).items()
                if key.startswith("DELIVERY#")
            ),
            key=lambda item: item["position"],
        )
        stop = self._partitions.get(f"STOP#{parsed.arn}", {}).get("STOP")
        return OldJob(
            snapshot=parsed,
            watching=bool(items["JOB"]["watching"]),
            findings=findings,
            deliveries=tuple(self._delivery(item, now) for item in rows),
            stop=OldStop(parsed.arn, stop["actor"], from_text(stop["at"])) if stop else None,
        )

    def _delivery(self, item: Item, now: datetime) -> OldDelivery:
        """One in flight is not due before its lease has ended: its owner may still be sending it."""
        with parsing(self._table.name):
            delivery = _DELIVERY.validate_json(unpack(item["delivery"]))
        ready_at = self._ready_at.get(item["position"])
        if delivery.state != "in_flight" or ready_at is None:
            return delivery
        return replace(delivery, due_at=min(from_text(ready_at), now + MAX_OLD_LEASE))


def _document(items: dict[str, Item], stored: object) -> bytes:
    """A document of the job, from its item or from the items of its parts."""
    if isinstance(stored, bytes):
        return unpack(stored)
    return unpack(b"".join(items[part]["part"] for part in parts(stored)))


def _stop_item(run: str, before: Item) -> Item:
    return keyed(stop_key(run), actor=before["actor"], at=before["at"])


def _case_copies(case: Case, positions: Mapping[str, str]) -> Iterator[Item]:
    """`positions` are those of the previous version, by the delivery's id."""
    rows = {_position(each.created_at, positions.get(each.id, ""), each.id): each for each in case.deliveries}
    in_order = replace(case, deliveries=tuple(rows[position] for position in sorted(rows)))
    yield from incident_writes(in_order, None, _position(case.incident.opened_at, case.incident.id))
    for position, delivery in rows.items():
        guards = keyed(
            delivery_key(delivery.incident, delivery.id),
            created=position,
            position=position,
            version=1,
            case_expires_at=case_expiry(case),
        )
        item = delivery_item(guards, delivery)
        yield put(item)
        if has_place(delivery):
            yield put(outbox_item(item, delivery))


def _position(at: datetime, *rest: str) -> str:
    """The same in each attempt, and in the form that `positions` gives."""
    return "-".join((f"{int(at.timestamp() * 1e6) * 1000:020d}", *rest))


def _unconditional(write: Item) -> Item:
    if "Put" not in write:
        return write
    return {"Put": {"Item": write["Put"]["Item"]}}
