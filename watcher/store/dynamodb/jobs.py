"""Jobs in the table: who handles them, their records, and when they are evaluated next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from watcher.errors import LeaseLost
from watcher.model import Reads
from watcher.store.base import JOB_TAKEN_OVER, JobRecord, Look, WatchedJob
from watcher.store.documents import (
    EVALUATION,
    SNAPSHOT,
    as_optional_text,
    as_text,
    from_optional_text,
    from_text,
    job_record,
)
from watcher.store.dynamodb.held import HeldJobs
from watcher.store.dynamodb.items import (
    WATCHING,
    document_writes,
    due_writes,
    finding_key,
    job_arn,
    job_key,
    lease_key,
    parsing,
    parts,
    unpack,
    watched_key,
)
from watcher.store.dynamodb.table import Conflict, Table, until_refused
from watcher.store.dynamodb.writes import (
    MAX_TRANSACTION_ITEMS,
    Item,
    ItemKey,
    delete,
    keyed,
    put,
    put_if_version,
)


class Jobs:
    """The part of `Store` that is about jobs. `items_before` and `job_writes` are for its `commit`."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._held = HeldJobs()

    # -- leases -----------------------------------------------------------------------------------

    def hold(self, job_arns: Sequence[str], owner: str, now: datetime, lease: float) -> set[str]:
        until = as_text(now + timedelta(seconds=lease))
        free = "attribute_not_exists(pk) OR #owner = :owner OR #until <= :now"
        writes = [
            put(keyed(lease_key(arn), owner=owner, until=until), free, {"now": as_text(now)})
            for arn in job_arns
        ]
        if len(writes) == 1:
            refused = [not self._table.written(writes[0])]
        else:
            alone = [[write] for write in writes]
            size = MAX_TRANSACTION_ITEMS
            batches = (alone[start : start + size] for start in range(0, len(alone), size))
            refused = until_refused(bool(each) for batch in batches for each in self._table.write_each(batch))
        held = {arn for arn, no in zip(job_arns, refused, strict=False) if not no}
        self._held.add(held)
        return held

    def release(self, job_arns: Sequence[str], owner: str) -> None:
        for arn in job_arns:
            self._held.drop(arn)
            self._table.written(delete(lease_key(arn), "#owner = :owner", {"owner": owner}))

    # -- commit -----------------------------------------------------------------------------------

    def items_before(self, looks: Sequence[Look], holder: str) -> dict[ItemKey, Item]:
        """The items of the jobs and findings that a commit changes, if they exist. Raises `LeaseLost`.

        If `holder` has read all of the jobs since it holds them, nothing is read again, and the findings are
        taken to be new. If that is wrong, a condition of the writes does not hold; the next attempt reads.
        """
        arns = [look.snapshot.arn for look in looks]
        if holder and (held := self._held.take(arns)) is not None:
            return {(item["pk"], item["sk"]): item for item in held}
        leases = [lease_key(arn) for arn in arns if holder]
        findings = [finding_key(finding.id) for look in looks for finding in look.findings]
        before = self._table.get_many([*map(job_key, arns), *leases, *findings])
        if any(before.get(key, {}).get("owner") != holder for key in leases):
            raise LeaseLost(JOB_TAKEN_OVER)
        return before

    def job_writes(self, look: Look, before: Item | None, holder: str) -> list[Item]:
        """The writes for the job itself. With a `holder` they release it, on the condition that it holds
        it."""
        arn = look.snapshot.arn
        unchanged = before is not None and before["fingerprint"] == look.fingerprint
        item = keyed(
            job_key(arn),
            name=look.snapshot.name,
            fingerprint=look.fingerprint,
            describe_at=as_optional_text(look.describe_at),
            watching=int(look.watching),
            first_seen_at=before["first_seen_at"] if before else as_text(look.seen_at),
            changed_at=before["changed_at"] if before and unchanged else as_text(look.seen_at),
            evaluation=(before or {}).get("evaluation"),
            due=(before or {}).get("due"),
            version=(before or {}).get("version", 0) + 1,
        )
        writes = document_writes(item, before, "snapshot", SNAPSHOT.dump_json(look.snapshot))
        if look.evaluation is not None:
            writes += document_writes(item, before, "evaluation", EVALUATION.dump_json(look.evaluation))
            due = look.evaluation.due_at
            item["due"] = f"{look.evaluation.reads} {as_text(due)}" if due else None
            writes += due_writes(arn, (before or {}).get("due"), item["due"])
        writes.append(put_if_version(item, before["version"] if before else None))
        watched = keyed(
            watched_key(arn),
            name=look.snapshot.name,
            status=look.snapshot.status,
            fingerprint=look.fingerprint,
            describe_at=item["describe_at"],
        )
        writes.append(put(watched) if look.watching else delete(watched_key(arn)))
        if holder:
            writes.append(delete(lease_key(arn), "#owner = :owner", {"owner": holder}))
        return writes

    # -- records ----------------------------------------------------------------------------------

    def watching(self) -> list[WatchedJob]:
        return [
            WatchedJob(
                arn=item["sk"],
                name=item["name"],
                status=item["status"],
                fingerprint=item["fingerprint"],
                describe_at=from_optional_text(item.get("describe_at")),
            )
            for item in self._table.query(WATCHING)
        ]

    def job(self, arn: str) -> JobRecord | None:
        def attempt() -> JobRecord | None:
            item = self._table.get(job_key(arn))
            record = self._record(item) if item else None
            self._held.read(arn, item)
            return record

        return self._table.retried(attempt)

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        records = []
        for item in self._table.scan("JOB"):
            if name in (None, item["name"]):
                try:
                    records.append(self._record(item))
                except Conflict:  # the parts of its documents have been replaced since it was read
                    records += filter(None, [self.job(job_arn(item))])
        records.sort(key=lambda record: record.snapshot.arn)
        return sorted(records, key=lambda record: record.snapshot.created_at, reverse=True)

    def unwatch(self, arn: str) -> None:
        def attempt() -> None:
            item = self._table.get(job_key(arn))
            if item:
                later = item | {"watching": 0, "version": item["version"] + 1}
                self._table.write([put_if_version(later, item["version"]), delete(watched_key(arn))])

        self._table.retried(attempt)

    def _record(self, item: Item) -> JobRecord:
        """Raises `Conflict`."""
        snapshot, evaluation = self._document(item, "snapshot"), self._document(item, "evaluation")
        with parsing(self._table.name):
            return job_record(item, unpack(snapshot), unpack(evaluation) if evaluation else None)

    def _document(self, item: Item, name: str) -> bytes:
        """Raises `Conflict` if another process has just replaced it."""
        stored = item.get(name) or b""
        if isinstance(stored, bytes):
            return stored
        keys = [(item["pk"], part) for part in parts(stored)]
        found = self._table.get_many(keys)
        if len(found) < len(keys):
            raise Conflict(["a new document has just been written"])
        return b"".join(found[key]["part"] for key in keys)

    # -- evaluations ------------------------------------------------------------------------------

    def claim_evaluations(self, now: datetime, lease: float, limit: int, reads: Reads) -> list[str]:
        later = f"{reads} {as_text(now + timedelta(seconds=lease))}"
        waiting = self._table.query(f"EVALUATIONS#{reads}", until=f"{as_text(now)}#\uffff", limit=limit)
        due = (item["sk"].split("#", 1) for item in waiting)
        return until_refused(arn for at, arn in due if self._postpone(arn, f"{reads} {at}", later))

    def _postpone(self, arn: str, before: str, after: str) -> bool:
        """False if another process did so first."""
        job = self._table.get(job_key(arn))
        if job is None or job.get("due") != before:
            return False
        later = job | {"due": after, "version": job["version"] + 1}
        try:
            self._table.write([*due_writes(arn, before, after), put_if_version(later, job["version"])])
        except Conflict:
            return False
        return True

    def next_evaluation(self) -> datetime | None:
        firsts = [next(self._table.query(f"EVALUATIONS#{reads}", limit=1), None) for reads in Reads]
        return min((from_text(first["sk"].partition("#")[0]) for first in firsts if first), default=None)
