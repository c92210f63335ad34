"""Runs in the table: their records, and when they are evaluated next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from watcher.arn import job_name, run_arn
from watcher.errors import LeaseLost
from watcher.lru import LruCache
from watcher.model import RuleFamily
from watcher.store.base import JOB_TAKEN_OVER, DueEvaluation, JobRecord, KnownRun, Look, WatchedJob
from watcher.store.documents import (
    EVALUATION,
    SNAPSHOT,
    as_optional_text,
    as_text,
    from_optional_text,
    from_text,
    job_record,
)
from watcher.store.dynamodb.items import (
    WATCHED,
    document_writes,
    due_entry,
    due_name,
    due_partition,
    due_writes,
    evaluation_name,
    job_key,
    lease_key,
    name_key,
    parsing,
    run_of,
    unpack,
    watched_key,
)
from watcher.store.dynamodb.leases import Leases
from watcher.store.dynamodb.table import Conflict, Table, until_refused
from watcher.store.dynamodb.writes import Item, ItemKey, delete, keyed, put, put_if_version
from watcher.store.leases import Observed

CACHE_SIZE = 10_000
"""Runs of which this process knows whether they have an earlier one. One takes about 300 bytes."""


class Jobs(Leases):
    """The part of `Store` that is about runs. `items_before` and `job_writes` are for its `commit`."""

    def __init__(self, table: Table, observed: Observed) -> None:
        super().__init__(table, observed)
        self._have_earlier = LruCache[bool](CACHE_SIZE)
        """By run, as its item said when this process read or wrote it last."""

    # -- commit -----------------------------------------------------------------------------------

    def items_before(self, runs: Sequence[str], holder: str) -> dict[ItemKey, Item]:
        """The items of the runs that a commit changes, if they exist. Raises `LeaseLost`.

        If `holder` has read all of them since it holds their jobs, nothing is read again. If that is wrong, a
        condition of the writes does not hold; the next attempt reads.
        """
        if holder and (held := self._held.take(runs)) is not None:
            return {(item["pk"], item["sk"]): item for item in held}
        leases = [lease_key(run_arn(run)) for run in runs if holder]
        before = self._table.get_many([*map(job_key, runs), *leases])
        if any(before.get(key, {}).get("owner") != holder for key in leases):
            raise LeaseLost(JOB_TAKEN_OVER)
        return before

    def job_writes(self, look: Look, before: Item | None, *, has_incident: bool) -> list[Item]:
        """The writes for the run itself.

        Its item says whether the run has an earlier one. This is asked once, at the first look at the run; or
        at the next, if the item was written by a version that did not ask.
        """
        run, name = look.snapshot.run, look.snapshot.name
        unchanged = before is not None and before["fingerprint"] == look.fingerprint
        item = keyed(
            job_key(run),
            name=name,
            fingerprint=look.fingerprint,
            describe_at=as_optional_text(look.describe_at),
            watching=int(look.watching),
            first_seen_at=before["first_seen_at"] if before else as_text(look.seen_at),
            changed_at=before["changed_at"] if before and unchanged else as_text(look.seen_at),
            incident=int(has_incident) or None,
            has_earlier=(before or {}).get("has_earlier"),
            version=(before or {}).get("version", 0) + 1,
        )
        writes = document_writes(item, before, "snapshot", SNAPSHOT.dump_json(look.snapshot))
        for family in RuleFamily:
            for attribute in (evaluation_name(family), due_name(family)):
                item[attribute] = (before or {}).get(attribute)
        for evaluation in look.evaluations:
            document, due = evaluation_name(evaluation.family), due_name(evaluation.family)
            writes += document_writes(item, before, document, EVALUATION.dump_json(evaluation))
            item[due] = due_entry(evaluation)
            writes += due_writes(run, evaluation.family, (before or {}).get(due), item[due])
        if item["has_earlier"] is None:
            others = self._runs_of(look.snapshot.arn)
            item["has_earlier"] = int(any(other < run for other in others))
            writes += self._earlier_added([other for other in others if other > run])
        self._remember_earlier(run, item)
        writes.append(put_if_version(item, before["version"] if before else None))
        if before is None:
            writes.append(put(keyed(name_key(name, run))))
        watched = keyed(
            watched_key(run),
            name=name,
            status=look.snapshot.status,
            fingerprint=look.fingerprint,
            describe_at=item["describe_at"],
        )
        writes.append(put(watched) if look.watching else delete(watched_key(run)))
        return writes

    def _earlier_added(self, later: Sequence[str]) -> list[Item]:
        """The writes for these runs, which are stored already, when a run is stored that was created before
        them: by a look that began before the run was deleted, and was late."""
        items = self._table.get_many(map(job_key, later))
        for run in later:
            self._have_earlier.pop(run)
        return [
            put_if_version(item | {"has_earlier": 1, "version": item["version"] + 1}, item["version"])
            for item in items.values()
            if item.get("has_earlier") == 0
        ]

    # -- records ----------------------------------------------------------------------------------

    def watching(self) -> list[WatchedJob]:
        return [
            WatchedJob(
                run=item["sk"],
                name=item["name"],
                status=item["status"],
                fingerprint=item["fingerprint"],
                describe_at=from_optional_text(item.get("describe_at")),
            )
            for item in self._table.query(WATCHED)
        ]

    def fingerprints(self, runs: Sequence[str]) -> dict[str, str]:
        found = self._table.get_many(map(job_key, runs), only="fingerprint")
        return {run: item["fingerprint"] for run in runs if (item := found.get(job_key(run)))}

    def job(self, run: str) -> JobRecord | None:
        def attempt() -> JobRecord | None:
            item = self._table.get(job_key(run))
            record = self._record(item) if item else None
            self._held.read(run, item)
            if item:
                self._remember_earlier(run, item)
            return record

        return self._table.retried(attempt)

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        if name is None:
            items = list(self._table.scan("RUN#", "RUN"))
        else:
            runs = [item["sk"] for item in self._table.query(name_key(name, "")[0])]
            items = list(self._table.get_many(map(job_key, runs)).values())
        records = []
        for item in items:
            try:
                records.append(self._record(item))
            except Conflict:  # the parts of its documents have been replaced since it was read
                records += filter(None, [self.job(run_of(item))])
        records.sort(key=lambda record: record.snapshot.run)
        return sorted(records, key=lambda record: record.snapshot.created_at, reverse=True)

    def runs(self) -> list[KnownRun]:
        return [*map(KnownRun.of, self.jobs())]

    def has_earlier_run(self, run: str) -> bool:
        known = self._have_earlier.get(run)
        return known if known is not None else any(other < run for other in self._runs_of(run_arn(run)))

    def _runs_of(self, arn: str) -> list[str]:
        """The runs of this job that are stored."""
        return [item["sk"] for item in self._table.query(name_key(job_name(arn), "")[0], prefix=f"{arn}@")]

    def _remember_earlier(self, run: str, item: Item) -> None:
        if (has_earlier := item.get("has_earlier")) is not None:
            self._have_earlier.put(run, bool(has_earlier))

    def _record(self, item: Item) -> JobRecord:
        """Raises `Conflict`."""
        names = ("snapshot", *map(evaluation_name, sorted(RuleFamily)))
        snapshot, *evaluations = (self._table.document(item, name) for name in names)
        with parsing(self._table.name):
            return job_record(item, unpack(snapshot), [unpack(each) for each in evaluations if each])

    # -- evaluations ------------------------------------------------------------------------------

    def claim_evaluations(
        self, now: datetime, lease: float, limit: int, *, together: bool
    ) -> list[DueEvaluation]:
        later = as_text(now + timedelta(seconds=lease))
        waiting = self._table.query(due_partition(together), until=f"{as_text(now)}#\uffff", limit=limit)
        due = (item["sk"].split("#", 2) for item in waiting)
        return until_refused(
            each
            for at, family, run in due
            if self._postpone(each := DueEvaluation(run, RuleFamily(family)), together, at, later)
        )

    def _postpone(self, due: DueEvaluation, together: bool, before: str, after: str) -> bool:
        """False if another process did so first."""
        job = self._table.get(job_key(due.run))
        name = due_name(due.family)
        entry, later_entry = (f"{due_partition(together)} {at}" for at in (before, after))
        if job is None or job.get(name) != entry:
            return False
        later = job | {name: later_entry, "version": job["version"] + 1}
        moved = due_writes(due.run, due.family, entry, later_entry)
        try:
            self._table.write([*moved, put_if_version(later, job["version"])])
        except Conflict:
            return False
        return True

    def next_evaluation(self) -> datetime | None:
        firsts = [next(self._table.query(due_partition(each), limit=1), None) for each in (False, True)]
        return min((from_text(first["sk"].partition("#")[0]) for first in firsts if first), default=None)


def unwatch_writes(run: str, item: Item) -> list[Item]:
    """`item` is the run's."""
    later = item | {"watching": 0, "version": item["version"] + 1}
    return [put_if_version(later, item["version"]), delete(watched_key(run))]
