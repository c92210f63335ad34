"""Watcher's own evaluation of a job's rules, on what the job has saved so far: tensors or, if it saves none,
metrics.

One `advance` reads what is new, shows it to the rules whose evaluation goes on (one that fired may recover),
and returns how far they are: small enough to be stored, and enough for another process to continue. Metrics
of many jobs are read together.

This module imports numpy: the daemon imports it with the first job that has a rule to evaluate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

import rules
from rules import Rule
from watcher.arn import Arn
from watcher.aws.accounts import Accounts
from watcher.aws.metrics import Metrics, MetricSeries, Query
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.config.settings import Rules as RuleSettings
from watcher.config.settings import Watch
from watcher.debug_output.collections import SavedCollections
from watcher.debug_output.event_files import Wanted
from watcher.debug_output.reader import DebugOutput, Reader, of_job
from watcher.debug_output.storage import S3Prefix
from watcher.errors import NotFound, StoreError, UsageError
from watcher.evaluation import failing
from watcher.evaluation.look import has_saved_nothing, log_records, look, of_fired_rules, over, unfinished
from watcher.evaluation.metric_window import Incomplete, Waiting
from watcher.evaluation.pace import next_minute
from watcher.evaluation.rule_run import RuleRun
from watcher.evaluation.steps import MetricSteps, Steps, TensorSteps
from watcher.jobs.failures import Failures, described
from watcher.logs import rule_log
from watcher.lru import LruCache
from watcher.model import (
    NOT_EVALUATED,
    Evaluation,
    JobSnapshot,
    Judge,
    Outcome,
    Reads,
    RuleFamily,
)
from watcher.policy import evaluated_rules
from watcher.policy.watched import matches
from watcher.store.base import JobRecord

if TYPE_CHECKING:
    from watcher.evaluation.profile_evaluator import ProfileEvaluator
    from watcher.profiler_output.reader import ProfilerOutput

log = structlog.get_logger(__name__)

METRIC_VALUES_PER_LOOK = 240
"""How many values of each metric one look at a job reads. This bounds the memory when Watcher starts and
hundreds of jobs have trained for days: such a job is looked at several times in a row."""
COLLECTIONS_CACHE_SIZE = 1000
"""Runs whose collections are kept in memory."""


WriteLog = Callable[[JobSnapshot, str, Sequence[rule_log.Record], datetime], None]
"""Takes the job, the name of the rule's configuration, the lines, and the time."""


class Evaluator:
    """Continues evaluations from what is stored of them, so after an error the next attempt repeats the look.

    Safe to use from several threads, for different jobs.
    """

    def __init__(
        self,
        accounts: Accounts,
        settings: RuleSettings,
        clock: Callable[[], datetime],
        write_log: WriteLog | None = None,
        since: Callable[[JobSnapshot], datetime | None] = lambda job: None,  # noqa: ARG005
        *,
        watch: Watch | None = None,
        failures: Failures | None = None,
    ) -> None:
        """`write_log` gets the lines that a rule's processing job would write to its log. `since`: see
        `EarlierRuns`. `watch`: which jobs may be compared with; None for all."""
        self._watch, self._failures = watch or Watch(), failures or Failures()
        self._since = since
        self._accounts, self._settings, self._clock, self._write_log = accounts, settings, clock, write_log
        self._collections = LruCache[SavedCollections](COLLECTIONS_CACHE_SIZE)

    @cached_property
    def _profiles(self) -> ProfileEvaluator:
        # Imported here because most daemons evaluate no profiler rule.
        from watcher.evaluation.profile_evaluator import ProfileEvaluator

        return ProfileEvaluator(self._settings, self._write_log)

    def advance(self, record: JobRecord, before: Evaluation) -> Evaluation:
        """Continue an evaluation that reads what one job saves, as it is in the store.

        Raises `WatcherError`.
        """
        job, now = record.snapshot, self._clock()
        if _vanished(record):
            return over(before)
        if before.reads is Reads.PROFILER_OUTPUT:
            return self._profiles.advance(job, before, now, lambda: self._profiler_output(job))
        live = self._live(job, before)
        if not live:
            return over(before)
        steps = TensorSteps(
            self._output(job),
            before.cursor,
            ended=job.ended,
            collections=lambda reader: self._collections_of(job, reader),
        )
        if evaluated_rules.reads_metrics(job) and has_saved_nothing(job, now) and steps.collections() is None:
            return Evaluation(
                due_at=now, reads=Reads.METRICS, states=of_fired_rules(before), outcomes=before.outcomes
            )
        return self._advanced(job, before, self._run(job, before, live, steps), steps, now)

    def advance_together(
        self, aws: Aws, evaluations: Iterable[tuple[JobRecord, Evaluation]]
    ) -> Iterator[tuple[JobRecord, Evaluation]]:
        """Continue evaluations of jobs of one account and region that read metrics.

        Raises `AwsError` if CloudWatch refuses the request.
        """
        now = self._clock()
        waiting: list[tuple[JobRecord, Evaluation, Waiting]] = []
        for record, before in evaluations:
            try:
                begun = over(before) if _vanished(record) else self._begin(record.snapshot, before, now)
            except StoreError:
                raise
            except Exception as error:
                begun = self.failed(record, before, error)
            if isinstance(begun, Evaluation):
                yield record, begun
            else:
                waiting.append((record, before, begun))
        answers = Metrics(aws).read(query for _, _, begun in waiting for query in begun.queries)
        for record, before, begun in waiting:
            try:
                after = replace(begun.look(answers), failures=0)
            except Incomplete as error:
                log.warning("metrics_incomplete", job=record.snapshot.name, error=str(error))
                after = replace(before, due_at=next_minute(now))
            except StoreError:
                raise
            except Exception as error:
                after = self.failed(record, before, error)
            yield record, after

    def later(self, before: Evaluation) -> Evaluation:
        """The evaluation after AWS has refused a call."""
        return failing.later(before, self._clock())

    def failed(self, record: JobRecord, before: Evaluation, error: Exception) -> Evaluation:
        """The evaluation after it could not be continued, for another reason than a refusal of AWS."""
        job = record.snapshot
        consequence = "it is tried again later; in the end, its rules are reported as not able to run"
        self._failures.report(error, "evaluation_failed", consequence, run=job.run)
        names = [rule.name for rule in evaluated_rules.of_family(before.family, job, self._settings)]
        # What a person has to change, such as a place that is not on S3, is no better at the next attempt.
        for_good = isinstance(error, UsageError)
        return failing.failed(before, names, described(error), self._clock(), for_good=for_good)

    def _begin(self, job: JobSnapshot, stored: Evaluation, now: datetime) -> Evaluation | Waiting:
        """Begin a look that reads metrics, unless there is nothing left to judge."""
        if stored.reads is Reads.INSTANCE_METRICS:
            return self._profiles.begin(job, stored, now)
        before = replace(stored, outcomes=(*stored.outcomes, *self._unsuitable(job, stored, now)))
        live = self._live(job, before)
        if not live:
            return over(before)
        steps = MetricSteps(job, before.cursor, now, METRIC_VALUES_PER_LOOK)
        run = self._run(job, before, live, steps)
        run.learn(steps.collections())

        def look(answers: Mapping[Query, MetricSeries]) -> Evaluation:
            steps.take(answers)
            after = self._advanced(job, before, run, steps, now)
            return replace(after, due_at=now) if after.due_at and steps.behind else after

        return Waiting(steps.queries(_wanted_metrics(run)), look)

    def _run(self, job: JobSnapshot, before: Evaluation, live: Mapping[str, Rule], steps: Steps) -> RuleRun:
        return RuleRun(live, steps, before.states, lambda name: self._other_trial(name, job))

    def _advanced(
        self, job: JobSnapshot, before: Evaluation, run: RuleRun, steps: Steps, now: datetime
    ) -> Evaluation:
        after = look(job, before, run, steps, now)
        if self._write_log:
            for name, records in log_records(before, run, steps):
                self._write_log(job, name, records, now)
        return after

    def _live(self, job: JobSnapshot, before: Evaluation) -> dict[str, Rule]:
        """The rules whose evaluation goes on, by the names of their configurations."""
        return {name: rule for name, rule in _load(job, self._settings) if unfinished(name, before)}

    def _unsuitable(self, job: JobSnapshot, before: Evaluation, now: datetime) -> Iterator[Outcome]:
        """The outcomes of rules that need tensors, on a job that saves none."""
        reported = {outcome.rule for outcome in before.outcomes}
        for configured in evaluated_rules.of_family(RuleFamily.DEBUGGER, job, self._settings):
            if configured.name in reported:
                continue
            rule = rules.find_or_none(configured.invokes)
            if rule is None or not rule.judges_metrics:
                details = (
                    f"{configured.invokes} needs tensors, and the job saves none: its metrics are single "
                    "numbers. Attach it to jobs that have a Debugger hook"
                )
                yield Outcome(
                    configured.name,
                    RuleFamily.DEBUGGER,
                    Judge.WATCHER,
                    NOT_EVALUATED,
                    details,
                    updated_at=now,
                )

    def _output(self, job: JobSnapshot) -> DebugOutput:
        return of_job(self._accounts.of(job.arn).s3, job, self._since(job))

    def _profiler_output(self, job: JobSnapshot) -> ProfilerOutput:
        from watcher.profiler_output.reader import ProfilerOutput

        place = S3Prefix(self._accounts.of(job.arn).s3, job.profiler_output, since=self._since(job))
        return ProfilerOutput(place)

    def _other_trial(self, name: str, job: JobSnapshot) -> DebugOutput | None:
        """The debug output of the job to compare with; None if that job is gone, saved nothing, or is not to
        be watched.

        The owner of a job names it, and Watcher reads it with its own permissions, which may be more than the
        owner's.
        """
        if not self._watch.names(name):
            _log_not_compared(name, job)
            return None
        jobs = TrainingJobs(self._accounts.of(job.arn))
        try:
            other = jobs.describe(name)
        except NotFound:
            return None
        if self._watch.tags:
            other = replace(other, tags=jobs.tags(other.arn))
        if Arn.parse(other.arn).account != Arn.parse(job.arn).account or not matches(other, self._watch):
            _log_not_compared(name, job)
            return None
        return self._output(other) if other.debug_output else None

    def _collections_of(self, job: JobSnapshot, reader: Reader) -> SavedCollections | None:
        """From the cache once they are complete, because they do not change: a look at a job that has saved
        nothing new is then a single request."""
        if cached := self._collections.get(job.run):
            return cached
        found = reader.collections()
        if found and found.complete:
            self._collections.put(job.run, found)
        return found


def _log_not_compared(other: str, job: JobSnapshot) -> None:
    log.debug("not_compared", job=job.name, other=other, reason="that job is not watched")


def _vanished(record: JobRecord) -> bool:
    """Whether the job is no longer watched although it has not ended: it was deleted, or no longer
    matches."""
    return not record.watching and not record.snapshot.ended


def _wanted_metrics(run: RuleRun) -> Wanted:
    """Which metrics to read: those that a rule wants, or all of them for a rule that counts every step,
    because any value makes a minute a step."""
    every = run.counts_every_step
    return lambda name: every or run.wants(name)


def _load(job: JobSnapshot, settings: RuleSettings) -> Iterator[tuple[str, Rule]]:
    for configuration in evaluated_rules.of_family(RuleFamily.DEBUGGER, job, settings):
        try:
            yield configuration.name, rules.load(configuration.invokes, configuration.parameters)
        except rules.RuleError as error:
            # A custom rule, or parameters that the lint has reported already.
            log.debug("rule_not_evaluated", rule=configuration.name, error=str(error))
        except Exception:
            log.exception("rule_failed", rule=configuration.name)
