"""Leases in the table: which process may handle a job, or do other work that only one may do at a time."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from watcher.errors import StoreError
from watcher.store.dynamodb.held import HeldJobs
from watcher.store.dynamodb.items import lease_key
from watcher.store.dynamodb.table import Conflict, Table, until_refused
from watcher.store.dynamodb.writes import MAX_TRANSACTION_ITEMS, Item, delete, keyed, put, showing
from watcher.store.leases import Observed

_OURS_OR_FREE = "attribute_not_exists(pk) OR #owner = :owner"


class Leases:
    """The part of `Store` that is about leases.

    A lease is first asked for as if it were free. If another process has it, DynamoDB refuses, and shows it.
    It is taken over if it was seen unchanged for its length, on the condition that it is still the same.
    """

    def __init__(self, table: Table, observed: Observed) -> None:
        self._table, self._observed = table, observed
        self._held = HeldJobs()

    def hold(self, names: Sequence[str], owner: str, lease: float) -> set[str]:
        names = list(dict.fromkeys(names))
        token = uuid.uuid4().hex
        items = {name: keyed(lease_key(name), owner=owner, token=token) for name in names}
        answers = self._put({name: showing(put(item, _OURS_OR_FREE)) for name, item in items.items()})
        held = _written(answers)
        left = {name: conflict.found[0] for name, conflict in answers.items() if conflict}
        try:
            held |= _written(self._put(self._takeovers(left, items, lease)))
        except StoreError:
            if not held:  # what is held must be returned: otherwise it would wait until its lease ends
                raise
        for name in held:
            self._observed.taken(lease_key(name), token)
        self._held.add(held)
        return held

    def _takeovers(
        self, left: Mapping[str, Item | None], items: Mapping[str, Item], lease: float
    ) -> dict[str, Item]:
        """The writes for what another owner had when it was asked for, if they may be made."""
        writes = {}
        for name, theirs in left.items():
            if theirs is None:  # it was not theirs, but part of another transaction at that time
                writes[name] = put(items[name], _OURS_OR_FREE)
            elif self._observed.ended(lease_key(name), theirs["token"], lease):
                # If the answer is lost, the client sends the request again. Then the token is ours already.
                unchanged = "#token = :seen OR #token = :token"
                writes[name] = put(items[name], unchanged, {"seen": theirs["token"]})
        return writes

    def _put(self, writes: Mapping[str, Item]) -> dict[str, Conflict | None]:
        """The conflict of each that was refused, None for those that were written; until DynamoDB fails."""
        if len(writes) == 1:
            ((name, write),) = writes.items()
            return {name: self._table.attempted(write)}
        alone = [[write] for write in writes.values()]
        size = MAX_TRANSACTION_ITEMS
        batches = (alone[start : start + size] for start in range(0, len(alone), size))
        conflicts = until_refused(each for batch in batches for each in self._table.write_each(batch))
        return dict(zip(writes, conflicts, strict=False))

    def release(self, names: Sequence[str], owner: str) -> None:
        for name in names:
            self._held.drop(name)
            if self._table.written(delete(lease_key(name), "#owner = :owner", {"owner": owner})):
                self._observed.forget(lease_key(name))


def _written(answers: Mapping[str, Conflict | None]) -> set[str]:
    return {name for name, conflict in answers.items() if conflict is None}


def renewal(name: str, owner: str) -> Item:
    """Renews a lease, on the condition that `owner` has it."""
    return put(keyed(lease_key(name), owner=owner, token=uuid.uuid4().hex), "#owner = :owner")
