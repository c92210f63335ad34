"""Deliveries in the table: claimed one at a time in each lane, and settled once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from watcher.errors import StoreError
from watcher.lru import LruCache
from watcher.model import Delivery, DeliveryState
from watcher.store.base import Claimed, settled
from watcher.store.documents import DELIVERY, as_text, from_optional_text, from_text
from watcher.store.dynamodb.items import (
    OPEN,
    delivery_item,
    delivery_key,
    finding_key,
    new_delivery_writes,
    open_write,
    parsing,
    pointer_key,
    unpack,
)
from watcher.store.dynamodb.positions import Positions
from watcher.store.dynamodb.table import Conflict, Table, until_refused
from watcher.store.dynamodb.writes import (
    MAX_TRANSACTION_ITEMS,
    Item,
    ItemKey,
    plain,
    put,
    put_if_version,
    written_key,
)

DELIVERY_CACHE_SIZE = 256
"""Deliveries. More than usually wait to be sent at one time."""
MAX_CLAIMED_TOGETHER = MAX_TRANSACTION_ITEMS // 2
"""Claiming a delivery writes two items."""

# The items of deliveries are cached as this process wrote them last. For example, a rule fires:
#
#     commit    writes the delivery                                              cached: version 1
#     claim     takes version 1 from the cache, writes version 2, in flight      cached: version 2
#     settle    takes version 2 from the cache, writes version 3, delivered      cached: version 3
#
# Without the cache, `claim` and `settle` would read the item first. An item is taken out when it is used, so
# that an attempt which fails, because another process has written the item since, reads it from the table.
# As with the jobs that are held, nothing depends on the cache being right: each write is refused unless the
# table has the version that was taken.


class Deliveries:
    """The part of `Store` that is about deliveries. `new_writes` and `_write` are for its `commit`."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._positions = Positions()
        self._written = LruCache[Item](DELIVERY_CACHE_SIZE)
        """By the sort key."""

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        heads = sorted(self._heads(), key=lambda head: (head["ready_at"], head["sk"]))
        due = [head for head in heads[:limit] if head["ready_at"] <= as_text(now)]
        until = now + timedelta(seconds=lease)
        size = MAX_CLAIMED_TOGETHER
        batches = (due[start : start + size] for start in range(0, len(due), size))
        taken = dict(until_refused(each for batch in batches for each in self._claim(batch, owner, until)))
        ready = [as_text(until) if head["sk"] in taken else head["ready_at"] for head in heads]
        return Claimed(
            [taken[position] for position in sorted(taken)], from_optional_text(min(ready, default=None))
        )

    def _claim(self, heads: Sequence[Item], owner: str, until: datetime) -> Iterator[tuple[str, Delivery]]:
        """Claims them together or, if another process has claimed one of them, one by one. Yields each
        claimed delivery with its position."""
        try:
            yield from self._claim_at_once(heads, owner, until)
        except Conflict:
            for head in heads:
                with suppress(Conflict):
                    yield from self._claim_at_once([head], owner, until)

    def _claim_at_once(
        self, heads: Sequence[Item], owner: str, until: datetime
    ) -> list[tuple[str, Delivery]]:
        taken: list[tuple[str, Delivery]] = []
        writes: list[Item] = []
        for head, item in zip(heads, self._items_of(heads), strict=True):
            before = self._parsed(item)
            delivery = replace(
                before,
                state=DeliveryState.IN_FLIGHT,
                attempts=before.attempts + 1,
                uncertain=before.uncertain or before.state is DeliveryState.IN_FLIGHT,
            )
            taken.append((head["sk"], delivery))
            writes.append(_changed(item, delivery, owner))
            writes.append(
                put(head | {"ready_at": as_text(until)}, "#ready_at = :before", {"before": head["ready_at"]})
            )
        self._write(writes)
        return taken

    def _items_of(self, heads: Sequence[Item]) -> list[Item]:
        keys = [delivery_key(head["finding_id"], head["id"]) for head in heads]
        cached = {key: item for key in keys if (item := self._written.pop(key[1]))}
        found = cached | self._table.get_many(key for key in keys if key not in cached)
        if len(found) < len(keys):
            raise Conflict(["a delivery has been deleted since the open ones were read"])
        return [found[key] for key in keys]

    def settle(self, owner: str, delivery: Delivery, then: Sequence[Delivery] = ()) -> bool:
        key = delivery_key(delivery.finding_id, delivery.id)

        def attempt() -> bool:
            item = self._written.pop(key[1])
            if item is None or item.get("owner") != owner:
                item = self._table.get(key)
            if item is None:
                return False
            before = self._parsed(item)
            # A later claim counts another attempt, so an owner whose lease has ended cannot settle it even
            # if it claimed the delivery again itself.
            held = before.state is DeliveryState.IN_FLIGHT and item.get("owner") == owner
            if not held or before.attempts != delivery.attempts:
                return False
            self._close(item, settled(before, delivery), then)
            return True

        return self._table.retried(attempt)

    def cancel(self, delivery_id: str, then: Sequence[Delivery] = ()) -> bool:
        def attempt() -> bool:
            item = self._item(delivery_id)
            if item is None or (before := self._parsed(item)).state is not DeliveryState.PENDING:
                return False
            self._close(item, replace(before, state=DeliveryState.CANCELLED), then)
            return True

        return self._table.retried(attempt)

    def _item(self, delivery_id: str) -> Item | None:
        pointer = self._table.get(pointer_key(delivery_id))
        return self._table.get(delivery_key(pointer["finding_id"], delivery_id)) if pointer else None

    def _close(self, item: Item, after: Delivery, then: Sequence[Delivery]) -> None:
        """Release the delivery in the state `after`, which may be pending again, and add those that
        follow."""
        self._write([_changed(item, after, None), open_write(item, after), *self._following(then)])

    def next_due(self) -> datetime | None:
        return min((from_text(head["ready_at"]) for head in self._heads()), default=None)

    def deliveries(self, finding_id: str | None = None) -> list[Delivery]:
        if finding_id is None:
            items = list(self._table.scan_prefix("DELIVERY#"))
        else:
            items = list(self._table.query(finding_key(finding_id)[0], prefix="DELIVERY#"))
        items.sort(key=lambda item: item["position"])
        self._positions.seen(items[-1]["position"] if items else "")
        return [self._parsed(item) for item in items]

    def _heads(self) -> list[Item]:
        """The oldest open delivery of each lane."""
        heads: dict[str, Item] = {}
        last = ""
        for item in self._table.query(OPEN):
            heads.setdefault(item["lane"], item)
            last = item["sk"]
        self._positions.seen(last)
        return list(heads.values())

    # -- writes -----------------------------------------------------------------------------------

    def _following(self, deliveries: Sequence[Delivery]) -> list[Item]:
        """Writes for those deliveries that do not exist yet. Raises `StoreError` if a finding does not
        exist."""
        pointers = {each.id: pointer_key(each.id) for each in deliveries}
        findings: dict[str, ItemKey] = {each.id: finding_key(each.finding_id) for each in deliveries}
        known = self._table.get_many([*pointers.values(), *findings.values()])
        for delivery_id, key in findings.items():
            if key not in known:
                raise StoreError(
                    f"table {self._table.name}: the finding of delivery {delivery_id} is unknown"
                )
        return self.new_writes(each for each in deliveries if pointers[each.id] not in known)

    def new_writes(self, deliveries: Iterable[Delivery]) -> list[Item]:
        """Writes for new deliveries in their order, each once."""
        once = {delivery.id: delivery for delivery in deliveries}
        return [
            write
            for delivery in once.values()
            for write in new_delivery_writes(delivery, self._positions.next())
        ]

    def _write(self, writes: Sequence[Item]) -> None:
        """All or nothing. Caches the deliveries that are put. Raises `Conflict`."""
        self._table.write(writes)
        for write in writes:
            if "Put" in write and (sort_key := written_key(write)[1]).startswith("DELIVERY#"):
                self._written.put(sort_key, plain(write["Put"]["Item"]))

    def _parsed(self, item: Item) -> Delivery:
        with parsing(self._table.name):
            return DELIVERY.validate_json(unpack(item["delivery"]))


def _changed(item: Item, delivery: Delivery, owner: str | None) -> Item:
    """Writes the delivery's item, unless another process has changed it since."""
    changed = item | delivery_item(delivery) | {"owner": owner, "version": item["version"] + 1}
    return put_if_version(changed, item["version"])
