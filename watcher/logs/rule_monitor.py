"""Follows the logs of the rules in progress, to notice at once that a rule fires or is stuck.

A rule logs that it fires some seconds before its status changes: then its job is looked at again at once. A
rule whose log shows that it is stuck (see `why_stuck`) becomes a finding, which is over when the rule writes
again.

The logs are not stored. A new process reads those of the rules that are still in progress from their
beginning, and which rules were reported as stuck from the store.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.aws.session import Aws
from watcher.errors import LeaseLost
from watcher.jobs.failures import Failures
from watcher.jobs.pipeline import Pipeline
from watcher.jobs.work import Pace, Urgency, Work
from watcher.logs.rule_tails import RuleTails
from watcher.logs.streams import LogStreams
from watcher.logs.stuck_rules import why_stuck, why_unstuck
from watcher.model import IN_PROGRESS, TRAINING, FindingKind, JobSnapshot, Judge, Outcome, RuleFamily
from watcher.store.base import Store, WatchedJob

log = structlog.get_logger(__name__)

CONSEQUENCE = "the logs of its rules are not read until it answers"

RuleKey = tuple[RuleFamily, str]
Version = tuple[str, datetime | None]


@dataclass(slots=True)
class _Job:
    snapshot: JobSnapshot
    version: Version
    """The version of the store's record that `snapshot` is from."""
    training_since: datetime | None
    rules: dict[RuleKey, Outcome]
    """The rules in progress, of Debugger and its profiler."""
    fired: set[RuleKey] = field(default_factory=set)
    """The rules that logged that they fire. The job was looked at again for each of them."""
    stuck: dict[RuleKey, datetime] = field(default_factory=dict)
    """The rules that are stuck, and when they were reported."""


class RuleMonitor:
    """Keeps the jobs in progress, and drops those that have ended. Not safe to use from several threads."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        logs_of: Callable[[Aws], LogStreams],
        store: Store,
        pipeline: Pipeline,
        work: Work,
        stuck_after: float,
        refused: RefusedCalls,
        reads: Pace,
        looks: Pace,
        clock: Callable[[], datetime],
        stopping: Callable[[], bool],
        failures: Failures | None = None,
    ) -> None:
        """`reads` is the pace of requests that read logs, and `looks` of those that search for streams."""
        self._accounts, self._logs_of, self._store, self._pipeline = accounts, logs_of, store, pipeline
        self._work, self._stuck_after, self._refused = work, stuck_after, refused
        self._reads, self._looks, self._clock, self._stopping = reads, looks, clock, stopping
        self._failures = failures or Failures()
        self._jobs: dict[str, _Job] = {}
        """By run."""
        self._tails: dict[Aws, RuleTails] = {}
        """By account and region."""

    def cycle(self) -> None:
        """Read the new lines of all logs, and act on them.

        A call that AWS refuses is logged, and does not hold up the logs of other accounts. The next cycle
        tries it again. Raises `StoreError`.
        """
        self._follow_jobs()
        for aws, tails in self._tails.items():
            failing = self._failures.caught("logs_failed", CONSEQUENCE, at=aws.name)
            with failing, self._refused.reported(CONSEQUENCE, aws):
                tails.update()
                self._refused.resolved("logs:DescribeLogStreams", aws)
                self._refused.resolved("logs:FilterLogEvents", aws)
        for job in self._jobs.values():
            aws = self._accounts.of(job.snapshot.arn)
            # A job that is handled elsewhere for long is left to the next cycle, and holds up no other.
            failing = self._failures.caught("logs_failed", CONSEQUENCE, run=job.snapshot.run)
            with failing, self._refused.reported(CONSEQUENCE, aws), suppress(LeaseLost):
                self._act_on(job)

    def _follow_jobs(self) -> None:
        """Follow new jobs, and drop those that have ended. Reads only changed jobs from the store."""
        watching = {job.run: job for job in self._store.watching() if job.status == IN_PROGRESS}
        for run in self._jobs.keys() - watching.keys():
            ended = self._jobs.pop(run)
            self._follow_rules(ended.snapshot, ended.rules, {})
        for run, watched in watching.items():
            before = self._jobs.get(run)
            version = _version(watched)
            if (before is None or before.version != version) and (record := self._store.job(run)):
                self._jobs[run] = job = self._updated(before, record.snapshot, version)
                self._follow_rules(job.snapshot, before.rules if before else {}, job.rules)

    def _updated(self, before: _Job | None, snapshot: JobSnapshot, version: Version) -> _Job:
        rules: dict[RuleKey, Outcome] = {
            (outcome.family, outcome.rule): outcome
            for outcome in snapshot.outcomes
            if outcome.status == IN_PROGRESS and outcome.judge is Judge.DEBUGGER
        }
        since = _training_since(snapshot)
        if before is None:
            return _Job(snapshot, version, since, rules, stuck=self._stuck(snapshot) if rules else {})
        return replace(before, snapshot=snapshot, version=version, training_since=since, rules=rules)

    def _stuck(self, job: JobSnapshot) -> dict[RuleKey, datetime]:
        """The rules of which an earlier process reported that they are stuck."""
        return {
            (finding.family, finding.rule): finding.opened_at
            for finding in self._store.findings(job.run)
            if finding.kind is FindingKind.RULE_STUCK and finding.open and finding.family and finding.rule
        }

    def _follow_rules(
        self, job: JobSnapshot, before: dict[RuleKey, Outcome], now: dict[RuleKey, Outcome]
    ) -> None:
        tails = self._tails_for(job.arn)
        for rule in now.values():
            if rule.evaluation_job_arn:
                tails.follow(job.name, rule.rule, rule.evaluation_job_arn)
        for key in before.keys() - now.keys():
            tails.forget(before[key].evaluation_job_arn)

    def _tails_for(self, arn: str) -> RuleTails:
        aws = self._accounts.of(arn)
        if aws not in self._tails:
            self._tails[aws] = RuleTails(
                aws,
                self._logs_of(aws),
                reads=self._reads,
                looks=self._looks,
                clock=self._clock,
                stopping=self._stopping,
                failures=self._failures,
            )
        return self._tails[aws]

    def _act_on(self, job: _Job) -> None:
        tails = self._tails_for(job.snapshot.arn)
        for key, rule in job.rules.items():
            activity = replace(tails.activity(rule.evaluation_job_arn), training_since=job.training_since)
            if activity.log.fired and key not in job.fired:
                log.info("rule_log_says_fired", job=job.snapshot.name, rule=rule.rule, step=activity.log.step)
                self._work.put(job.snapshot.arn, Urgency.ENDED)
                job.fired.add(key)
            if self._stopping():
                return
            now = self._clock()
            reason = why_stuck(activity, rule, job.snapshot, now, self._stuck_after)
            reported_at = job.stuck.get(key)
            if reason and reported_at is None:
                self._reads.keep()
                if not self._pipeline.report_stuck_rule(job.snapshot, rule, reason):
                    # The rule has ended, and the store does not know it yet.
                    self._work.put(job.snapshot.arn, Urgency.ENDED)
                job.stuck[key] = now
            elif reported_at and not reason and (writes := why_unstuck(activity, reported_at, now)):
                self._pipeline.report_unstuck_rule(job.snapshot, rule, writes)
                del job.stuck[key]


def _training_since(job: JobSnapshot) -> datetime | None:
    """When the current training began; None if the job is not training. An interruption, such as the loss of
    a spot instance, starts it again."""
    training = job.training_phases
    return training[-1].began if job.secondary_status == TRAINING and training else None


def _version(job: WatchedJob) -> Version:
    """Changes with everything that a look finds. A look through Describe, which alone returns profiler rules,
    sets the time of the next one."""
    return job.fingerprint, job.describe_at
