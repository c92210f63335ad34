"""The store in memory, for tests and benchmarks. It keeps every promise, as long as its process lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count

from watcher.arn import run_arn
from watcher.errors import LeaseLost
from watcher.model import (
    Case,
    Change,
    Delivery,
    DeliveryState,
    Finding,
    Incident,
    incident_id,
)
from watcher.store.amendments import CLAIMABLE, Amended, amended, settled_last, together
from watcher.store.base import (
    JOB_TAKEN_OVER,
    Amend,
    Claimed,
    DueEvaluation,
    JobRecord,
    KnownRun,
    Look,
    StopRecord,
    WatchedJob,
    claimed,
    settled,
    waits_beyond,
)
from watcher.store.leases import ClaimClock, Observed


@dataclass(frozen=True, slots=True)
class _Lease:
    owner: str
    token: int


class MemoryStore:
    """Safe to use from several threads. The dictionaries keep the order in which entries were added."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, JobRecord] = {}
        self._looks: dict[str, WatchedJob] = {}
        self._evaluate_at: dict[DueEvaluation, datetime | None] = {}
        self._incidents: dict[str, Incident] = {}
        self._findings: dict[str, Finding] = {}
        self._history: list[Change] = []
        self._deliveries: dict[str, Delivery] = {}
        self._parts: dict[str, tuple[list[str], list[str]]] = {}
        """The ids of each incident's findings and deliveries."""
        self._places: dict[str, int] = {}
        """The order within a lane, by the delivery's id."""
        self._leases: dict[str, _Lease] = {}
        """Of deliveries in flight, by id."""
        self._held: dict[str, _Lease] = {}
        self._stops: dict[str, StopRecord] = {}
        self._turns: dict[str, int] = {}
        self._marks: dict[str, datetime] = {}
        self._tokens = count()
        self._next_place = count()
        self._observed = Observed(monotonic)
        self._claim_clock = ClaimClock(self._observed, monotonic)

    # -- jobs -------------------------------------------------------------------------------------

    def hold(self, names: Sequence[str], owner: str, lease: float) -> set[str]:
        with self._lock:
            free = {name for name in names if self._is_free(name, owner, lease)}
            for name in free:
                self._held[name] = _Lease(owner, next(self._tokens))
                self._observed.taken(("job", name), self._held[name].token)
            return free

    def _is_free(self, name: str, owner: str, lease: float) -> bool:
        held = self._held.get(name)
        return held is None or held.owner == owner or self._observed.ended(("job", name), held.token, lease)

    def release(self, names: Sequence[str], owner: str) -> None:
        with self._lock:
            self._release(names, owner)

    def _release(self, names: Iterable[str], owner: str) -> None:
        for name in names:
            if (held := self._held.get(name)) and held.owner == owner:
                del self._held[name]
                self._observed.forget(("job", name))

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Case, ...]:
        with self._lock:
            arns = {look.snapshot.arn for look in looks}
            if holder and not all(self._holds(holder, arn) for arn in arns):
                raise LeaseLost(JOB_TAKEN_OVER)
            # An amendment may raise an exception, so all of them come before the first change.
            cases: dict[str, Case] = {}
            changes = []
            for look in looks:
                incident = incident_id(look.snapshot.run)
                known = cases.get(incident)
                before = replace(known, changes=()) if known else self._case(incident)
                if look.amend and (change := amended(incident, before, look.amend)):
                    cases[incident] = together(known, change.case) if known else change.case
                    changes.append(change)
            for look in looks:
                self._remember(look)
            for change in changes:
                self._write(change)
            if holder:
                self._release(arns, holder)
            return tuple(cases.values())

    def _holds(self, owner: str, name: str) -> bool:
        held = self._held.get(name)
        return held is not None and held.owner == owner

    def _remember(self, look: Look) -> None:
        snapshot = look.snapshot
        run = snapshot.run
        record = self._jobs.get(run)
        unchanged = record is not None and self._looks[run].fingerprint == look.fingerprint
        self._jobs[run] = JobRecord(
            snapshot=snapshot,
            first_seen_at=record.first_seen_at if record else look.seen_at,
            changed_at=record.changed_at if record and unchanged else look.seen_at,
            watching=look.watching,
            describe_at=look.describe_at,
            evaluations=record.evaluations if record else (),
        ).with_evaluations(look.evaluations)
        for evaluation in look.evaluations:
            self._evaluate_at[DueEvaluation(run, evaluation.family)] = evaluation.due_at
        self._looks[run] = WatchedJob(run, snapshot.name, snapshot.status, look.fingerprint, look.describe_at)

    def watching(self) -> list[WatchedJob]:
        with self._lock:
            return [self._looks[run] for run, record in sorted(self._jobs.items()) if record.watching]

    def fingerprints(self, runs: Sequence[str]) -> Mapping[str, str]:
        with self._lock:
            return {run: self._looks[run].fingerprint for run in runs if run in self._looks}

    def job(self, run: str) -> JobRecord | None:
        with self._lock:
            return self._jobs.get(run)

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        with self._lock:
            records = [self._jobs[run] for run in sorted(self._jobs)]
        wanted = [record for record in records if name is None or record.snapshot.name == name]
        return sorted(wanted, key=lambda record: record.snapshot.created_at, reverse=True)

    def runs(self) -> list[KnownRun]:
        return [*map(KnownRun.of, self.jobs())]

    def has_earlier_run(self, run: str) -> bool:
        with self._lock:
            return any(run_arn(each) == run_arn(run) and each < run for each in self._jobs)

    def unwatch(self, arn: str, amend: Amend, before: str = "") -> Mapping[str, Case | None]:
        with self._lock:
            runs = [
                run
                for run, record in sorted(self._jobs.items())
                if record.snapshot.arn == arn and record.watching and (not before or run < before)
            ]
            cases: dict[str, Case | None] = {}
            for run in runs:
                cases[run] = self._amend(incident_id(run), amend)
                self._jobs[run] = replace(self._jobs[run], watching=False)
            return cases

    def claim_evaluations(
        self, now: datetime, lease: float, limit: int, *, together: bool
    ) -> list[DueEvaluation]:
        with self._lock:
            due = sorted(
                (at, each.run, each.family)
                for each, at in self._evaluate_at.items()
                if at is not None and at <= now and self._is_together(each) is together
            )
            claimed = [DueEvaluation(run, family) for _, run, family in due[:limit]]
            for each in claimed:
                self._evaluate_at[each] = now + timedelta(seconds=lease)
            return claimed

    def _is_together(self, due: DueEvaluation) -> bool:
        evaluation = self._jobs[due.run].evaluation(due.family)
        return evaluation is not None and evaluation.reads.together

    def next_evaluation(self) -> datetime | None:
        with self._lock:
            return min((at for at in self._evaluate_at.values() if at is not None), default=None)

    # -- incidents --------------------------------------------------------------------------------

    def amend(self, incident: str, amend: Amend) -> Case | None:
        with self._lock:
            return self._amend(incident, amend)

    def _amend(self, incident: str, amend: Amend) -> Case | None:
        change = amended(incident, self._case(incident), amend)
        if change is None:
            return None
        self._write(change)
        return change.case

    def _case(self, incident: str) -> Case | None:
        """Without its history."""
        if incident not in self._incidents:
            return None
        findings, deliveries = self._parts[incident]
        return Case(
            self._incidents[incident],
            tuple(self._findings[id_] for id_ in findings),
            tuple(self._deliveries[id_] for id_ in deliveries),
        )

    def _write(self, change: Amended) -> None:
        if change.incident:
            self._incidents[change.incident.id] = change.incident
        findings, deliveries = self._parts.setdefault(change.case.incident.id, ([], []))
        findings += [finding.id for finding in change.findings if finding.id not in self._findings]
        deliveries += [each.id for each in change.deliveries if each.id not in self._deliveries]
        self._findings |= {finding.id: finding for finding in change.findings}
        for delivery in change.deliveries:
            if delivery.id in change.last:
                self._places[delivery.id] = next(self._next_place)
            self._deliveries[delivery.id] = delivery
            if delivery.state is not DeliveryState.IN_FLIGHT:
                self._end_lease(delivery.id)
        self._history += change.changes

    def case(self, incident: str, after: int = 0) -> Case | None:
        with self._lock:
            case = self._case(incident)
            history = [
                change for change in self._history if change.incident == incident and change.revision > after
            ]
        return replace(case, changes=tuple(history)) if case else None

    def incidents(self) -> list[Incident]:
        with self._lock:
            latest_first = [*reversed(self._incidents.values())]
        return sorted(latest_first, key=lambda incident: incident.opened_at, reverse=True)

    def findings(self, run: str | None = None) -> list[Finding]:
        with self._lock:
            latest_first = [*reversed(self._findings.values())]
        of_run = [finding for finding in latest_first if run is None or finding.run == run]
        return sorted(of_run, key=lambda finding: finding.opened_at, reverse=True)

    def record(self, change: Change) -> None:
        with self._lock:
            self._history.append(change)

    def history(self, since: datetime | None = None) -> Iterator[Change]:
        with self._lock:
            changes = list(self._history)
        wanted = [change for change in changes if since is None or change.at >= since]
        yield from sorted(wanted, key=lambda change: change.at)

    # -- deliveries -------------------------------------------------------------------------------

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        with self._lock:
            self._claim_clock.claiming(now, lease)
            due = [head for head in self._heads() if self._ready_at(head) <= now]
            longest_waiting = sorted(due, key=self._ready_at)[:limit]
            taken = [claimed(head) for head in due if head in longest_waiting]
            for delivery in taken:
                self._deliveries[delivery.id] = delivery
                self._leases[delivery.id] = _Lease(owner, next(self._tokens))
                self._observed.taken(("delivery", delivery.id), self._leases[delivery.id].token)
            return Claimed(taken, self._next_due())

    def _heads(self) -> list[Delivery]:
        """The delivery of each lane that has been open longest; in the order in which they were created."""
        heads: dict[str, Delivery] = {}
        for delivery in self._deliveries.values():
            if delivery.state in CLAIMABLE:
                first = heads.get(delivery.lane)
                if first is None or self._places[delivery.id] < self._places[first.id]:
                    heads[delivery.lane] = delivery
        ids = {head.id for head in heads.values()}
        return [delivery for delivery in self._deliveries.values() if delivery.id in ids]

    def _ready_at(self, delivery: Delivery) -> datetime:
        lease = self._leases.get(delivery.id)
        if lease is None:
            return delivery.due_at
        return self._claim_clock.ready_at(("delivery", delivery.id), lease.token, delivery.due_at)

    def settle(self, owner: str, delivery: Delivery, amend: Amend | None = None) -> bool:
        with self._lock:
            held = self._deliveries.get(delivery.id)
            lease = self._leases.get(delivery.id)
            # A later claim counts another attempt, so an owner whose lease has ended cannot settle it even
            # if it claimed the delivery again itself.
            if not held or not lease or lease.owner != owner or held.attempts != delivery.attempts:
                return False
            after = settled(held, delivery)
            case = self._case(held.incident)
            change = None
            if amend:
                if case:
                    rows = tuple(after if each.id == after.id else each for each in case.deliveries)
                    case = replace(case, deliveries=rows)
                change = amended(held.incident, case, amend)
            self._deliveries[after.id] = after
            self._end_lease(after.id)
            if settled_last(held, delivery, after):
                self._places[after.id] = next(self._next_place)
            if change:
                self._write(change)
            return True

    def _end_lease(self, delivery_id: str) -> None:
        if self._leases.pop(delivery_id, None):
            self._observed.forget(("delivery", delivery_id))

    def next_due(self) -> datetime | None:
        with self._lock:
            return self._next_due()

    def _next_due(self) -> datetime | None:
        return min(map(self._ready_at, self._heads()), default=None)

    def has_open(self, until: datetime | None = None) -> bool:
        with self._lock:
            return any(
                delivery.open and not (until and waits_beyond(delivery, until))
                for delivery in self._deliveries.values()
            )

    def refused(self) -> list[Delivery]:
        with self._lock:
            refused = [each for each in self._deliveries.values() if each.state is DeliveryState.REFUSED]
        return sorted(refused, key=lambda delivery: delivery.refused_at or delivery.created_at)

    def deliveries(self, incident: str | None = None) -> list[Delivery]:
        with self._lock:
            deliveries = list(self._deliveries.values())
        return [each for each in deliveries if incident is None or each.incident == incident]

    # -- turns and marks --------------------------------------------------------------------------

    def take_turn(self, what: str, turn: int) -> bool:
        with self._lock:
            if self._turns.get(what, turn - 1) >= turn:
                return False
            self._turns[what] = turn
            return True

    def mark(self, place: str) -> datetime | None:
        with self._lock:
            return self._marks.get(place)

    def set_mark(self, place: str, at: datetime) -> None:
        with self._lock:
            self._marks[place] = max(at, self._marks.get(place, at))

    # -- stops ------------------------------------------------------------------------------------

    def permit_stop(self, run: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        with self._lock:
            if run in self._stops:
                return True
            lately = [stop for stop in self._stops.values() if stop.at > now - timedelta(hours=1)]
            if len(lately) >= max_per_hour:
                return False
            self._stops[run] = StopRecord(run, actor, now)
            return True

    def retract_stop(self, run: str) -> None:
        with self._lock:
            self._stops.pop(run, None)

    def stop_of(self, run: str) -> StopRecord | None:
        with self._lock:
            return self._stops.get(run)

    # ---------------------------------------------------------------------------------------------

    def check(self) -> str:
        return f"in memory, forgotten when the process ends, jobs: {len(self._jobs)}"

    def close(self) -> None:
        """There is nothing to close."""
