"""The curve of an alert about a profiler rule: how the job used its instances before the rule fired."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from rules.profiler import ProfilerRule
from watcher.aws.metrics import Metrics
from watcher.evaluation import metric_window
from watcher.evaluation.instance_metrics import InstanceMetrics
from watcher.evaluation.metric_steps import minute_of, step_at
from watcher.evaluation.metric_window import METRICS_SETTLE_TIME
from watcher.model import Finding, JobSnapshot, Reading

MAX_MINUTES = 40
MAX_SERIES = 6

CURVE_FROM = (
    "From CloudWatch: a step is a minute of training, its value the mean of an "
    "instance's cores or GPUs, in percent"
)


def curve(
    finding: Finding, job: JobSnapshot, rule: ProfilerRule, metrics: Metrics, clock: Callable[[], datetime]
) -> tuple[Reading, ...]:
    """Of what the rule reads; empty if CloudWatch has no such metric. Raises `WatcherError`."""
    if job.started_at is None or not rule.judges_instance_metrics:
        return ()
    until = min(clock(), finding.opened_at + METRICS_SETTLE_TIME)
    since = max(minute_of(job.started_at), minute_of(until) - timedelta(minutes=MAX_MINUTES))
    instances = InstanceMetrics(job, metric_window.cursor(minute_of(job.started_at), since), until)
    instances.take(metrics.read(instances.queries(rule.wants, MAX_SERIES)))
    began = job.started_at
    return tuple(
        Reading(
            f"{key.dimension or key.name} of {key.node}",
            step_at(datetime.fromtimestamp(at, began.tzinfo), began),
            float(value),
        )
        for batch in instances.read()
        for key, series in sorted(batch.series.items())
        for at, value in zip(series.times.tolist(), series.values.tolist(), strict=True)
    )
