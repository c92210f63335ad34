"""Incidents in the table: each is read and changed as a whole, with its findings and deliveries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from watcher.errors import StoreError
from watcher.lru import LruCache
from watcher.model import Case, Change, Delivery, DeliveryState, Finding, Incident, incident_id
from watcher.store.amendments import Amended, amended
from watcher.store.base import Amend
from watcher.store.documents import DELIVERY, as_text
from watcher.store.dynamodb.items import (
    AFTER_CHANGES,
    CASE,
    CHANGES,
    EXPIRES_AT,
    INCIDENT,
    ROW,
    before_changes,
    case_expiry,
    changes_item,
    delivery_item,
    delivery_key,
    has_place,
    incident_key,
    incident_writes,
    job_key,
    outbox_item,
    parsing,
    parts,
    unpack,
)
from watcher.store.dynamodb.positions import Positions
from watcher.store.dynamodb.table import Conflict, Table
from watcher.store.dynamodb.writes import (
    Item,
    ItemKey,
    Postponable,
    batches,
    delete,
    fits,
    keyed,
    plain,
    put,
    put_if_version,
    written_key,
)

CACHE_SIZE = 512
"""Incidents and deliveries. More than usually wait to be sent at one time."""
MAX_CACHED_BYTES = 10_000
"""Of an incident with its findings; usually they have less than 1 kB."""

# The items of incidents and deliveries are cached as this process read or wrote them last. For example, a
# rule fires:
#
#     commit    writes incident and delivery                                     cached: version 1 of both
#     claim     takes the delivery from the cache, writes it, in flight          cached: its version 2
#     settle    takes the delivery from the cache, writes it, delivered          cached: its version 3
#               (with an amendment: takes the whole case from the cache)
#
# Without the cache, `claim` and `settle` would read the items first. What an attempt uses is taken out, so
# that after one that fails, because another process has written an item since, the next reads the table. As
# with the jobs that are held, nothing depends on the cache being right: each write is refused unless the
# table has the version that was taken. An amendment that changes nothing writes nothing, so it is tried
# again with what the table has.


@dataclass(frozen=True, slots=True)
class Stored:
    """The items of a case, and what they say. `case` is None if there is no such incident."""

    case: Case | None
    """Without its history."""
    incident: Item | None
    deliveries: Mapping[str, Item]
    """By id, in the order in which they were created."""
    certain: bool
    """False if they are from the cache, so that another process may have changed them."""


NOTHING = Stored(None, None, {}, certain=True)


@dataclass(frozen=True, slots=True)
class Changed:
    """What an amendment leads to."""

    case: Case
    """As it is then, with the changes that were made."""
    writes: list[Item]
    new: bool
    """Whether the incident is new."""


class Cases:
    """The part of `Store` that is about incidents. What is not in the protocol is for its other parts."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._positions = Positions()
        self._cache = LruCache[Item](CACHE_SIZE)

    def amend(self, incident: str, amend: Amend) -> Case | None:
        def attempt(afresh: bool) -> Case | None:
            change = self.changed(incident, amend, self.stored(incident, afresh=afresh))
            if change is None:
                return None
            told = self._told_to_job(change.case.incident.run) if change.new else []
            self._write([*change.writes, *told])
            return change.case

        return self._table.retried_afresh(attempt)

    def _told_to_job(self, run: str) -> list[Item]:
        """A look at a run relies on its job's item to say whether the run has an incident."""
        item = self._table.get(job_key(run))
        if item is None or item.get("incident"):
            return []
        later = item | {"incident": 1, "version": item["version"] + 1}
        return [put_if_version(later, item["version"])]

    # -- reading ----------------------------------------------------------------------------------

    def case(self, incident: str, after: int = 0) -> Case | None:
        def attempt() -> Case | None:
            items = list(self._table.query(incident_key(incident)[0], after=before_changes(after)))
            case = self._assembled(items, certain=True).case
            for item in items:
                self._remember(item)
            changes = tuple(change for change in self._changes(items) if change.revision > after)
            return replace(case, changes=changes) if case else None

        return self._table.retried(attempt)

    def stored(self, incident: str, *, afresh: bool) -> Stored:
        """The case as it is in the cache, unless `afresh`; otherwise in the table. Raises `Conflict`."""
        if not afresh and (cached := self._cached(incident)):
            return self._assembled(cached, certain=False)
        items = self._table.query(incident_key(incident)[0], after=AFTER_CHANGES)
        return self._assembled(list(items), certain=True)

    def _cached(self, incident: str) -> list[Item] | None:
        item = self._cache.pop(cache_key(incident_key(incident)))
        if item is None or parts(item["case"]):
            return None
        keys = [delivery_key(incident, id_) for id_ in item["deliveries"].split()]
        found = [self._cache.get(cache_key(key)) for key in keys]
        deliveries = [each for each in found if each]
        return [item, *deliveries] if len(deliveries) == len(keys) else None

    def _assembled(self, items: Sequence[Item], *, certain: bool) -> Stored:
        """Raises `Conflict` if the items were written at different times. A query is not atomic."""
        by_key = {item["sk"]: item for item in items}
        incident = by_key.get(INCIDENT)
        rows = {key.removeprefix(ROW): item for key, item in by_key.items() if key.startswith(ROW)}
        if incident is None:
            return Stored(None, None, rows, certain)
        ids = incident["deliveries"].split()
        expiring = EXPIRES_AT in incident  # then some of its deliveries may be deleted already
        expected = {*parts(incident["case"]), *(ROW + id_ for id_ in ids if not expiring)}
        if not expected <= by_key.keys():
            raise Conflict(["another process has just changed the incident"])
        rows = {id_: rows[id_] for id_ in ids if id_ in rows}
        document = incident["case"]
        if not isinstance(document, bytes):
            document = b"".join(by_key[part]["part"] for part in parts(document))
        with parsing(self._table.name):
            case = CASE.validate_json(unpack(document))
        return Stored(
            replace(case, deliveries=tuple(map(self._parsed, rows.values()))), incident, rows, certain
        )

    def incidents(self) -> list[Incident]:
        newest_first = [case.incident for case in reversed(self._all())]
        return sorted(newest_first, key=lambda incident: incident.opened_at, reverse=True)

    def findings(self, run: str | None = None) -> list[Finding]:
        if run is None:
            cases = self._all()
        else:
            cases = [case] if (case := self._without_deliveries(incident_id(run))) else []
        newest_first = [finding for case in reversed(cases) for finding in reversed(case.findings)]
        return sorted(newest_first, key=lambda finding: finding.opened_at, reverse=True)

    def _all(self) -> list[Case]:
        """All cases with their findings alone; the first created first."""
        cases = []
        for item in sorted(self._table.scan("INCIDENT#", INCIDENT), key=lambda item: item["created"]):
            try:
                cases.append(self._findings_of(item))
            except Conflict:  # its parts have been replaced since it was read
                cases += filter(None, [self._without_deliveries(item["pk"].removeprefix("INCIDENT#"))])
        return cases

    def _without_deliveries(self, incident: str) -> Case | None:
        def attempt() -> Case | None:
            item = self._table.get(incident_key(incident))
            return self._findings_of(item) if item else None

        return self._table.retried(attempt)

    def _findings_of(self, item: Item) -> Case:
        """Raises `Conflict`."""
        document = self._table.document(item, "case")
        with parsing(self._table.name):
            return CASE.validate_json(unpack(document))

    def _parsed(self, item: Item) -> Delivery:
        with parsing(self._table.name):
            return DELIVERY.validate_json(unpack(item["delivery"]))

    # -- history ----------------------------------------------------------------------------------

    def record(self, change: Change) -> None:
        # The position keeps the order of those at the same time.
        key = ("HISTORY", f"{as_text(change.at)}#{self._positions.next()}")
        self._table.retried(lambda: self._table.write([put(changes_item(key, (change,)))]))

    def history(self, since: datetime | None = None) -> Iterator[Change]:
        items = [*self._table.scan("INCIDENT#", "CHANGES#"), *self._table.query("HISTORY")]
        changes = [change for change in self._changes(items) if since is None or change.at >= since]
        yield from sorted(changes, key=lambda change: change.at)

    def _changes(self, items: Sequence[Item]) -> Iterator[Change]:
        """The changes among these items, in the order of their keys."""
        for item in sorted(items, key=lambda item: (item["pk"], item["sk"])):
            if "changes" in item:
                with parsing(self._table.name):
                    yield from CHANGES.validate_json(unpack(item["changes"]))

    # -- writing ----------------------------------------------------------------------------------

    def changed(self, incident: str, amend: Amend, stored: Stored) -> Changed | None:
        """What `amend` makes of the case; None if it changes nothing. Raises `Conflict`."""
        change = amended(incident, stored.case, amend)
        if change is None and not stored.certain:
            stored = self.stored(incident, afresh=True)
            change = amended(incident, stored.case, amend)
        if change is None:
            return None
        return Changed(change.case, self.case_writes(stored, change), stored.case is None)

    def case_writes(self, stored: Stored, change: Amended, last: frozenset[str] = frozenset()) -> list[Item]:
        """The deliveries in `last` go to the end of their lane, besides those that `change` names."""
        expiry = case_expiry(change.case)
        writes = incident_writes(change.case, stored.incident, self._positions.next())
        for delivery in change.case.deliveries:
            item = stored.deliveries.get(delivery.id)
            unchanged = item is not None and delivery == self._parsed(item)
            if item and unchanged and item.get("case_expires_at") == expiry:
                continue
            goes_last = delivery.id in change.last or delivery.id in last
            in_flight = item is not None and delivery.state is DeliveryState.IN_FLIGHT
            lease = (item["owner"], item["token"]) if item and in_flight else None
            rows = self.delivery_writes(item, delivery, lease=lease, last=goes_last, expiry=expiry)
            only_expiry = unchanged and not has_place(delivery)
            writes += map(Postponable, rows) if only_expiry else rows
        return writes

    def delivery_writes(
        self,
        before: Item | None,
        delivery: Delivery,
        *,
        lease: tuple[str, str] | None,
        last: bool,
        expiry: int | None,
    ) -> list[Item]:
        """Write a delivery, and its entry in the outbox.

        `before` is its item, if it has one, and guards it. `lease` is its owner and their token, if it is in
        flight. With `last`, it goes to the end of its lane. `expiry` is that of its incident.
        """
        position = self._positions.next() if last or before is None else before["position"]
        version = before["version"] if before else None
        owner, token = lease or (None, None)
        guards = keyed(
            delivery_key(delivery.incident, delivery.id),
            created=before["created"] if before else position,
            position=position,
            version=(version or 0) + 1,
            owner=owner,
            token=token,
            case_expires_at=expiry,
        )
        item = delivery_item(guards, delivery)
        writes = [put_if_version(item, version)]
        entry_before = self._entry(before, self._parsed(before)) if before else None
        entry = self._entry(item, delivery)
        if entry_before and (entry is None or entry["sk"] != entry_before["sk"]):
            writes.append(delete((entry_before["pk"], entry_before["sk"])))
        if entry and entry != entry_before:
            writes.append(put(entry))
        return writes

    def _entry(self, item: Item, delivery: Delivery) -> Item | None:
        return outbox_item(item, delivery) if has_place(delivery) else None

    def _write(self, writes: Sequence[Item]) -> None:
        """All or nothing. What can be postponed is written afterwards if all is too much for one transaction.
        Caches what is put. Raises `Conflict`."""
        later = [] if fits(writes) else [write for write in writes if isinstance(write, Postponable)]
        self._table.write([write for write in writes if not (later and isinstance(write, Postponable))])
        with suppress(StoreError):  # what is needed is stored
            for batch in batches(later):
                self._table.write_each([[write] for write in batch])
        for write in writes:
            if "Put" in write and _is_cached(written_key(write)):
                self._remember(plain(write["Put"]["Item"]))

    def _remember(self, item: Item) -> None:
        key = item["pk"], item["sk"]
        if _is_cached(key) and len(item.get("case", b"")) <= MAX_CACHED_BYTES:
            self._cache.put(cache_key(key), item)


def _is_cached(key: ItemKey) -> bool:
    return key[1] == INCIDENT or key[1].startswith(ROW)


def cache_key(key: ItemKey) -> str:
    return " ".join(key)
