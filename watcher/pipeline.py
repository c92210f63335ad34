"""One job, end to end: fetch its snapshot, detect, decide, commit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from pydantic import TypeAdapter

from watcher import policy
from watcher.aws.sagemaker import TrainingJobs
from watcher.config import Config, Watch
from watcher.detect import detect
from watcher.errors import NotFound
from watcher.model import (
    KNOWN_RULE_STATUSES,
    KNOWN_STATUSES,
    Delivery,
    JobSnapshot,
    RuleSource,
)
from watcher.store.base import Look, Store, WatchedJob

log = structlog.get_logger(__name__)

PROFILER_REFRESH = 600.0
"""Seconds between two looks at a running job's profiler rules, which only Describe tells."""

_SNAPSHOT = TypeAdapter(JobSnapshot)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The same for every source of work. Safe to use from several threads, for different jobs."""

    jobs: TrainingJobs
    store: Store
    config: Config
    clock: Callable[[], datetime]
    spread: Callable[[], float]
    """A random number from 0 to 1: keeps the jobs' refreshes from falling together."""
    committed: Callable[[], None]
    """Called when there is something to deliver."""

    def found(self, snapshots: Iterable[JobSnapshot], known: Mapping[str, WatchedJob]) -> None:
        """Handle the jobs that `Search` found in progress; what has not changed costs nothing."""
        now = self.clock()
        looks = []
        for snapshot in snapshots:
            job = known.get(snapshot.arn)
            if job is None or job.fingerprint != fingerprint(snapshot):
                look = self._look(snapshot, now, described=False)
                looks.append(replace(look, watching=True, describe_at=job.describe_at if job else now))
        self._commit(looks)

    def look_again(self, name: str) -> JobSnapshot | None:
        """Read one job anew and handle it; None where it has vanished."""
        try:
            snapshot = self.jobs.describe(name)
        except NotFound:
            for record in self.store.jobs(name):
                log.info("job_vanished", job=name)
                self.store.unwatch(record.snapshot.arn)
            return None
        look = self._look(snapshot, self.clock(), described=True)
        if matches(look.snapshot, self.config.watch):
            self._commit([look])
        else:
            self.store.unwatch(snapshot.arn)
        if look.snapshot.ended and not look.watching and not look.snapshot.settled:
            open_rules = [outcome.rule for outcome in look.snapshot.outcomes if not outcome.final]
            log.warning("rules_never_final", job=name, rules=open_rules)
        return look.snapshot

    def _look(self, snapshot: JobSnapshot, now: datetime, *, described: bool) -> Look:
        record = self.store.job(snapshot.arn)
        before = record.snapshot if record else None
        after = self._completed(snapshot, before, described=described)
        _log_unknown_statuses(before, after)
        stopped_by_us = after.ended and self.store.stop_of(after.arn) is not None
        findings = [
            finding
            for finding in detect(before, after, now=now, stopped_by_us=stopped_by_us)
            if policy.wanted(finding, self.config)
        ]
        outbox: list[Delivery] = []
        for finding in findings:
            decision = policy.decide(finding, after, self.config)
            outbox += policy.deliveries(finding, decision, self.config.stop, now)
        watching, describe_at = schedule(after, now, self.config.watch.follow, self.spread())
        return Look(
            snapshot=after,
            fingerprint=fingerprint(after),
            seen_at=now,
            watching=watching,
            describe_at=describe_at,
            findings=tuple(findings),
            deliveries=tuple(outbox),
        )

    def _completed(
        self, snapshot: JobSnapshot, before: JobSnapshot | None, *, described: bool
    ) -> JobSnapshot:
        """`Search` leaves out what belongs to profiler rules, Describe the tags: take both from before."""
        if described:
            if snapshot.tags is not None:
                return snapshot
            if before and before.tags is not None:
                return replace(snapshot, tags=before.tags)
            return (
                replace(snapshot, tags=self.jobs.tags(snapshot.arn)) if self.config.watch.tags else snapshot
            )
        if before is None:
            return snapshot
        profiler = RuleSource.PROFILER
        return replace(
            snapshot,
            outcomes=snapshot.outcomes + tuple(o for o in before.outcomes if o.source is profiler),
            rules=snapshot.rules + tuple(r for r in before.rules if r.source is profiler),
        )

    def _commit(self, looks: list[Look]) -> None:
        if not looks:
            return
        new = self.store.commit(looks)
        for finding in new:
            log.info(
                "finding",
                id=finding.id,
                kind=finding.kind,
                job=finding.job,
                rule=finding.rule,
                step=finding.step,
                reason=finding.reason,
            )
        if new:
            self.committed()


def matches(job: JobSnapshot, watch: Watch) -> bool:
    """Whether the configuration asks to watch this job."""
    return watch.names(job.name) and watch.tags.items() <= (job.tags or {}).items()


def fingerprint(job: JobSnapshot) -> str:
    """Changes when anything does that both `Search` and Describe tell of a job."""
    shared = replace(
        job,
        tags=None,
        modified_at=job.created_at,  # moves without anything else having changed
        outcomes=tuple(o for o in job.outcomes if o.source is not RuleSource.PROFILER),
        rules=tuple(r for r in job.rules if r.source is not RuleSource.PROFILER),
    )
    return hashlib.blake2b(_SNAPSHOT.dump_json(shared), digest_size=16).hexdigest()


def schedule(job: JobSnapshot, now: datetime, follow: float, spread: float) -> tuple[bool, datetime | None]:
    """Whether to go on watching a job that was just described, and when Describe is due next. Pure.

    Every ten minutes while it runs with profiler rules (`spread`, from 0 to 1, keeps jobs apart); in
    each pass once it is not in progress, until all of its rules are final, or for `follow` seconds
    after its end.
    """
    if job.in_progress:
        sources = {rule.source for rule in job.rules} | {outcome.source for outcome in job.outcomes}
        profiled = RuleSource.PROFILER in sources
        return True, now + timedelta(seconds=PROFILER_REFRESH * (0.9 + 0.2 * spread)) if profiled else None
    ended_at = job.ended_at or job.modified_at
    over = job.ended and (now - ended_at).total_seconds() > follow
    if job.settled or over:
        return False, None
    return True, now


def _log_unknown_statuses(before: JobSnapshot | None, after: JobSnapshot) -> None:
    """A status from a later API is kept and shown; the log says that Watcher does not know it."""
    known = {before.status, *(o.status for o in before.outcomes)} if before else set()
    unknown = {after.status} - KNOWN_STATUSES
    unknown |= {outcome.status for outcome in after.outcomes} - KNOWN_RULE_STATUSES
    for status in sorted(unknown - known):
        log.warning("unknown_status", job=after.name, status=status)
