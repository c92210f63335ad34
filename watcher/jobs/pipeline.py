"""Handles one job end to end: fetch its snapshot, detect, decide, commit."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from watcher.arn import job_name
from watcher.aws.accounts import Accounts
from watcher.aws.sagemaker import TrainingJobs
from watcher.config.settings import Config, Watch
from watcher.errors import LeaseLost, NotFound, StoreError
from watcher.jobs.detect import detect, news, stuck_rule
from watcher.lint import Defect, lint
from watcher.model import (
    IN_PROGRESS,
    KNOWN_RULE_STATUSES,
    KNOWN_STATUSES,
    Delivery,
    Evaluation,
    Finding,
    FindingKind,
    JobSnapshot,
    Outcome,
    RuleSource,
    finding_id,
)
from watcher.policy import evaluated_rules, routing
from watcher.store.base import JobRecord, Look, Store, WatchedJob
from watcher.store.documents import SNAPSHOT

if TYPE_CHECKING:
    from watcher.instruments import Instruments

log = structlog.get_logger(__name__)

PROFILER_REFRESH_S = 600.0
"""Between two looks at a job with profiler rules, which only Describe returns."""
JOB_LEASE_S = 60.0
"""Enough to handle a job: one or two requests with timeouts, and a write to the store."""
HOLD_RETRY_DELAYS_S = (0.1, 0.2, 0.4, 0.8, 1.6, 2.0)
"""Pauses before another attempt to hold a job that is being handled elsewhere. They grow, because each
attempt writes to the store, and a job with many events has many waiting at the same time."""


@dataclass(slots=True)
class _Lease:
    over: bool = False
    """Whether a commit has released the job, so that releasing it again would be a write for nothing."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The same for every source of work. Safe to use from several threads at once, for different jobs."""

    accounts: Accounts
    store: Store
    config: Config
    clock: Callable[[], datetime]
    spread: Callable[[], float]
    """A random number from 0 to 1, which spreads the jobs' refreshes over time."""
    committed: Callable[[Sequence[tuple[Finding, JobSnapshot]]], None]
    """Called with the new findings and their jobs, if there is something to deliver or to evaluate."""
    owner: str
    """This process's name in the store."""
    wait: Callable[[float], object]
    """Waits for this many seconds; returns early when the process is shutting down."""
    instruments: Instruments
    lease: float = JOB_LEASE_S

    def found(self, snapshots: Iterable[JobSnapshot], known: Mapping[str, WatchedJob]) -> None:
        """Handle the jobs that `Search` found in progress, skipping those that have not changed.

        Also skips a job that another thread or process is handling, which reads a newer snapshot itself.
        """
        now = self.clock()
        changed = {
            snapshot.arn: snapshot
            for snapshot in snapshots
            if snapshot.arn not in known or known[snapshot.arn].fingerprint != fingerprint(snapshot)
        }
        if not changed:
            return
        held = sorted(self.store.hold(sorted(changed), self._holder, now, self.lease))
        try:
            looks = []
            for arn in held:
                record = self.store.job(arn)
                look = self._look(record, _with_unsearchable(changed[arn], record), now)
                # A new job is described at once, because Search does not return its profiler rules.
                looks.append(replace(look, describe_at=record.describe_at if record else now))
            self._commit(looks)
        except StoreError:
            with suppress(StoreError):  # if this fails as well, their leases end by themselves
                self.store.release(held, self._holder)
            raise

    def look_again(self, arn: str) -> JobSnapshot | None:
        """Read one job again and handle it; None if it no longer exists."""
        with self._held(arn) as lease:
            snapshot = self._describe(arn)
            if snapshot is None:
                if self.store.job(arn):
                    log.info("job_vanished", job=job_name(arn), arn=arn)
                    self.store.unwatch(arn)
                return None
            record = self.store.job(arn)
            snapshot = replace(snapshot, tags=self._tags(snapshot, record))
            if not matches(snapshot, self.config.watch):
                self.store.unwatch(snapshot.arn)
                return snapshot
            now = self.clock()
            watching, describe_at = schedule(snapshot, now, self.config.watch.follow, self.spread())
            look = self._look(record, snapshot, now)
            self._commit([replace(look, watching=watching, describe_at=describe_at)], lease)
        if snapshot.ended and not watching and not snapshot.settled:
            open_rules = [outcome.rule for outcome in snapshot.outcomes if not outcome.final]
            log.warning("rules_never_final", job=snapshot.name, rules=open_rules)
        return snapshot

    def _describe(self, arn: str) -> JobSnapshot | None:
        """None if the job does not exist, or if another one has its name now."""
        try:
            snapshot = TrainingJobs(self.accounts.of(arn)).describe(job_name(arn))
        except NotFound:
            return None
        return snapshot if snapshot.arn == arn else None

    def evaluated(self, arn: str, evaluation: Evaluation) -> None:
        """Handle the progress of Watcher's own evaluation of a job's rules."""
        with self._held(arn) as lease:
            record = self.store.job(arn)
            if record is None:
                raise StoreError(f"{arn} was evaluated but is not in the store: it was edited by hand")
            look = self._look(replace(record, evaluation=evaluation), record.snapshot, self.clock())
            self._commit([replace(_as_scheduled(look, record), evaluation=evaluation)], lease)

    def report_stuck_rule(self, job: JobSnapshot, rule: Outcome, reason: str) -> bool:
        """Record a finding that a rule's processing job is stuck, for this `reason`.

        The log is only a hint, so the job is read again first. Returns False, and records nothing, if the
        rule is no longer in progress. Raises `AwsError`.
        """
        now = self.clock()
        finding = stuck_rule(job, rule, reason, now)
        if self.store.finding(finding.id):
            return True
        with self._held(job.arn) as lease:
            snapshot = self._describe(job.arn)
            if snapshot is None:
                return False
            in_progress = {(o.source, o.rule) for o in snapshot.outcomes if o.status == IN_PROGRESS}
            if not snapshot.in_progress or (rule.source, rule.rule) not in in_progress:
                return False
            if record := self.store.job(job.arn):
                look = self._look(record, record.snapshot, now, also=(finding,))
                self._commit([_as_scheduled(look, record)], lease)
        return True

    @property
    def _holder(self) -> str:
        """Different for each thread, because two threads must not handle a job at the same time, either."""
        return f"{self.owner}/{threading.get_ident()}"

    @contextmanager
    def _held(self, arn: str) -> Iterator[_Lease]:
        """Hold this job, so that it is not handled elsewhere at the same time. Waits a little if it is, then
        raises `LeaseLost`. A commit releases the job."""
        holder = self._holder
        waits = iter(HOLD_RETRY_DELAYS_S)
        while not self.store.hold([arn], holder, self.clock(), self.lease):
            if (seconds := next(waits, None)) is None:
                raise LeaseLost(f"{job_name(arn)} is being handled by another process")
            self.wait(seconds)
        lease = _Lease()
        try:
            yield lease
        finally:
            if not lease.over:
                self.store.release([arn], holder)

    def _look(
        self, record: JobRecord | None, snapshot: JobSnapshot, now: datetime, also: Sequence[Finding] = ()
    ) -> Look:
        """What follows from a snapshot and the job's record. Reads the store, and does no other I/O."""
        evaluation = record.evaluation if record else None
        begins = evaluation is None and evaluated_rules.local_rules(snapshot, self.config.rules)
        before = record.snapshot if record else None
        after = _with_outcomes(snapshot, evaluation.outcomes if evaluation else ())
        _log_unknown_statuses(before, after)
        stopped_by_us = after.ended and self.store.stop_of(after.arn) is not None
        found = [*detect(before, after, now=now, stopped_by_us=stopped_by_us), *also]
        # Once: the configuration of a job's rules never changes.
        if before is None and self.config.rules.local != "off":
            found += defects(after, now)
        findings = [finding for finding in found if routing.wanted(finding, self.config)]
        return Look(
            snapshot=after,
            fingerprint=fingerprint(after),
            seen_at=now,
            watching=True,
            findings=tuple(findings),
            deliveries=tuple(self._deliveries(findings, after, now)),
            evaluation=Evaluation(due_at=now, reads=evaluated_rules.first_reads(snapshot))
            if begins
            else None,
            news=tuple(news(before, after)),
        )

    def _deliveries(self, findings: Sequence[Finding], job: JobSnapshot, now: datetime) -> list[Delivery]:
        """An issue that Debugger and Watcher both find gets one alert: the first of them sends it and may
        stop the job, and the second only adds to it."""
        rows: list[Delivery] = []
        for finding in findings:
            twin = routing.twin(finding) if routing.judged_twice(finding, job) else None
            if twins_rows := self._rows_of(twin, rows):
                rows += routing.agreement(finding, twins_rows, now)
            else:
                decision = routing.decide(finding, job, self.config)
                rows += routing.deliveries(finding, decision, self.config.stop, now)
        return rows

    def _rows_of(self, finding: str | None, rows: Sequence[Delivery]) -> list[Delivery]:
        """The deliveries of a finding: those in the store, or else those about to be stored."""
        if finding is None:
            return []
        return self.store.deliveries(finding) or [row for row in rows if row.finding_id == finding]

    def _tags(self, snapshot: JobSnapshot, record: JobRecord | None) -> Mapping[str, str] | None:
        """The job's tags, which Describe does not return: from the store, or requested if the configuration
        selects jobs by them."""
        if record and record.snapshot.tags is not None:
            return record.snapshot.tags
        jobs = TrainingJobs(self.accounts.of(snapshot.arn))
        return jobs.tags(snapshot.arn) if self.config.watch.tags else None

    def _commit(self, looks: list[Look], lease: _Lease | None = None) -> None:
        if not looks:
            return
        new = self.store.commit(looks, self._holder)
        if lease:
            lease.over = True
        self.instruments.found(new)
        for look in looks:
            self.instruments.outcomes(look.snapshot, look.news)
        for finding in new:
            log.info(
                "finding",
                finding=finding.id,
                kind=finding.kind,
                job=finding.job,
                rule=finding.rule,
                step=finding.step,
                reason=finding.reason,
            )
        if new or any(look.evaluation for look in looks):
            jobs = {look.snapshot.arn: look.snapshot for look in looks}
            self.committed([(finding, jobs[finding.job_arn]) for finding in new])


def _as_scheduled(look: Look, record: JobRecord) -> Look:
    """A look that does not come from SageMaker's API leaves the schedule of API calls as it is."""
    return replace(look, watching=record.watching, describe_at=record.describe_at)


def defects(job: JobSnapshot, now: datetime) -> list[Finding]:
    """One finding for each rule that cannot work, by the job's record."""
    by_rule: dict[str, list[str]] = {}
    for defect in _lint(job):
        by_rule.setdefault(defect.rule, []).append(f"{defect.sentence}: {defect.fix}.")
    kind, source = FindingKind.RULE_DEFECT, RuleSource.LOCAL
    return [
        Finding(
            id=finding_id(job.arn, kind, rule, source),
            kind=kind,
            job_arn=job.arn,
            job=job.name,
            status="",
            opened_at=now,
            rule=rule,
            source=source,
            reason="\n".join(sentences),
        )
        for rule, sentences in by_rule.items()
    ]


def _lint(job: JobSnapshot) -> list[Defect]:
    """Lints the job. This calls rules, which may come from another distribution and raise anything."""
    try:
        return lint(job)
    except Exception:
        log.exception("lint_failed", job=job.name)
        return []


def matches(job: JobSnapshot, watch: Watch) -> bool:
    """Whether the configuration asks to watch this job."""
    return watch.names(job.name) and watch.tags.items() <= (job.tags or {}).items()


def _with_unsearchable(snapshot: JobSnapshot, record: JobRecord | None) -> JobSnapshot:
    """Adds what `Search` leaves out, profiler rules, as they were when the job was last described."""
    if record is None:
        return snapshot
    profiler = RuleSource.PROFILER
    return replace(
        snapshot,
        outcomes=snapshot.outcomes + tuple(o for o in record.snapshot.outcomes if o.source is profiler),
        rules=snapshot.rules + tuple(r for r in record.snapshot.rules if r.source is profiler),
    )


def _with_outcomes(snapshot: JobSnapshot, local: tuple[Outcome, ...]) -> JobSnapshot:
    """The snapshot with the outcomes of SageMaker and of Watcher's own evaluation."""
    theirs = tuple(o for o in snapshot.outcomes if o.source is not RuleSource.LOCAL)
    return replace(snapshot, outcomes=theirs + local)


def fingerprint(job: JobSnapshot) -> str:
    """Changes with anything that both `Search` and Describe return about a job."""
    shared = replace(
        job,
        tags=None,
        modified_at=job.created_at,  # changes although nothing else does
        final_metrics=(),  # change with every line of the training log
        outcomes=tuple(o for o in job.outcomes if o.source is RuleSource.DEBUGGER),
        rules=tuple(r for r in job.rules if r.source is RuleSource.DEBUGGER),
    )
    return hashlib.blake2b(SNAPSHOT.dump_json(shared), digest_size=16).hexdigest()


def schedule(job: JobSnapshot, now: datetime, follow: float, spread: float) -> tuple[bool, datetime | None]:
    """Whether to keep watching a job that was just described, and when Describe is due next. Pure.

    While it runs with profiler rules: every ten minutes (`spread`, from 0 to 1, spreads jobs over time).
    Once it is not in progress: in each pass, until all its rules are final or `follow` seconds after its end.
    """
    if job.in_progress:
        sources = {rule.source for rule in job.rules} | {outcome.source for outcome in job.outcomes}
        profiled = RuleSource.PROFILER in sources
        return True, now + timedelta(seconds=PROFILER_REFRESH_S * (0.9 + 0.2 * spread)) if profiled else None
    ended_at = job.ended_at or job.modified_at
    over = job.ended and (now - ended_at).total_seconds() > follow
    if job.settled or over:
        return False, None
    return True, now


def _log_unknown_statuses(before: JobSnapshot | None, after: JobSnapshot) -> None:
    """Log each status that this version does not know. It is kept and shown like any other."""
    known = {before.status, *(o.status for o in before.outcomes)} if before else set()
    unknown = {after.status} - KNOWN_STATUSES
    unknown |= {outcome.status for outcome in after.outcomes} - KNOWN_RULE_STATUSES
    for status in sorted(unknown - known):
        log.warning("unknown_status", job=after.name, status=status)
