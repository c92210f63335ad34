"""Handles one run end to end: fetch its snapshot, detect, decide, commit.

A job's name can be used again after DeleteTrainingJob. So a look at a job describes it first: the answer says
which run it is. Other runs of the name are over, and no longer watched.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from watcher.arn import job_name, run_arn
from watcher.aws.accounts import Accounts
from watcher.aws.sagemaker import TrainingJobs
from watcher.config.settings import Config
from watcher.errors import AwsError, LeaseLost, NotFound, StoreError
from watcher.jobs.detect import detect, news, stuck_rule, unstuck_rule
from watcher.jobs.failures import Failures, described
from watcher.lint import Defect, lint
from watcher.model import (
    IN_PROGRESS,
    KNOWN_RULE_STATUSES,
    KNOWN_STATUSES,
    Case,
    ChangeKind,
    Evaluation,
    Finding,
    FindingKind,
    JobSnapshot,
    Judge,
    Outcome,
    Report,
    RuleFamily,
)
from watcher.policy import evaluated_rules, incidents
from watcher.policy.watched import matches
from watcher.store.base import Amend, JobRecord, Look, Store
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

GONE = "the job no longer exists"
REPLACED = "the job was deleted, and a new run has its name"
NOT_MATCHED = "the job no longer matches watch.jobs or watch.tags"

_OPENINGS = frozenset({ChangeKind.OPENED, ChangeKind.WORSE, ChangeKind.ADDED})


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
    committed: Callable[[Sequence[tuple[Case, JobSnapshot]]], None]
    """Called with the cases that changed and their jobs, if there is something to deliver or to evaluate."""
    owner: str
    """This process's name in the store."""
    wait: Callable[[float], object]
    """Waits for this many seconds; returns early when the process is shutting down."""
    instruments: Instruments
    lease: float = JOB_LEASE_S
    failures: Failures = field(default_factory=Failures)

    def found(self, snapshots: Iterable[JobSnapshot], known: Mapping[str, str]) -> None:
        """Handle the runs that `Search` found, skipping those that have not changed.

        `known`: the fingerprints of runs that are stored. Also skips a job that another thread or process is
        handling, which reads a newer snapshot itself.
        """
        changed = {
            snapshot.arn: snapshot
            for snapshot in snapshots
            if known.get(snapshot.run) != fingerprint(snapshot)
        }
        if not changed:
            return
        self.accounts.learn(next(iter(changed)))
        now = self.clock()
        held = sorted(self.store.hold(sorted(changed), self._holder, self.lease))
        try:
            looks = []
            for arn in held:
                with self._isolated(changed[arn].run):
                    if look := self._look_at_found(changed[arn], now):
                        looks.append(look)
            committed = self._commit_each(looks)
            if left := set(held) - committed:
                self.store.release(sorted(left), self._holder)
        except StoreError:
            with suppress(StoreError):  # if this fails as well, their leases end by themselves
                self.store.release(held, self._holder)
            raise

    def _isolated(self, run: str) -> AbstractContextManager[list[Exception]]:
        """Ends an error with the one run that leads to it."""
        return self.failures.caught("look_failed", "the job is looked at again in the next pass", run=run)

    def _look_at_found(self, snapshot: JobSnapshot, now: datetime) -> Look | None:
        """A look at a run that `Search` found; None if Describe has already answered something newer."""
        record = self.store.job(snapshot.run)
        if record and record.snapshot.modified_at > snapshot.modified_at:
            return None
        look = self._look(record, _with_unsearchable(snapshot, record), now)
        # A new run is described at once, because Search does not return its profiler rules.
        return replace(look, describe_at=record.describe_at if record and record.watching else now)

    def _commit_each(self, looks: list[Look]) -> set[str]:
        """Commit all looks together; if that fails because of one of them, each alone. Returns the ARNs of
        those that were stored, which are released."""
        try:
            self._commit(looks)
        except (AwsError, StoreError):
            raise
        except Exception as error:  # nothing was stored
            log.debug("commit_failed", error=described(error), consequence="each job is stored alone")
            stored = set()
            for look in looks:
                with self._isolated(look.snapshot.run):
                    self._commit([look])
                    stored.add(look.snapshot.arn)
            return stored
        return {look.snapshot.arn for look in looks}

    def look_again(self, arn: str) -> JobSnapshot | None:
        """Read one job again and handle its run; None if it does not exist or is not to be watched."""
        with self._held(arn) as lease:
            if not self.config.watch.names(job_name(arn)):
                self._unwatch(arn, NOT_MATCHED)
                return None
            snapshot = self._describe(arn)
            if snapshot is None:
                self._unwatch(arn, GONE)
                return None
            record = self.store.job(snapshot.run)
            snapshot = self._tagged(snapshot, record)
            if not matches(snapshot, self.config.watch):
                self._unwatch(arn, REPLACED, before=snapshot.run)
                self._unwatch(arn, NOT_MATCHED)
                return None
            now = self.clock()
            watching, describe_at = schedule(snapshot, now, self.config.watch.follow, self.spread())
            look = self._look(record, snapshot, now)
            self._commit([replace(look, watching=watching, describe_at=describe_at)], lease)
        # Only at the first look at a run, and after the commit, because it must not delay an alert. A pass
        # over all jobs does what was left undone.
        if record is None or record.describe_at is not None:
            self._unwatch(arn, REPLACED, before=snapshot.run)
        if snapshot.ended and not watching and not snapshot.settled:
            open_rules = [outcome.rule for outcome in snapshot.outcomes if not outcome.final]
            log.warning("rules_never_final", job=snapshot.name, rules=open_rules)
        return snapshot

    def unwatch(self, arn: str, reason: str) -> None:
        """Stop watching a job: what is open about it stays unknown, and nothing is stopped."""
        with self._held(arn):
            self._unwatch(arn, reason)

    def replaced(self, run: str) -> None:
        """Stop watching the earlier runs of this run's job."""
        arn = run_arn(run)
        with self._held(arn):
            self._unwatch(arn, REPLACED, before=run)

    def evaluated(self, run: str, evaluation: Evaluation) -> None:
        """Handle the progress of Watcher's own evaluation of a run's rules."""
        arn = run_arn(run)
        with self._held(arn) as lease:
            record = self.store.job(run)
            if record is None:
                raise StoreError(f"{run} was evaluated but is not in the store: it was edited by hand")
            look = self._look(record.with_evaluations([evaluation]), record.snapshot, self.clock())
            if look.amend and not self._still_watched(record):
                return  # the next look at the run's evaluation ends it
            self._commit([replace(_as_scheduled(look, record), evaluations=(evaluation,))], lease)

    def report_stuck_rule(self, job: JobSnapshot, rule: Outcome, reason: str) -> bool:
        """Report that a rule's processing job is stuck, for this `reason`.

        The log is only a hint, so the job is read again first. Returns False, and reports nothing, if the
        rule is no longer in progress. Raises `AwsError`.
        """
        with self._held(job.arn) as lease:
            snapshot = self._describe(job.arn)
            if snapshot is None or snapshot.run != job.run:
                return False
            in_progress = {outcome.key for outcome in snapshot.outcomes if outcome.status == IN_PROGRESS}
            if not snapshot.in_progress or rule.key not in in_progress:
                return False
            self._report(job.run, stuck_rule(rule, reason), lease)
        return True

    def report_unstuck_rule(self, job: JobSnapshot, rule: Outcome, reason: str) -> None:
        """Report that a rule's processing job, which was stuck, goes on."""
        with self._held(job.arn) as lease:
            self._report(job.run, unstuck_rule(rule, reason), lease)

    def _report(self, run: str, report: Report, lease: _Lease) -> None:
        """Report what is known otherwise than from SageMaker's record of the run."""
        record = self.store.job(run)
        if record and self._still_watched(record):
            look = self._look(record, record.snapshot, self.clock(), also=(report,))
            self._commit([_as_scheduled(look, record)], lease)

    def _describe(self, arn: str) -> JobSnapshot | None:
        """None if the job does not exist, or if another one has its name now."""
        try:
            snapshot = TrainingJobs(self.accounts.of(arn)).describe(job_name(arn))
        except NotFound:
            return None
        self.accounts.learn(snapshot.arn)
        return snapshot if snapshot.arn == arn else None

    def _tagged(self, snapshot: JobSnapshot, record: JobRecord | None) -> JobSnapshot:
        """The snapshot with the job's tags, which Describe does not return: as they are now if the
        configuration selects jobs by them, or else as they were when `Search` found it."""
        watch = self.config.watch
        if not watch.tags:
            return replace(snapshot, tags=record.snapshot.tags if record else None)
        return replace(snapshot, tags=TrainingJobs(self.accounts.of(snapshot.arn)).tags(snapshot.arn))

    def _still_watched(self, record: JobRecord) -> bool:
        """Whether to report something about a run that was not just described. One that has ended is no
        longer watched, but its evaluation goes on to the last step."""
        job = record.snapshot
        if job.ended:
            return True
        if record.watching and not matches(self._tagged(job, record), self.config.watch):
            self._unwatch(job.arn, NOT_MATCHED)
            return False
        return record.watching

    def _unwatch(self, arn: str, reason: str, before: str = "") -> None:
        """Stop watching the runs of this job, or only those that were created before the run `before`."""
        now = self.clock()
        unwatched = self.store.unwatch(arn, lambda case: incidents.unwatched(case, reason, now), before)
        for run, case in unwatched.items():
            log.info("unwatched", job=job_name(arn), run=run, reason=reason)
            if case and (record := self.store.job(run)):
                self._tell([case], {run: record.snapshot})

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
        while not self.store.hold([arn], holder, self.lease):
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
        self, record: JobRecord | None, snapshot: JobSnapshot, now: datetime, also: Sequence[Report] = ()
    ) -> Look:
        """What follows from a snapshot and the run's record. Reads the store, and does no other I/O."""
        before = record.snapshot if record else None
        evaluations = record.evaluations if record else ()
        after = _with_outcomes(snapshot, [one for each in evaluations for one in each.outcomes])
        _log_unknown_statuses(before, after)
        stop = self.store.stop_of(after.run) if after.ended else None
        reports = [*detect(before, after, stopped_by_us=stop is not None), *also]
        # Once: the configuration of a job's rules never changes. `Search` does not know its profiler rules.
        new = _families(after) - (_families(before) if before else set())
        if new and self.config.rules.local != "off":
            reports += [defect for defect in defects(after) if defect.family in new]
        just_ended = after.ended and not (before and before.ended)
        return Look(
            snapshot=after,
            fingerprint=fingerprint(after),
            seen_at=now,
            watching=True,
            amend=self._amend(after, reports, now, stop.actor if stop else "", just_ended=just_ended)
            if reports or just_ended
            else None,
            evaluations=tuple(self._begun(record, snapshot, now)),
            news=tuple(news(before, after)),
        )

    def _amend(
        self,
        job: JobSnapshot,
        reports: Sequence[Report],
        now: datetime,
        stop_asked_by: str,
        *,
        just_ended: bool,
    ) -> Amend:
        return lambda case: incidents.seen(
            case, job, reports, self.config, now, stop_asked_by=stop_asked_by, just_ended=just_ended
        )

    def _begun(self, record: JobRecord | None, job: JobSnapshot, now: datetime) -> Iterator[Evaluation]:
        """The evaluations of a run's rules that begin with this look: of each family at the first look that
        shows rules to evaluate. They begin again when a run is watched again after a pause."""
        begun = {each.family for each in record.evaluations} if record else set()
        for reads in evaluated_rules.first_reads(job, self.config.rules):
            if reads.family not in begun:
                yield Evaluation(due_at=now, reads=reads)
        if record and not record.watching and not record.snapshot.ended:
            for evaluation in record.evaluations:
                if evaluation.due_at is None:
                    yield replace(evaluation, due_at=now)

    def _commit(self, looks: list[Look], lease: _Lease | None = None) -> None:
        if not looks:
            return
        cases = self.store.commit(looks, self._holder)
        if lease:
            lease.over = True
        for look in looks:
            self.instruments.outcomes(look.snapshot, look.news)
        if cases or any(look.evaluations for look in looks):
            self._tell(cases, {look.snapshot.run: look.snapshot for look in looks})

    def _tell(self, cases: Sequence[Case], jobs: Mapping[str, JobSnapshot]) -> None:
        """Count and log what has been stored, and pass it on."""
        for case in cases:
            opened = _opened(case)
            self.instruments.found(opened)
            for finding in opened:
                log.info(
                    "finding",
                    finding=finding.id,
                    kind=finding.kind,
                    job=finding.job,
                    rule=finding.rule,
                    step=finding.step,
                    reason=finding.reason,
                )
            incident = case.incident
            log.info(
                "incident",
                incident=incident.id,
                job=incident.job,
                state=incident.state,
                revision=incident.revision,
            )
        self.committed([(case, jobs[case.incident.run]) for case in cases])


def _opened(case: Case) -> list[Finding]:
    """The findings that these changes opened."""
    ids = dict.fromkeys(change.finding for change in case.changes if change.kind in _OPENINGS)
    return [finding for finding in map(case.finding, ids) if finding]


def _as_scheduled(look: Look, record: JobRecord) -> Look:
    """A look that does not come from SageMaker's API leaves the schedule of API calls as it is."""
    return replace(look, watching=record.watching, describe_at=record.describe_at)


def defects(job: JobSnapshot) -> list[Report]:
    """One report for each rule that cannot work, by the job's record."""
    by_rule: dict[tuple[str, RuleFamily], list[str]] = {}
    for defect in _lint(job):
        sentence = f"{defect.sentence}: {defect.fix}."
        by_rule.setdefault((defect.rule, defect.family), []).append(sentence)
    return [
        Report(FindingKind.RULE_DEFECT, rule, family, Judge.WATCHER, reason="\n".join(sentences))
        for (rule, family), sentences in by_rule.items()
    ]


def _families(job: JobSnapshot) -> set[RuleFamily]:
    """Of the rules that the job has."""
    return {rule.family for rule in job.rules}


def _lint(job: JobSnapshot) -> list[Defect]:
    """Lints the job. This calls rules, which may come from another distribution and raise anything."""
    try:
        return lint(job)
    except Exception:
        log.exception("lint_failed", job=job.name)
        return []


def _with_unsearchable(snapshot: JobSnapshot, record: JobRecord | None) -> JobSnapshot:
    """Adds what `Search` leaves out about the profiler, as it was when the job was last described."""
    if record is None:
        return snapshot
    profiler = RuleFamily.PROFILER
    known = (o for o in record.snapshot.outcomes if (o.family, o.judge) == (profiler, Judge.DEBUGGER))
    return replace(
        snapshot,
        outcomes=(*snapshot.outcomes, *known),
        rules=snapshot.rules + tuple(r for r in record.snapshot.rules if r.family is profiler),
        profiler_path=snapshot.profiler_path or record.snapshot.profiler_path,
    )


def _with_outcomes(snapshot: JobSnapshot, own: Iterable[Outcome]) -> JobSnapshot:
    """The snapshot with the outcomes of SageMaker and of Watcher's own evaluations."""
    theirs = tuple(outcome for outcome in snapshot.outcomes if outcome.judge is Judge.DEBUGGER)
    return replace(snapshot, outcomes=(*theirs, *own))


def fingerprint(job: JobSnapshot) -> str:
    """Changes with anything that both `Search` and Describe return about a job."""
    debugger = RuleFamily.DEBUGGER
    shared = replace(
        job,
        tags=None,
        modified_at=job.created_at,  # changes although nothing else does
        final_metrics=(),  # change with every line of the training log
        outcomes=tuple(o for o in job.outcomes if (o.family, o.judge) == (debugger, Judge.DEBUGGER)),
        rules=tuple(rule for rule in job.rules if rule.family is debugger),
        profiler_path="",
    )
    return hashlib.blake2b(SNAPSHOT.dump_json(shared), digest_size=16).hexdigest()


def schedule(job: JobSnapshot, now: datetime, follow: float, spread: float) -> tuple[bool, datetime | None]:
    """Whether to keep watching a job that was just described, and when Describe is due next. Pure.

    While it runs with profiler rules: every ten minutes (`spread`, from 0 to 1, spreads jobs over time).
    Once it is not in progress: in each pass, until all its rules are final or `follow` seconds after its end.
    """
    if job.in_progress:
        families = {rule.family for rule in job.rules}
        families |= {outcome.family for outcome in job.outcomes if outcome.judge is Judge.DEBUGGER}
        profiled = RuleFamily.PROFILER in families
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
