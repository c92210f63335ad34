"""The store in one DynamoDB table, for as many processes on as many machines as needed.

`items` lists what the table holds, `table` makes the requests, `jobs` and `deliveries` are the two large
parts of the store. This module has `commit`, which writes to both, and the small parts.

A write is a transaction of up to 100 items, each guarded by a condition. If another process has changed one
of them since it was read, nothing is written, and the write is computed again from what the table holds now.

A commit that is too large for a transaction is halved until its parts fit. Each part holds some of the jobs
with all of their findings. If the findings of one job alone are too many, they are written before the job:
should the process end in between, the same findings are found again, and are known already.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from watcher.errors import StoreError
from watcher.model import Finding
from watcher.store.base import Look, StopRecord
from watcher.store.documents import FINDING, as_text, from_text
from watcher.store.dynamodb.deliveries import Deliveries
from watcher.store.dynamodb.items import (
    EXPIRES_AT,
    STOPS_COUNTED_KEY,
    expiry_after,
    finding_key,
    finding_writes,
    job_key,
    parsing,
    stop_key,
    unpack,
)
from watcher.store.dynamodb.jobs import Jobs
from watcher.store.dynamodb.table import Table
from watcher.store.dynamodb.writes import Item, delete, fits, keyed, put, put_if_version

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


class DynamoStore(Jobs, Deliveries):
    """`dynamodb` is a client that retries throttled requests itself. Safe to use from several threads."""

    def __init__(
        self, dynamodb: DynamoDBClient, table: str, wait: Callable[[float], object] = time.sleep
    ) -> None:
        shared = Table(dynamodb, table, wait)
        Jobs.__init__(self, shared)
        Deliveries.__init__(self, shared)

    # -- commit -----------------------------------------------------------------------------------

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Finding, ...]:
        new: list[Finding] = []
        for batch in _once_each(looks):
            new += self._commit(batch, holder)
        return tuple(new)

    def _commit(self, looks: Sequence[Look], holder: str, *, jobs: bool = True) -> list[Finding]:
        """Without `jobs`, writes only the findings."""
        new = self._table.retried(lambda: self._commit_at_once(looks, holder, jobs))
        if new is not None:
            return new
        if len(looks) > 1:
            middle = len(looks) // 2
            return [*self._commit(looks[:middle], holder), *self._commit(looks[middle:], holder)]
        (look,) = looks
        middle = len(look.findings) // 2
        halves = [replace(look, findings=part) for part in (look.findings[:middle], look.findings[middle:])]
        new = [finding for half in halves for finding in self._commit([half], holder, jobs=False)]
        return [*new, *self._commit(looks, holder)] if jobs else new

    def _commit_at_once(self, looks: Sequence[Look], holder: str, jobs: bool) -> list[Finding] | None:
        """The findings that are new. None, and nothing is written, if this is too much for one transaction
        and can be divided."""
        before = self.items_before(looks, holder)
        new: list[Finding] = []
        writes: list[Item] = []
        for look in looks:
            for finding in look.findings:
                if finding_key(finding.id) not in before:
                    new.append(finding)
                    writes += finding_writes(finding)
                    writes += self.new_writes(d for d in look.deliveries if d.finding_id == finding.id)
            if jobs:
                writes += self.job_writes(look, before.get(job_key(look.snapshot.arn)), holder)
        if not fits(writes) and (len(looks) > 1 or len(looks[0].findings) > 1):
            return None
        if writes:
            self._write(writes)
        return new

    # -- findings ---------------------------------------------------------------------------------

    def finding(self, finding_id: str) -> Finding | None:
        item = self._table.get(finding_key(finding_id))
        return self._finding(item) if item else None

    def findings(self, job_arn: str | None = None) -> list[Finding]:
        if job_arn is None:
            items = list(self._table.scan("FINDING"))
        else:
            items = list(self._table.query(job_key(job_arn)[0], prefix="FINDING#"))
        items.sort(key=lambda item: item["position"])
        newest_first = map(self._finding, reversed(items))
        return sorted(newest_first, key=lambda finding: finding.opened_at, reverse=True)

    def _finding(self, item: Item) -> Finding:
        with parsing(self._table.name):
            return FINDING.validate_json(unpack(item["finding"]))

    # -- turns and stops --------------------------------------------------------------------------

    def take_turn(self, what: str, turn: int) -> bool:
        # `by` marks the caller. If the answer is lost, the client sends the request again, and then the
        # condition must hold for the turn that it has taken itself.
        item = keyed(("TURNS", what), turn=turn, by=uuid.uuid4().hex)
        return self._table.written(put(item, "attribute_not_exists(pk) OR #turn < :turn OR #by = :by"))

    def permit_stop(self, job_arn: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        def attempt() -> bool:
            if self.stop_of(job_arn):
                return True
            counted = self._table.get(STOPS_COUNTED_KEY) or keyed(STOPS_COUNTED_KEY)
            since = f"AT#{as_text(now - timedelta(hours=1))}#\uffff"
            if sum(1 for _ in self._table.query("STOPS", prefix="AT#", after=since)) >= max_per_hour:
                return False
            at = as_text(now)
            stop = keyed(stop_key(job_arn), actor=actor, at=at)
            entry = keyed(("STOPS", f"AT#{at}#{job_arn}"), **{EXPIRES_AT: expiry_after(now)})
            version = counted.get("version")
            counted["version"] = (version or 0) + 1
            self._table.write([put(stop), put(entry), put_if_version(counted, version)])
            return True

        return self._table.retried(attempt)

    def stop_of(self, job_arn: str) -> StopRecord | None:
        item = self._table.get(stop_key(job_arn))
        return StopRecord(job_arn, item["actor"], from_text(item["at"])) if item else None

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


def _once_each(looks: Sequence[Look]) -> Iterator[list[Look]]:
    """The looks in their order, in batches that have no job and no finding twice, because a transaction may
    write an item only once."""
    batch: list[Look] = []
    seen: set[str] = set()
    for look in looks:
        names = {look.snapshot.arn, *(finding.id for finding in look.findings)}
        if names & seen:
            yield batch
            batch, seen = [], set()
        batch.append(look)
        seen |= names
    if batch:
        yield batch
