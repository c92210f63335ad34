"""The metrics of a job's instances in CloudWatch, as profiler rules read them.

Does no I/O, because many jobs are read in one request. The caller makes the `queries`, and passes the answers
to `take` before `read`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import numpy as np

from rules.profiler import Batch, Series, SeriesKey, of_instance
from watcher.aws import metrics
from watcher.aws.instance_types import cores, gpus
from watcher.aws.metrics import MetricSeries, Query
from watcher.evaluation.metric_window import Incomplete, MetricWindow
from watcher.model import JobSnapshot

METRICS = ("CPUUtilization", "GPUUtilization", "GPUMemoryUtilization", "MemoryUtilization", "DiskUtilization")
MAX_INSTANCES = 100
"""Further instances of a job are not read: each series is charged each time that it is read."""

Wanted = Callable[[SeriesKey], bool]
"""Whether a rule reads a series."""


class InstanceMetrics:
    def __init__(self, job: JobSnapshot, cursor: str, now: datetime, max_periods: int | None = None) -> None:
        """Reads at most `max_periods` values of each metric; the next one continues after these."""
        self._job, self._instances = job.name, dict(_instances(job))
        self._window = MetricWindow(job, cursor, now, max_periods)
        self.ended, self.behind = self._window.ended, self._window.behind
        self.place = f"cloudwatch:{metrics.NAMESPACE}/{job.name}/algo-*"
        self._asked: list[Query] = []
        self._answers: Mapping[Query, MetricSeries] = {}

    @property
    def cursor(self) -> str:
        return self._window.cursor

    def queries(self, wanted: Wanted, most: int | None = None) -> list[Query]:
        """What to ask CloudWatch for the wanted series, or the first `most` of them; empty if there is
        nothing new."""
        window = self._window
        if not window.empty:
            self._asked = [
                Query(self._job, metric, window.period, window.since, window.until, node)
                for node in self._instances
                for metric in METRICS
                if (empty := self._series(node, metric, MetricSeries())) and wanted(empty[0])
            ][:most]
        return self._asked

    def take(self, answers: Mapping[Query, MetricSeries]) -> None:
        """Take the answers to its queries out of all `answers`. Raises `Incomplete`."""
        self._answers = {query: answers[query] for query in self._asked}
        for query, series in self._answers.items():
            if series.problem:
                raise Incomplete(
                    f"CloudWatch returned only a part of {query.metric} of {query.node} of {self._job} "
                    f"({series.problem}); the next attempt may succeed"
                )

    def read(self) -> Iterator[Batch]:
        """What is new."""
        found = (self._series(query.node, query.metric, one) for query, one in self._answers.items())
        series = {key: one for key, one in filter(None, found) if len(one.times)}
        yield Batch(self._window.until.timestamp(), series)

    def _series(self, node: str, metric: str, one: MetricSeries) -> tuple[SeriesKey, Series] | None:
        instance_type = self._instances[node]
        times = np.array([average.at.timestamp() for average in one.averages], float)
        values = np.array([average.value for average in one.averages], float)
        counts = {"cores": cores(instance_type) or 0, "gpus": gpus(instance_type) or 0}
        return of_instance(node, metric, times, values, **counts)


def _instances(job: JobSnapshot) -> Iterator[tuple[str, str]]:
    """The name and type of each, in SageMaker's order."""
    types = [type_ for type_, count in job.instances for _ in range(min(count, MAX_INSTANCES))]
    for number, type_ in enumerate(types[:MAX_INSTANCES], start=1):
        yield f"algo-{number}", type_
