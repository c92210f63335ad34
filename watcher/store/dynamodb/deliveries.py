"""Deliveries in the table: claimed one at a time in each lane, and settled once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from watcher.model import Case, Delivery, DeliveryState
from watcher.store.amendments import amended, settled_last
from watcher.store.base import Amend, Claimed, claimed, settled, waits_beyond
from watcher.store.documents import from_text
from watcher.store.dynamodb.cases import Cases, Stored, cache_key
from watcher.store.dynamodb.items import OUTBOX, ROW, delivery_key, incident_key, renewed
from watcher.store.dynamodb.table import Conflict, Table, until_refused
from watcher.store.dynamodb.writes import MAX_TRANSACTION_ITEMS, Item
from watcher.store.leases import ClaimClock, Observed

MAX_CLAIMED_TOGETHER = MAX_TRANSACTION_ITEMS // 2
"""Claiming a delivery writes two items."""
_OPEN = frozenset({DeliveryState.PENDING.value, DeliveryState.IN_FLIGHT.value})


class Deliveries(Cases):
    """The part of `Store` that is about deliveries."""

    def __init__(
        self, table: Table, observed: Observed, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(table)
        self._observed = observed
        self._claim_clock = ClaimClock(observed, monotonic)

    # -- claiming ---------------------------------------------------------------------------------

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        self._claim_clock.claiming(now, lease)
        heads = sorted(self._heads(), key=lambda head: head["created"])
        ready = {head["sk"]: self._ready_at(head) for head in heads}
        due = sorted(
            (head for head in heads if ready[head["sk"]] <= now), key=lambda head: ready[head["sk"]]
        )[:limit]
        size = MAX_CLAIMED_TOGETHER
        batches = (due[start : start + size] for start in range(0, len(due), size))
        taken = dict(until_refused(each for batch in batches for each in self._claim(batch, owner)))
        ready |= {position: self._ready_at(entry) for position, (entry, _) in taken.items()}
        deliveries = [taken[head["sk"]][1] for head in heads if head["sk"] in taken]
        return Claimed(deliveries, min(ready.values(), default=None))

    def _claim(self, heads: Sequence[Item], owner: str) -> Iterator[tuple[str, tuple[Item, Delivery]]]:
        """Claims them together or, if another process has claimed one of them, one by one. Yields the
        position, entry and delivery of each that was claimed."""
        try:
            yield from self._claim_at_once(heads, owner)
        except Conflict:
            for head in heads:
                with suppress(Conflict):
                    yield from self._claim_at_once([head], owner)

    def _claim_at_once(self, heads: Sequence[Item], owner: str) -> list[tuple[str, tuple[Item, Delivery]]]:
        token = uuid.uuid4().hex
        taken: list[tuple[str, tuple[Item, Delivery]]] = []
        writes: list[Item] = []
        for head, item in zip(heads, self._items_of(heads), strict=True):
            before = self._parsed(item)
            entry = self._entry(item, before)
            if entry is None or any(entry[name] != head.get(name) for name in entry):
                raise Conflict(["the delivery has changed since the open ones were read"])
            delivery = claimed(before)
            expiry = item.get("case_expires_at")
            writes += self.delivery_writes(item, delivery, lease=(owner, token), last=False, expiry=expiry)
            taken.append((head["sk"], (entry | {"state": delivery.state.value, "token": token}, delivery)))
        self._write(writes)
        for _, (_, delivery) in taken:
            self._observed.taken(_lease(delivery.id), token)
        return taken

    def _items_of(self, heads: Sequence[Item]) -> list[Item]:
        keys = [delivery_key(head["incident"], head["id"]) for head in heads]
        cached = {key: item for key in keys if (item := self._cache.pop(cache_key(key)))}
        found = cached | self._table.get_many(key for key in keys if key not in cached)
        if len(found) < len(keys):
            raise Conflict(["a delivery has been deleted since the open ones were read"])
        return [found[key] for key in keys]

    def _heads(self) -> list[Item]:
        """The entry of each lane that is handed out next, or is in flight."""
        heads: dict[str, Item] = {}
        last = ""
        for entry in self._table.query(OUTBOX):
            first = heads.setdefault(entry["lane"], entry)
            # A process that did not know of the others in the lane may have added one in front.
            if "token" in entry and "token" not in first:
                heads[entry["lane"]] = entry
            last = entry["sk"]
        self._positions.seen(last)
        return list(heads.values())

    def _ready_at(self, entry: Item) -> datetime:
        due_at = from_text(entry["due_at"])
        token = entry.get("token")
        return self._claim_clock.ready_at(_lease(entry["id"]), token, due_at) if token else due_at

    # -- settling ---------------------------------------------------------------------------------

    def settle(self, owner: str, delivery: Delivery, amend: Amend | None = None) -> bool:
        def attempt(afresh: bool) -> bool:
            writes = (
                self._settled_with(owner, delivery, amend, self.stored(delivery.incident, afresh=afresh))
                if amend
                else self._settled(owner, delivery, afresh=afresh)
            )
            if writes is None:
                return False
            self._write(writes)
            self._observed.forget(_lease(delivery.id))
            return True

        return self._table.retried_afresh(attempt)

    def _settled(self, owner: str, attempt: Delivery, *, afresh: bool) -> list[Item] | None:
        """The writes for an attempt that ended. None if `owner` does not hold the delivery."""
        key = delivery_key(attempt.incident, attempt.id)
        item = None if afresh else self._cache.pop(cache_key(key))
        if item is None or item.get("owner") != owner:
            item = self._table.get(key)
        held = self._held_by(owner, attempt, item)
        if item is None or held is None:
            return None
        after = settled(held, attempt)
        last = settled_last(held, attempt, after)
        return self.delivery_writes(item, after, lease=None, last=last, expiry=item.get("case_expires_at"))

    def _settled_with(self, owner: str, attempt: Delivery, amend: Amend, stored: Stored) -> list[Item] | None:
        """The same, together with what follows from it in the incident.

        The incident's item is written even if nothing follows. Otherwise two destinations could be settled at
        the same time, and each amendment would see the other as still under way.
        """
        item = stored.deliveries.get(attempt.id)
        held = self._held_by(owner, attempt, item)
        if item is None or held is None:
            if stored.certain:
                return None
            return self._settled_with(owner, attempt, amend, self.stored(attempt.incident, afresh=True))
        after = settled(held, attempt)
        last = settled_last(held, attempt, after)
        shown = _with(stored.case, after)
        change = amended(attempt.incident, shown, amend)
        if change:
            return self.case_writes(stored, change, frozenset({after.id} if last else ()))
        expiry = item.get("case_expires_at")
        writes = self.delivery_writes(item, after, lease=None, last=last, expiry=expiry)
        return [*writes, renewed(stored.incident)] if stored.incident else writes

    def _held_by(self, owner: str, attempt: Delivery, item: Item | None) -> Delivery | None:
        """The stored delivery, if `owner` holds it for this attempt. A later claim counts another attempt, so
        an owner whose lease has ended cannot settle it even if it claimed the delivery again itself."""
        if item is None or item.get("owner") != owner:
            return None
        held = self._parsed(item)
        return held if held.state is DeliveryState.IN_FLIGHT and held.attempts == attempt.attempts else None

    # -- reading ----------------------------------------------------------------------------------

    def next_due(self) -> datetime | None:
        return min(map(self._ready_at, self._heads()), default=None)

    def has_open(self, until: datetime | None = None) -> bool:
        entries = [entry for entry in self._table.query(OUTBOX) if entry["state"] in _OPEN]
        if until is None:
            return bool(entries)
        later = [entry for entry in entries if from_text(entry["due_at"]) > until]
        if len(later) < len(entries):
            return True
        found = self._table.get_many(delivery_key(entry["incident"], entry["id"]) for entry in later)
        return not all(waits_beyond(each, until) for each in self._in_order(list(found.values())))

    def refused(self) -> list[Delivery]:
        refused = DeliveryState.REFUSED
        entries = [entry for entry in self._table.query(OUTBOX) if entry["state"] == refused.value]
        found = self._table.get_many(delivery_key(entry["incident"], entry["id"]) for entry in entries)
        deliveries = self._in_order(list(found.values()))
        still = [delivery for delivery in deliveries if delivery.state is refused]
        return sorted(still, key=lambda delivery: delivery.refused_at or delivery.created_at)

    def deliveries(self, incident: str | None = None) -> list[Delivery]:
        if incident is None:
            items = self._table.scan("INCIDENT#", ROW)
        else:
            items = self._table.query(incident_key(incident)[0], prefix=ROW)
        return self._in_order(list(items))

    def _in_order(self, items: list[Item]) -> list[Delivery]:
        items.sort(key=lambda item: item["created"])
        self._positions.seen(items[-1]["created"] if items else "")
        return [self._parsed(item) for item in items]


def _lease(delivery_id: str) -> tuple[str, str]:
    return "delivery", delivery_id


def _with(case: Case | None, after: Delivery) -> Case | None:
    """The case with a delivery as it is after it was settled."""
    if case is None:
        return None
    deliveries = tuple(after if each.id == after.id else each for each in case.deliveries)
    return replace(case, deliveries=deliveries)
