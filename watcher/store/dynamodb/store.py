"""The store in one DynamoDB table, for as many processes on as many machines as needed.

`items` lists what the table holds, `table` makes the requests, `jobs`, `cases` and `deliveries` are the large
parts of the store. This module has what writes to several of them, and the small parts.

A write is a transaction of up to 100 items, each guarded by a condition. If another process has changed one
of them since it was read, nothing is written, and the write is computed again from what the table holds now.
A commit that is too large for a transaction is halved until its parts fit; each part holds some of the runs
with all that follows from their looks.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from watcher.arn import run_arn
from watcher.errors import StoreError
from watcher.model import Case, incident_id
from watcher.store.amendments import together
from watcher.store.base import Amend, Look, StopRecord
from watcher.store.documents import as_text, from_text
from watcher.store.dynamodb.cases import NOTHING, Changed
from watcher.store.dynamodb.deliveries import Deliveries
from watcher.store.dynamodb.items import (
    EXPIRES_AT,
    STOPPED,
    STOPS_COUNTED_KEY,
    WATCHED,
    expiry_after,
    job_key,
    lease_key,
    stop_key,
)
from watcher.store.dynamodb.jobs import Jobs, unwatch_writes
from watcher.store.dynamodb.leases import renewal
from watcher.store.dynamodb.table import Table
from watcher.store.dynamodb.upgrade import bring_up_to_date
from watcher.store.dynamodb.writes import (
    MAX_TRANSACTION_ITEMS,
    Item,
    ItemKey,
    delete,
    fits,
    keyed,
    put,
    put_if_version,
)
from watcher.store.leases import Observed

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

MAX_LOOKS_TOGETHER = MAX_TRANSACTION_ITEMS // 5
"""A first look at a run usually writes five items: the run, its places by name, among those watched and among
those evaluated, and its job's lease."""


class DynamoStore(Jobs, Deliveries):
    """`dynamodb` is a client that retries throttled requests itself; `monotonic` returns seconds. Safe to use
    from several threads."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        wait: Callable[[float], object] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        shared, observed = Table(dynamodb, table, wait), Observed(monotonic)
        Jobs.__init__(self, shared, observed)
        Deliveries.__init__(self, shared, observed, monotonic)
        self._bring_up_to_date = partial(bring_up_to_date, shared, wait=wait, monotonic=monotonic)

    def bring_up_to_date(self, clock: Callable[[], datetime]) -> None:
        """Upgrade a table of the previous version. Call this before anything else; see `upgrade`."""
        self._bring_up_to_date(clock)

    # -- commit -----------------------------------------------------------------------------------

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Case, ...]:
        cases: dict[str, Case] = {}
        rest = list(_once_each(looks))
        while rest:
            batch = rest.pop(0)
            later = {run_arn(look.snapshot.run) for each in rest for look in each}
            for case in self._commit(batch, holder, later):
                known = cases.get(case.incident.id)
                cases[case.incident.id] = together(known, case) if known else case
        return tuple(cases.values())

    def _commit(self, looks: Sequence[Look], holder: str, later: set[str]) -> list[Case]:
        """The jobs in `later` are still held afterwards."""
        cases = self._table.retried_afresh(lambda afresh: self._commit_at_once(looks, holder, later, afresh))
        if cases is not None:
            return cases
        middle = len(looks) // 2
        return [
            case for half in (looks[:middle], looks[middle:]) for case in self._commit(half, holder, later)
        ]

    def _commit_at_once(
        self, looks: Sequence[Look], holder: str, later: set[str], afresh: bool
    ) -> list[Case] | None:
        """The cases that changed. None, and nothing is written, if this is too much for one transaction and
        can be divided."""
        before = self.items_before([look.snapshot.run for look in looks], holder)
        cases: list[Case] = []
        writes: list[Item] = []
        for look in looks:
            job = before.get(job_key(look.snapshot.run))
            change = self._amended(look.snapshot.run, look.amend, job, afresh) if look.amend else None
            if change:
                cases.append(change.case)
                writes += change.writes
            has_incident = change is not None or bool(job and job.get("incident"))
            writes += self.job_writes(look, job, has_incident=has_incident)
            if holder:
                writes.append(_release(look.snapshot.arn, holder, keep=look.snapshot.arn in later))
        if not fits(writes) and len(looks) > 1:
            return None
        if writes:
            self._write(writes)
        if holder:
            for look in looks:
                self._observed.forget(lease_key(look.snapshot.arn))
        return cases

    def _amended(self, run: str, amend: Amend, job: Item | None, afresh: bool) -> Changed | None:
        """The job's item says whether the run has an incident, so that one which has none is not read."""
        incident = incident_id(run)
        has_none = not (job and job.get("incident"))
        stored = NOTHING if has_none and not afresh else self.stored(incident, afresh=afresh)
        return self.changed(incident, amend, stored)

    def unwatch(self, arn: str, amend: Amend, before: str = "") -> Mapping[str, Case | None]:
        runs = [item["sk"] for item in self._table.query(WATCHED, prefix=f"{arn}@")]
        cases: dict[str, Case | None] = {}
        for run in runs:
            if not before or run < before:
                attempt = partial(self._unwatch_at_once, run, amend)
                cases |= self._table.retried_afresh(attempt)
        return cases

    def _unwatch_at_once(self, run: str, amend: Amend, afresh: bool) -> dict[str, Case | None]:
        """Empty if the run is no longer watched."""
        job = self._table.get(job_key(run))
        if job is None or not job["watching"]:
            return {}
        change = self._amended(run, amend, job, afresh)
        self._write([*(change.writes if change else ()), *unwatch_writes(run, job)])
        return {run: change.case if change else None}

    # -- turns, marks and stops -------------------------------------------------------------------

    def take_turn(self, what: str, turn: int) -> bool:
        # `by` marks the caller. If the answer is lost, the client sends the request again, and then the
        # condition must hold for the turn that it has taken itself.
        item = keyed(("TURNS", what), turn=turn, by=uuid.uuid4().hex)
        return self._table.written(put(item, "attribute_not_exists(pk) OR #turn < :turn OR #by = :by"))

    def mark(self, place: str) -> datetime | None:
        item = self._table.get(("MARKS", place))
        return from_text(item["at"]) if item else None

    def set_mark(self, place: str, at: datetime) -> None:
        item = keyed(("MARKS", place), at=as_text(at))
        self._table.written(put(item, "attribute_not_exists(pk) OR #at < :at"))

    def permit_stop(self, run: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        def attempt() -> bool:
            if self.stop_of(run):
                return True
            counted = self._table.get(STOPS_COUNTED_KEY) or keyed(STOPS_COUNTED_KEY)
            since = f"AT#{as_text(now - timedelta(hours=1))}#\uffff"
            if sum(1 for _ in self._table.query(STOPPED, prefix="AT#", after=since)) >= max_per_hour:
                return False
            at = as_text(now)
            stop = keyed(stop_key(run), actor=actor, at=at)
            entry = keyed(_stopped_key(run, at), **{EXPIRES_AT: expiry_after(now)})
            version = counted.get("version")
            counted["version"] = (version or 0) + 1
            self._table.write([put(stop), put(entry), put_if_version(counted, version)])
            return True

        return self._table.retried(attempt)

    def retract_stop(self, run: str) -> None:
        if stop := self._table.get(stop_key(run)):
            writes = [delete(stop_key(run)), delete(_stopped_key(run, stop["at"]))]
            self._table.retried(lambda: self._table.write(writes))

    def stop_of(self, run: str) -> StopRecord | None:
        item = self._table.get(stop_key(run))
        return StopRecord(run, item["actor"], from_text(item["at"])) if item else None

    # ---------------------------------------------------------------------------------------------

    def check(self) -> str:
        """Makes each kind of request that the store makes, with an item of its own that it deletes at the
        end."""
        key = ("PROBE", secrets.token_hex(8))
        self._table.written(put(keyed(key), "attribute_not_exists(pk)"))
        stored = [self._table.get(key), self._table.get_many([key]).get(key)]
        some = self._table.first()
        self._table.written(delete(key))
        if some is None or stored != [keyed(key), keyed(key)]:
            raise StoreError(
                f"table {self._table.name} does not keep what is written to it; change store.url"
            )
        return f"DynamoDB, table {self._table.name}, watched jobs: {len(self.watching())}"

    def close(self) -> None:
        """There is nothing to close: the client belongs to the caller."""


def _stopped_key(run: str, at: str) -> ItemKey:
    return STOPPED, f"AT#{at}#{run}"


def _release(arn: str, holder: str, *, keep: bool) -> Item:
    """Release the lease of a job, or keep it, on the condition that `holder` has it."""
    if keep:
        return renewal(arn, holder)
    return delete(lease_key(arn), "#owner = :owner", {"owner": holder})


def _once_each(looks: Sequence[Look]) -> Iterator[list[Look]]:
    """The looks in their order, in batches that have no job twice, because a transaction may write an item
    only once; and not more than usually fit into one."""
    batch: list[Look] = []
    seen: set[str] = set()
    for look in looks:
        if look.snapshot.arn in seen or len(batch) == MAX_LOOKS_TOGETHER:
            yield batch
            batch, seen = [], set()
        batch.append(look)
        seen.add(look.snapshot.arn)
    if batch:
        yield batch
