"""Leases in the table: which process may handle a job, or do other work that only one may do at a time."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from watcher.errors import StoreError
from watcher.store.dynamodb.held import HeldJobs
from watcher.store.dynamodb.items import lease_key
from watcher.store.dynamodb.table import Table, until_refused
from watcher.store.dynamodb.writes import MAX_TRANSACTION_ITEMS, Item, delete, keyed, put
from watcher.store.leases import Observed

_OURS_OR_FREE = "attribute_not_exists(pk) OR #owner = :owner"


class Leases:
    """The part of `Store` that is about leases.

    A lease is first asked for as if it were free. Only one that another process has is read, and taken over
    if it was seen unchanged for its length, on the condition that it is still the same.
    """

    def __init__(self, table: Table, observed: Observed) -> None:
        self._table, self._observed = table, observed
        self._held = HeldJobs()

    def hold(self, names: Sequence[str], owner: str, lease: float) -> set[str]:
        names = list(dict.fromkeys(names))
        token = uuid.uuid4().hex
        items = {name: keyed(lease_key(name), owner=owner, token=token) for name in names}
        held = self._put({name: put(item, _OURS_OR_FREE) for name, item in items.items()})
        if left := [name for name in names if name not in held]:
            try:
                held |= self._take_over(left, items, lease)
            except StoreError:
                if not held:  # what is held must be returned: otherwise it would wait until its lease ends
                    raise
        for name in held:
            self._observed.taken(lease_key(name), token)
        self._held.add(held)
        return held

    def _take_over(self, names: Sequence[str], items: dict[str, Item], lease: float) -> set[str]:
        found = self._table.get_many(map(lease_key, names))
        writes = {}
        for name in names:
            theirs = found.get(lease_key(name))
            if theirs is None:  # released since it was asked for
                writes[name] = put(items[name], _OURS_OR_FREE)
            elif self._observed.ended(lease_key(name), theirs["token"], lease):
                # If the answer is lost, the client sends the request again. Then the token is ours already.
                unchanged = "#token = :seen OR #token = :token"
                writes[name] = put(items[name], unchanged, {"seen": theirs["token"]})
        return self._put(writes)

    def _put(self, writes: dict[str, Item]) -> set[str]:
        """The names of those that were written, until DynamoDB refuses."""
        if len(writes) == 1:
            ((name, write),) = writes.items()
            return {name} if self._table.written(write) else set()
        alone = [[write] for write in writes.values()]
        size = MAX_TRANSACTION_ITEMS
        batches = (alone[start : start + size] for start in range(0, len(alone), size))
        conflicts = until_refused(each for batch in batches for each in self._table.write_each(batch))
        return {name for name, conflict in zip(writes, conflicts, strict=False) if conflict is None}

    def release(self, names: Sequence[str], owner: str) -> None:
        for name in names:
            self._held.drop(name)
            if self._table.written(delete(lease_key(name), "#owner = :owner", {"owner": owner})):
                self._observed.forget(lease_key(name))


def renewal(name: str, owner: str) -> Item:
    """Renews a lease, on the condition that `owner` has it."""
    return put(keyed(lease_key(name), owner=owner, token=uuid.uuid4().hex), "#owner = :owner")
