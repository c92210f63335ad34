"""Watcher's own evaluation of a job's profiler rules, on the profiler's output or on the metrics of the job's
instances.

This module imports numpy: the daemon imports it with the first job that has a profiler rule to evaluate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

import rules
from rules import profiler
from rules.profiler import Need, ProfilerRule, Source
from watcher.aws.instance_types import gpus
from watcher.aws.metrics import MetricSeries, Query
from watcher.config.settings import Rules as RuleSettings
from watcher.evaluation import profile_look
from watcher.evaluation.instance_metrics import InstanceMetrics
from watcher.evaluation.look import has_saved_nothing, over, unfinished
from watcher.evaluation.metric_window import Waiting
from watcher.evaluation.profile_look import Profile
from watcher.evaluation.profile_run import ProfileRun
from watcher.evaluation.saved_profile import SavedProfile
from watcher.logs import rule_log
from watcher.model import NOT_EVALUATED, Evaluation, JobSnapshot, Judge, Outcome, Reads, RuleFamily
from watcher.policy import evaluated_rules
from watcher.profiler_output.reader import ProfilerOutput

log = structlog.get_logger(__name__)

METRIC_VALUES_PER_LOOK = 240
"""How many values of each metric one look at a job reads."""

WriteLog = Callable[[JobSnapshot, str, Sequence[rule_log.Record], datetime], None]


class ProfileEvaluator:
    """Safe to use from several threads, for different jobs."""

    def __init__(self, settings: RuleSettings, write_log: WriteLog | None) -> None:
        self._settings, self._write_log = settings, write_log

    def begin(self, job: JobSnapshot, stored: Evaluation, now: datetime) -> Evaluation | Waiting:
        """Begin a look that reads instance metrics, unless there is nothing left to judge."""
        before = replace(stored, outcomes=(*stored.outcomes, *self._unsuitable(job, stored, now)))
        live = self._live(job, before, Source.INSTANCE_METRICS)
        if not live:
            return over(before)
        metrics = InstanceMetrics(job, before.cursor, now, METRIC_VALUES_PER_LOOK)
        run = ProfileRun(live, before.states)

        def look(answers: Mapping[Query, MetricSeries]) -> Evaluation:
            metrics.take(answers)
            after = self._advanced(job, before, run, metrics, now)
            return replace(after, due_at=now) if after.due_at and metrics.behind else after

        return Waiting(metrics.queries(run.wants), look)

    def advance(
        self, job: JobSnapshot, before: Evaluation, now: datetime, output: Callable[[], ProfilerOutput]
    ) -> Evaluation:
        """Continue an evaluation that reads the profiler's output. Raises `WatcherError`."""
        live = self._live(job, before, Source.PROFILER)
        if not live:
            return over(before)
        if not job.profiler_output:  # it was switched off while the job trains
            return _on_instances(before, now)
        profile = SavedProfile(output(), before.cursor, ended=job.ended)
        run = ProfileRun(live, before.states)
        after = self._advanced(job, before, run, profile, now)
        if profile.empty and evaluated_rules.reads_instance_metrics(job) and has_saved_nothing(job, now):
            return _on_instances(before, now)
        return replace(after, due_at=now) if after.due_at and profile.behind else after

    def _advanced(
        self, job: JobSnapshot, before: Evaluation, run: ProfileRun, profile: Profile, now: datetime
    ) -> Evaluation:
        after = profile_look.look(before, run, profile, now)
        if self._write_log:
            for name, records in profile_look.log_records(before, run, profile):
                self._write_log(job, name, records, now)
        return after

    def _unsuitable(self, job: JobSnapshot, before: Evaluation, now: datetime) -> Iterator[Outcome]:
        """The outcomes of rules that cannot judge the metrics of the job's instances."""
        reported = {outcome.rule for outcome in before.outcomes}
        for name, rule in _load(job, self._settings, Source.INSTANCE_METRICS):
            if name in reported:
                continue
            if not rule.judges_instance_metrics:
                why = "judges the profiler's output, and not CloudWatch's metrics"
            elif Need.GPU in rule.needs and (without := _types_without_gpus(job)):
                why = f"judges GPUs, and {without} has no GPU"
            else:
                continue
            yield Outcome(
                name,
                RuleFamily.PROFILER,
                Judge.WATCHER,
                NOT_EVALUATED,
                f"{rule.name} {why}",
                updated_at=now,
            )

    def _live(self, job: JobSnapshot, before: Evaluation, source: Source) -> dict[str, ProfilerRule]:
        """The rules whose evaluation goes on, by the names of their configurations."""
        return {name: rule for name, rule in _load(job, self._settings, source) if unfinished(name, before)}


def _on_instances(before: Evaluation, now: datetime) -> Evaluation:
    """The same rules, on the metrics of the job's instances."""
    fired = tuple(outcome for outcome in before.outcomes if outcome.final)
    return Evaluation(due_at=now, reads=Reads.INSTANCE_METRICS, outcomes=fired)


def _types_without_gpus(job: JobSnapshot) -> str:
    """The job's instance types, if none of them has a GPU; otherwise empty."""
    types = [type_ for type_, _ in job.instances]
    return " and ".join(types) if all(gpus(type_) == 0 for type_ in types) else ""


def _load(job: JobSnapshot, settings: RuleSettings, source: Source) -> Iterator[tuple[str, ProfilerRule]]:
    for configuration in evaluated_rules.of_family(RuleFamily.PROFILER, job, settings):
        try:
            yield configuration.name, profiler.load(configuration.invokes, configuration.parameters, source)
        except rules.RuleError as error:
            # A rule of a later version, or parameters that the lint has reported already.
            log.debug("rule_not_evaluated", rule=configuration.name, error=str(error))
