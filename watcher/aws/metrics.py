"""Reads the metrics of training jobs and of their instances from CloudWatch, many with one request.

SageMaker matches the lines of a job's log with the regexes of its `MetricDefinitions`. Once a minute, it puts
the numbers into the namespace below, with the dimension `TrainingJobName`. In the same namespace are the
metrics of each instance, with the dimension `Host`.

CloudWatch charges each series of each request (0.01 US dollars for 1,000), however long it is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from watcher.aws.session import Aws, translate

if TYPE_CHECKING:
    from types_boto3_cloudwatch.type_defs import (
        DimensionTypeDef,
        MetricDataQueryTypeDef,
        MetricDataResultTypeDef,
        MetricStatTypeDef,
        MetricTypeDef,
    )

NAMESPACE = "/aws/sagemaker/TrainingJobs"
DIMENSION = "TrainingJobName"
INSTANCE_DIMENSION = "Host"
"""Of the metrics of an instance; its value is `<job>/algo-<n>`."""
OPERATION = "cloudwatch:GetMetricData"
MAX_SERIES_PER_REQUEST = 500
"""The limit of `GetMetricData`."""
VALUES_PER_PAGE = 100_800
"""The limit of one answer; more values are on further pages."""

_RETENTION_BY_PERIOD_S = ((timedelta(days=15), 60), (timedelta(days=63), 300))
"""How long CloudWatch keeps the values of each period (in seconds). After that, it has only hourly ones."""
_PERIOD_CHANGE_MARGIN = timedelta(hours=1)
"""Changes to a coarser period this long before the finer values are deleted."""


def period(age: timedelta) -> int:
    """The finest period, in seconds, for which CloudWatch still has values of this age."""
    return next(
        (seconds for kept, seconds in _RETENTION_BY_PERIOD_S if age < kept - _PERIOD_CHANGE_MARGIN), 3600
    )


class Statistic(StrEnum):
    """CloudWatch's, of the values within a period."""

    AVERAGE = "Average"
    MINIMUM = "Minimum"
    MAXIMUM = "Maximum"


class Query(NamedTuple):
    """One metric of one job, in [since, until). Both times are multiples of the period."""

    job: str
    metric: str
    period: int
    since: datetime
    until: datetime
    node: str = ""
    """`algo-N`, for a metric of one of the job's instances; empty for a training metric."""
    statistic: Statistic = Statistic.AVERAGE


class Average(NamedTuple):
    at: datetime
    """The start of its period."""
    value: float


@dataclass(slots=True)
class MetricSeries:
    """The average (or other statistic) of each period that has values, in the order of time."""

    averages: list[Average] = field(default_factory=list)
    problem: str = ""
    """Why values are missing, in CloudWatch's words; empty if none are."""


class Metrics:
    """The metrics of one account and region. Keeps nothing between calls."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def read(self, queries: Iterable[Query]) -> dict[Query, MetricSeries]:
        """A series for each query whose time range is not empty. The queries may be about many jobs: a
        request reads up to 500 series, and each further page is one more. Raises an `AwsError` that names the
        API.
        """
        return self._read_all(_together(queries))

    def read_whole(self, queries: Iterable[Query]) -> dict[Query, MetricSeries]:
        """The same for queries that span all that a job has written. However far the jobs are apart, 500
        series make one request: outside of its own time range, no series has a value. Raises as `read`."""
        return self._read_all(_by_period(queries))

    def _read_all(self, groups: Iterable[Sequence[Query]]) -> dict[Query, MetricSeries]:
        answers: dict[Query, MetricSeries] = {}
        for together in groups:
            answers |= self._read(together)
        return answers

    def _read(self, queries: Sequence[Query]) -> dict[Query, MetricSeries]:
        by_id = {f"q{number}": query for number, query in enumerate(queries)}
        found: defaultdict[str, MetricSeries] = defaultdict(MetricSeries)
        for result in self._results(by_id):
            series = found[result["Id"]]
            for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                query = by_id[result["Id"]]
                # A request has one time range for all of its series, wider than that of some.
                if query.since <= at < query.until and math.isfinite(value):
                    series.averages.append(Average(at.astimezone(UTC), value))
            # Only the last page counts: before it, a series is always incomplete.
            series.problem = _problem(result)
        return {query: found[name] for name, query in by_id.items()}

    def _results(self, by_id: Mapping[str, Query]) -> Iterator[MetricDataResultTypeDef]:
        queries = [_as_request(name, query) for name, query in by_id.items()]
        since = min(query.since for query in by_id.values())
        until = max(query.until for query in by_id.values())
        following: dict[str, str] = {}
        while True:
            with translate(OPERATION):
                answer = self._aws.cloudwatch.get_metric_data(
                    MetricDataQueries=queries,
                    StartTime=since,
                    EndTime=until,
                    ScanBy="TimestampAscending",
                    **following,  # type: ignore[arg-type]
                )
                results = answer["MetricDataResults"]
            yield from results
            if not answer.get("NextToken"):
                return
            following = {"NextToken": answer["NextToken"]}


def _together(queries: Iterable[Query]) -> Iterator[list[Query]]:
    """Groups of queries, one for each request. All queries of a group have the same period, because the start
    of a request decides which periods it may ask for. A query that reaches far back is not grouped with
    hundreds that do not: a request reads the time range of all its series, and their old values would be read
    for nothing."""
    asked = sorted((one for one in queries if one.since < one.until), key=lambda one: (one.period, one.since))
    for _, of_period in groupby(asked, key=lambda one: one.period):
        first, *others = of_period
        together, until = [first], first.until
        for query in others:
            until = max(until, query.until)
            values = (len(together) + 1) * (until - together[0].since).total_seconds() / query.period
            if len(together) == MAX_SERIES_PER_REQUEST or values > VALUES_PER_PAGE:
                yield together
                together, until = [], query.until
            together.append(query)
        yield together


def _by_period(queries: Iterable[Query]) -> Iterator[Sequence[Query]]:
    """Groups of up to 500 queries with the same period."""
    asked = sorted((one for one in queries if one.since < one.until), key=lambda one: one.period)
    for _, of_period in groupby(asked, key=lambda one: one.period):
        same = list(of_period)
        for first in range(0, len(same), MAX_SERIES_PER_REQUEST):
            yield same[first : first + MAX_SERIES_PER_REQUEST]


def _as_request(name: str, query: Query) -> MetricDataQueryTypeDef:
    dimension: DimensionTypeDef = {"Name": DIMENSION, "Value": query.job}
    if query.node:
        dimension = {"Name": INSTANCE_DIMENSION, "Value": f"{query.job}/{query.node}"}
    metric: MetricTypeDef = {
        "Namespace": NAMESPACE,
        "MetricName": query.metric,
        "Dimensions": [dimension],
    }
    statistic: MetricStatTypeDef = {"Metric": metric, "Period": query.period, "Stat": query.statistic}
    return {"Id": name, "MetricStat": statistic}


def _problem(result: MetricDataResultTypeDef) -> str:
    if result.get("StatusCode", "Complete") == "Complete":
        return ""
    said = "; ".join(message.get("Value", "") for message in result.get("Messages", ()))
    return f"{result['StatusCode']}: {said}" if said else result["StatusCode"]
