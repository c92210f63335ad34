"""The metrics of training jobs in CloudWatch.

SageMaker matches the lines of a job's log with the regexes of its `MetricDefinitions`, and puts the numbers
that they find into the namespace below, under the dimension `TrainingJobName`. It does so once a minute.

Reading is paid by the series and request (0.01 US dollars for 1,000), however long the series are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from watcher.aws.session import Aws, translate

if TYPE_CHECKING:
    from types_boto3_cloudwatch.type_defs import (
        MetricDataQueryTypeDef,
        MetricDataResultTypeDef,
        MetricStatTypeDef,
        MetricTypeDef,
    )

NAMESPACE = "/aws/sagemaker/TrainingJobs"
DIMENSION = "TrainingJobName"
OPERATION = "cloudwatch:GetMetricData"
SERIES = 500
"""The most that one `GetMetricData` takes."""
PAGE = 100_800
"""The most values in one answer; the rest is on further pages."""

_KEPT = ((timedelta(days=15), 60), (timedelta(days=63), 300))
"""For how long CloudWatch keeps values of which period, in seconds; beyond that, only an hour's."""
_EARLY = timedelta(hours=1)
"""A coarser period is asked for a little before the finer one is gone."""


def period(age: timedelta) -> int:
    """The finest period, in seconds, of which CloudWatch still has values of this age."""
    return next((seconds for kept, seconds in _KEPT if age < kept - _EARLY), 3600)


class Query(NamedTuple):
    """One metric of one job, in [since, until). Both are at full periods."""

    job: str
    metric: str
    period: int
    since: datetime
    until: datetime


class Average(NamedTuple):
    at: datetime
    """When its period begins."""
    value: float


@dataclass(slots=True)
class MetricSeries:
    """The averages over each period in which there were values; ascending."""

    averages: list[Average] = field(default_factory=list)
    problem: str = ""
    """Why it is not all of them, in CloudWatch's words; empty where it is."""


class Metrics:
    """Those of one account and region. Keeps nothing between two calls."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def read(self, queries: Iterable[Query]) -> dict[Query, MetricSeries]:
        """A series for each of the queries whose time is not empty, also of many jobs: up to 500 with one
        request, and one more for each further page. Raises an `AwsError` that names the API.
        """
        answers: dict[Query, MetricSeries] = {}
        for together in _together(queries):
            answers |= self._read(together)
        return answers

    def _read(self, queries: Sequence[Query]) -> dict[Query, MetricSeries]:
        by_id = {f"q{number}": query for number, query in enumerate(queries)}
        found: defaultdict[str, MetricSeries] = defaultdict(MetricSeries)
        for result in self._results(by_id):
            series = found[result["Id"]]
            for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                query = by_id[result["Id"]]
                # The request's time is the same for all series of it, and wider than some of them.
                if query.since <= at < query.until and math.isfinite(value):
                    series.averages.append(Average(at.astimezone(UTC), value))
            # Until the last page, it is normal that a series is in parts.
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
    """Those of one request. A request has one start, which also decides which periods it may ask for; so
    those of a period are apart. It is answered for the whole time of all its series, so that one which
    reaches far back is not with hundreds that do not: their old values would be read, and thrown away."""
    asked = sorted((one for one in queries if one.since < one.until), key=lambda one: (one.period, one.since))
    for _, of_period in groupby(asked, key=lambda one: one.period):
        first, *others = of_period
        together, until = [first], first.until
        for query in others:
            until = max(until, query.until)
            values = (len(together) + 1) * (until - together[0].since).total_seconds() / query.period
            if len(together) == SERIES or values > PAGE:
                yield together
                together, until = [], query.until
            together.append(query)
        yield together


def _as_request(name: str, query: Query) -> MetricDataQueryTypeDef:
    metric: MetricTypeDef = {
        "Namespace": NAMESPACE,
        "MetricName": query.metric,
        "Dimensions": [{"Name": DIMENSION, "Value": query.job}],
    }
    average: MetricStatTypeDef = {"Metric": metric, "Period": query.period, "Stat": "Average"}
    return {"Id": name, "MetricStat": average}


def _problem(result: MetricDataResultTypeDef) -> str:
    if result.get("StatusCode", "Complete") == "Complete":
        return ""
    said = "; ".join(message.get("Value", "") for message in result.get("Messages", ()))
    return f"{result['StatusCode']}: {said}" if said else result["StatusCode"]
