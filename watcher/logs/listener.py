"""Follows the logs of the rules in progress, and acts on what they say.

A rule logs that it fires some seconds before its status changes, so its job is looked at again at once.
A rule whose log shows that it is stuck (see `why_stuck`) becomes a finding.

None of this is stored: a new process reads the logs of the rules that are still in progress from their
beginning. A finding has a stable id, so it is not reported twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from watcher.arn import job_name
from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.aws.session import Aws
from watcher.jobs.pipeline import Pipeline
from watcher.jobs.work import Pace, Urgency, Work
from watcher.logs.rule_logs import RuleLogs
from watcher.logs.streams import JobLogs
from watcher.logs.stuck_rules import why_stuck
from watcher.model import IN_PROGRESS, JobSnapshot, Outcome, RuleSource
from watcher.store.base import Store, WatchedJob

log = structlog.get_logger(__name__)

CONSEQUENCE = "the logs of its rules are not read until it answers"

RuleKey = tuple[RuleSource, str]
Version = tuple[str, datetime | None]


@dataclass(slots=True)
class _Job:
    snapshot: JobSnapshot
    version: Version
    """The version of its record in the store."""
    training_since: datetime | None
    rules: dict[RuleKey, Outcome]
    """Those in progress, of Debugger and its profiler."""
    fired: set[RuleKey] = field(default_factory=set)
    """Rules that logged that they fire, after which the job was looked at again."""
    reported: set[RuleKey] = field(default_factory=set)
    """Those that are stuck, and for which there is a finding."""


class Listener:
    """Keeps the jobs in progress, and drops those that have ended. Not thread-safe."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        logs_of: Callable[[Aws], JobLogs],
        store: Store,
        pipeline: Pipeline,
        work: Work,
        stuck_after: float,
        refused: RefusedCalls,
        reads: Pace,
        looks: Pace,
        clock: Callable[[], datetime],
        stopping: Callable[[], bool],
    ) -> None:
        """`reads` keeps apart what reads logs, and `looks` what looks for their streams."""
        self._accounts, self._logs_of, self._store, self._pipeline = accounts, logs_of, store, pipeline
        self._work, self._stuck_after, self._refused = work, stuck_after, refused
        self._reads, self._looks, self._clock, self._stopping = reads, looks, clock, stopping
        self._jobs: dict[str, _Job] = {}
        self._logs: dict[Aws, RuleLogs] = {}

    def cycle(self) -> None:
        """Read the new lines of all logs, and act on them.

        A call that AWS refuses is logged, and does not hold up the logs of other accounts. The next cycle
        does what was left undone. Raises `StoreError`.
        """
        self._follow_jobs()
        for aws, logs in self._logs.items():
            with self._refused.reported(CONSEQUENCE, aws):
                logs.update()
                self._refused.resolved("logs:DescribeLogStreams", aws)
                self._refused.resolved("logs:FilterLogEvents", aws)
        for job in self._jobs.values():
            with self._refused.reported(CONSEQUENCE, self._accounts.of(job.snapshot.arn)):
                self._act_on(job)

    def _follow_jobs(self) -> None:
        """Follow new jobs, and drop those that have ended. Reads only changed jobs from the store."""
        watching = {job.arn: job for job in self._store.watching() if job.status == IN_PROGRESS}
        for arn in self._jobs.keys() - watching.keys():
            self._follow_rules(arn, self._jobs.pop(arn).rules, {})
        for arn, watched in watching.items():
            known = self._jobs.get(arn)
            version = _version(watched)
            if (known is None or known.version != version) and (record := self._store.job(arn)):
                self._jobs[arn] = job = self._read_anew(record.snapshot, version, known)
                self._follow_rules(arn, known.rules if known else {}, job.rules)

    def _read_anew(self, snapshot: JobSnapshot, version: Version, known: _Job | None) -> _Job:
        rules: dict[RuleKey, Outcome] = {
            (outcome.source, outcome.rule): outcome
            for outcome in snapshot.outcomes
            if outcome.status == IN_PROGRESS and outcome.source is not RuleSource.LOCAL
        }
        if known is None:
            return _Job(snapshot, version, _training_since(snapshot, self._clock(), None), rules)
        since = _training_since(snapshot, self._clock(), known)
        return replace(known, snapshot=snapshot, version=version, training_since=since, rules=rules)

    def _follow_rules(self, arn: str, before: dict[RuleKey, Outcome], now: dict[RuleKey, Outcome]) -> None:
        logs = self._rule_logs(arn)
        for rule in now.values():
            if rule.evaluation_job_arn:
                logs.follow(job_name(arn), rule.rule, rule.evaluation_job_arn)
        for key in before.keys() - now.keys():
            logs.forget(before[key].evaluation_job_arn)

    def _rule_logs(self, arn: str) -> RuleLogs:
        aws = self._accounts.of(arn)
        if aws not in self._logs:
            self._logs[aws] = RuleLogs(
                aws,
                self._logs_of(aws),
                reads=self._reads,
                looks=self._looks,
                clock=self._clock,
                stopping=self._stopping,
            )
        return self._logs[aws]

    def _act_on(self, job: _Job) -> None:
        logs = self._rule_logs(job.snapshot.arn)
        for key, rule in job.rules.items():
            activity = replace(logs.activity(rule.evaluation_job_arn), training_since=job.training_since)
            if activity.log.fired and key not in job.fired:
                log.info("rule_says_it_fires", job=job.snapshot.name, rule=rule.rule, step=activity.log.step)
                self._work.put(job.snapshot.arn, Urgency.ENDED)
                job.fired.add(key)
            if key in job.reported or self._stopping():
                continue
            if reason := why_stuck(activity, rule, job.snapshot, self._clock(), self._stuck_after):
                self._reads.keep()
                if not self._pipeline.report_stuck_rule(job.snapshot, rule, reason):
                    self._work.put(job.snapshot.arn, Urgency.ENDED)
                job.reported.add(key)


def _training_since(job: JobSnapshot, now: datetime, known: _Job | None) -> datetime | None:
    """An interruption, such as the loss of a spot instance, restarts it. An interruption before the start of
    this process is unknown."""
    if job.secondary_status != "Training":
        return None
    return (known.training_since or now) if known else (job.started_at or now)


def _version(job: WatchedJob) -> Version:
    """Changes with everything that a look finds, also with what only Describe returns: that sets the time of
    the next Describe."""
    return job.fingerprint, job.describe_at
