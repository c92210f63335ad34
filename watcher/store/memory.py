"""The store in memory, for tests and benchmarks. It keeps every promise, as long as its process lives."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from watcher.errors import LeaseLost, StoreError
from watcher.model import Delivery, DeliveryState, Finding, Reads
from watcher.store.base import JOB_TAKEN_OVER, Claimed, JobRecord, Look, StopRecord, WatchedJob, settled


@dataclass(frozen=True, slots=True)
class _Lease:
    owner: str
    until: datetime


_NO_LEASE = _Lease("", datetime.min.replace(tzinfo=UTC))


class MemoryStore:
    """Safe to use from several threads. The dictionaries keep the order in which entries were added."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, JobRecord] = {}
        self._looks: dict[str, WatchedJob] = {}
        self._evaluate_at: dict[str, datetime | None] = {}
        self._findings: dict[str, Finding] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._leases: dict[str, _Lease] = {}
        self._stops: dict[str, StopRecord] = {}
        self._held: dict[str, _Lease] = {}
        self._turns: dict[str, int] = {}

    # -- jobs -------------------------------------------------------------------------------------

    def hold(self, job_arns: Sequence[str], owner: str, now: datetime, lease: float) -> set[str]:
        with self._lock:
            free = {
                arn
                for arn in job_arns
                if (held := self._held.get(arn)) is None or held.owner == owner or held.until <= now
            }
            self._held |= dict.fromkeys(free, _Lease(owner, now + timedelta(seconds=lease)))
            return free

    def release(self, job_arns: Sequence[str], owner: str) -> None:
        with self._lock:
            self._release(job_arns, owner)

    def _release(self, job_arns: Iterable[str], owner: str) -> None:
        for arn in job_arns:
            if (held := self._held.get(arn)) and held.owner == owner:
                del self._held[arn]

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Finding, ...]:
        with self._lock:
            if holder:
                arns = {look.snapshot.arn for look in looks}
                if any(self._held.get(arn, _NO_LEASE).owner != holder for arn in arns):
                    raise LeaseLost(JOB_TAKEN_OVER)
                self._release(arns, holder)
            return tuple(finding for look in looks for finding in self._remember(look))

    def _remember(self, look: Look) -> list[Finding]:
        snapshot = look.snapshot
        record = self._jobs.get(snapshot.arn)
        unchanged = record is not None and self._looks[snapshot.arn].fingerprint == look.fingerprint
        self._jobs[snapshot.arn] = JobRecord(
            snapshot=snapshot,
            first_seen_at=record.first_seen_at if record else look.seen_at,
            changed_at=record.changed_at if record and unchanged else look.seen_at,
            watching=look.watching,
            describe_at=look.describe_at,
            evaluation=look.evaluation or (record.evaluation if record else None),
        )
        if look.evaluation:
            self._evaluate_at[snapshot.arn] = look.evaluation.due_at
        self._looks[snapshot.arn] = WatchedJob(
            snapshot.arn, snapshot.name, snapshot.status, look.fingerprint, look.describe_at
        )
        new = []
        for finding in look.findings:
            if finding.id not in self._findings:
                self._findings[finding.id] = finding
                new.append(finding)
        new_ids = {finding.id for finding in new}
        for delivery in look.deliveries:
            if delivery.finding_id in new_ids:
                self._deliveries.setdefault(delivery.id, delivery)
        return new

    def watching(self) -> list[WatchedJob]:
        with self._lock:
            return [self._looks[arn] for arn, record in sorted(self._jobs.items()) if record.watching]

    def job(self, arn: str) -> JobRecord | None:
        with self._lock:
            return self._jobs.get(arn)

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        with self._lock:
            records = [self._jobs[arn] for arn in sorted(self._jobs)]
        wanted = [record for record in records if name is None or record.snapshot.name == name]
        return sorted(wanted, key=lambda record: record.snapshot.created_at, reverse=True)

    def unwatch(self, arn: str) -> None:
        with self._lock:
            if arn in self._jobs:
                self._jobs[arn] = replace(self._jobs[arn], watching=False)

    def claim_evaluations(self, now: datetime, lease: float, limit: int, reads: Reads) -> list[str]:
        with self._lock:
            due = sorted(
                (at, arn)
                for arn, at in self._evaluate_at.items()
                if at is not None and at <= now and self._reads(arn) is reads
            )
            arns = [arn for _, arn in due[:limit]]
            for arn in arns:
                self._evaluate_at[arn] = now + timedelta(seconds=lease)
            return arns

    def _reads(self, arn: str) -> Reads | None:
        evaluation = self._jobs[arn].evaluation
        return evaluation.reads if evaluation else None

    def next_evaluation(self) -> datetime | None:
        with self._lock:
            return min((at for at in self._evaluate_at.values() if at is not None), default=None)

    # -- findings ---------------------------------------------------------------------------------

    def finding(self, finding_id: str) -> Finding | None:
        with self._lock:
            return self._findings.get(finding_id)

    def findings(self, job_arn: str | None = None) -> list[Finding]:
        with self._lock:
            latest_first = [*reversed(self._findings.values())]
        of_job = [finding for finding in latest_first if job_arn is None or finding.job_arn == job_arn]
        return sorted(of_job, key=lambda finding: finding.opened_at, reverse=True)

    # -- deliveries -------------------------------------------------------------------------------

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        with self._lock:
            due = [head for head in self._heads() if self._ready_at(head) <= now]
            longest_waiting = sorted(due, key=self._ready_at)[:limit]
            claimed = [
                replace(
                    head,
                    state=DeliveryState.IN_FLIGHT,
                    attempts=head.attempts + 1,
                    uncertain=head.uncertain or head.state is DeliveryState.IN_FLIGHT,
                )
                for head in due
                if head in longest_waiting
            ]
            for delivery in claimed:
                self._deliveries[delivery.id] = delivery
                self._leases[delivery.id] = _Lease(owner, now + timedelta(seconds=lease))
            return Claimed(claimed, self._next_due())

    def _refuse_unknown(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.finding_id not in self._findings:
                raise StoreError(f"the finding of delivery {delivery.id} is unknown")

    def _add(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._deliveries.setdefault(delivery.id, delivery)

    def _heads(self) -> Iterator[Delivery]:
        """The oldest open delivery of each lane."""
        lanes = set()
        for delivery in self._deliveries.values():
            if delivery.open and delivery.lane not in lanes:
                lanes.add(delivery.lane)
                yield delivery

    def _ready_at(self, delivery: Delivery) -> datetime:
        lease = self._leases.get(delivery.id)
        return lease.until if lease else delivery.due_at

    def settle(self, owner: str, delivery: Delivery, then: Sequence[Delivery] = ()) -> bool:
        with self._lock:
            held = self._deliveries.get(delivery.id)
            lease = self._leases.get(delivery.id)
            # A later claim counts another attempt, so an owner whose lease has ended cannot settle it even
            # if it claimed the delivery again itself.
            if not held or not lease or lease.owner != owner or held.attempts != delivery.attempts:
                return False
            self._refuse_unknown(then)
            self._deliveries[delivery.id] = settled(held, delivery)
            del self._leases[delivery.id]
            self._add(then)
            return True

    def next_due(self) -> datetime | None:
        with self._lock:
            return self._next_due()

    def _next_due(self) -> datetime | None:
        return min(map(self._ready_at, self._heads()), default=None)

    def deliveries(self, finding_id: str | None = None) -> list[Delivery]:
        with self._lock:
            deliveries = list(self._deliveries.values())
        return [d for d in deliveries if finding_id is None or d.finding_id == finding_id]

    def cancel(self, delivery_id: str, then: Sequence[Delivery] = ()) -> bool:
        with self._lock:
            delivery = self._deliveries.get(delivery_id)
            if not delivery or delivery.state is not DeliveryState.PENDING:
                return False
            self._refuse_unknown(then)
            self._deliveries[delivery_id] = replace(delivery, state=DeliveryState.CANCELLED)
            self._add(then)
            return True

    # -- turns ------------------------------------------------------------------------------------

    def take_turn(self, what: str, turn: int) -> bool:
        with self._lock:
            if self._turns.get(what, turn - 1) >= turn:
                return False
            self._turns[what] = turn
            return True

    # -- stops ------------------------------------------------------------------------------------

    def permit_stop(self, job_arn: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        with self._lock:
            if job_arn in self._stops:
                return True
            lately = [stop for stop in self._stops.values() if stop.at > now - timedelta(hours=1)]
            if len(lately) >= max_per_hour:
                return False
            self._stops[job_arn] = StopRecord(job_arn, actor, now)
            return True

    def stop_of(self, job_arn: str) -> StopRecord | None:
        with self._lock:
            return self._stops.get(job_arn)

    # ---------------------------------------------------------------------------------------------

    def check(self) -> str:
        return f"in memory, forgotten when the process ends, jobs: {len(self._jobs)}"

    def close(self) -> None:
        """There is nothing to close."""
