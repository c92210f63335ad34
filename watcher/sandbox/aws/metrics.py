"""Training metrics: finds them in a job's log, stores them as SageMaker does, and answers `GetMetricData`.

SageMaker finds numbers in the log by the job's MetricDefinitions, and puts them into CloudWatch and into the
job's FinalMetricDataList.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from moto.cloudwatch.exceptions import ValidationError
from moto.cloudwatch.models import MetricDatum, cloudwatch_backends
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult

from watcher.sandbox.aws import metric_math, metric_statistics
from watcher.sandbox.aws.metric_statistics import statistic, whole_minute
from watcher.sandbox.jobs.system_metrics import NODE
from watcher.sandbox.sagemaker.training_job import Record, TrainingJob

NAMESPACE = "/aws/sagemaker/TrainingJobs"
DIMENSION = "TrainingJobName"
HOST = "Host"
"""The dimension of instance metrics: `<job>/algo-1`."""
MAX_SERIES = 500
MAX_DATAPOINTS = 100_800
"""CloudWatch's limits for one request, and for one page of the answer."""


class Measured(NamedTuple):
    name: str
    value: float
    at: float
    """Seconds since 1970."""


# -- writing --------------------------------------------------------------------------------------


def measured(job: TrainingJob, lines: Iterable[str], now: float) -> list[Measured]:
    """The values that the regexes of the job's MetricDefinitions find in lines of its log. Pure."""
    definitions = job.record.get("AlgorithmSpecification", {}).get("MetricDefinitions", ())
    regexes = [(definition["Name"], re.compile(definition["Regex"])) for definition in definitions]
    return [
        Measured(name, value, now)
        for line in lines
        for name, regex in regexes
        if (value := _number(regex.search(line))) is not None
    ]


def _number(found: re.Match[str] | None) -> float | None:
    try:
        value = float(found[1]) if found else math.nan
    except (IndexError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def with_final_metrics(job: TrainingJob, values: Iterable[Measured]) -> TrainingJob:
    """The job with the newest value of each metric in its FinalMetricDataList. Pure."""
    final = {metric["MetricName"]: metric for metric in job.record.get("FinalMetricDataList", ())}
    for name, value, at in values:
        if name not in final or final[name]["Timestamp"] <= at:
            final[name] = {"MetricName": name, "Value": value, "Timestamp": at}
    return replace(job, record=job.record | {"FinalMetricDataList": list(final.values())})


def put(account: str, region: str, job: str, values: Sequence[Measured]) -> None:
    """Put the values into moto's CloudWatch, from within its process, except those that CloudWatch would
    refuse."""
    cloudwatch_backends[account][region].put_metric_data(
        NAMESPACE,
        [
            {
                "MetricName": name,
                "Value": value,
                "Timestamp": _moment(at),
                "Dimensions": [{"Name": DIMENSION, "Value": job}],
            }
            for name, value, at in values
            if name.isascii()
        ],
    )


def put_of_instance(account: str, region: str, job: str, values: Mapping[str, float], at: float) -> None:
    """Put what a job uses of its one instance into moto's CloudWatch. `at`: the beginning of the minute."""
    host = [{"Name": HOST, "Value": f"{job}/{NODE}"}]
    data = [
        {"MetricName": name, "Value": value, "Unit": "Percent", "Timestamp": _moment(at), "Dimensions": host}
        for name, value in values.items()
    ]
    cloudwatch_backends[account][region].put_metric_data(NAMESPACE, data)


def _moment(at: float) -> datetime:
    """The time as moto keeps times: in UTC, without a time zone."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None)


# -- reading --------------------------------------------------------------------------------------


def install() -> None:
    """Make moto's `GetMetricData` accept as many series as CloudWatch's, return pages, and be fast for
    hundreds of series. For each minute of each series, moto itself goes through all values that it has."""
    CloudWatchResponse.get_metric_data = get_metric_data
    metric_statistics.install()


_get_metric_data = CloudWatchResponse.get_metric_data


def get_metric_data(self: CloudWatchResponse) -> ActionResult:
    request = self._get_params()
    queries = request.get("MetricDataQueries", [])
    if not queries or any(query.get("Expression", "").startswith("SELECT") for query in queries):
        return _get_metric_data(self)
    if len(queries) > MAX_SERIES:
        raise ValidationError(
            f"The collection MetricDataQueries must not have a size greater than {MAX_SERIES}."
        )
    measured_here = [query["MetricStat"]["Metric"] for query in queries if "MetricStat" in query]
    if not all(metric["MetricName"].isascii() for metric in measured_here):
        raise ValidationError("MetricName must not contain Non-ASCII characters")
    since, until = whole_minute(request["StartTime"]), whole_minute(request["EndTime"])
    if since >= until:
        raise ValidationError("The parameter EndTime must be greater than StartTime.")
    data = _by_metric(self.cloudwatch_backend.metric_data, since, until)
    shown = [query for query in queries if query.get("ReturnData", True)]
    series = _series(queries, data, shown)
    if request.get("ScanBy", "TimestampDescending") == "TimestampDescending":
        series = [points[::-1] for points in series]
    size, first = request.get("MaxDatapoints") or MAX_DATAPOINTS, int(request.get("NextToken") or 0)
    answer: dict[str, Any] = {"MetricDataResults": list(_page(shown, series, first, first + size))}
    if first + size < sum(map(len, series)):
        answer["NextToken"] = str(first + size)
    return ActionResult(answer)


MetricKey = tuple[Any, ...]
Point = tuple[datetime, float]


def _by_metric(
    data: Iterable[Any], since: datetime, until: datetime
) -> Mapping[MetricKey, list[MetricDatum]]:
    found: defaultdict[MetricKey, list[MetricDatum]] = defaultdict(list)
    for datum in list(data):
        if isinstance(datum, MetricDatum) and since <= datum.timestamp < until:
            dimensions = frozenset((dimension.name, dimension.value) for dimension in datum.dimensions)
            found[datum.namespace, datum.name, dimensions].append(datum)
    return found


def _series(
    queries: Iterable[Record], data: Mapping[MetricKey, list[MetricDatum]], shown: Iterable[Record]
) -> list[list[Point]]:
    """The points of each shown query, in order of time."""
    by_id = {query["Id"]: query for query in queries}
    found: dict[str, metric_math.Series] = {}

    def series(name: str, within: frozenset[str]) -> metric_math.Series:
        query = by_id[name]
        if name not in found and "MetricStat" in query:
            found[name] = dict(_points(query, data))
        elif name not in found:
            found[name] = computed(query, within)
        return found[name]

    def computed(query: Record, within: frozenset[str]) -> metric_math.Series:
        expression, inner = query["Expression"], within | {query["Id"]}
        try:
            if query["Id"] in within:
                raise KeyError(query["Id"])
            return metric_math.evaluate(expression, lambda name: series(name, inner))
        except metric_math.NotArithmetic:
            raise ValidationError(
                f"the sandbox has only + - * / ^ for the ids of metrics, and cannot evaluate {expression}"
            ) from None
        except KeyError as error:
            raise ValidationError(f"Error in expression '{query['Id']}': {error} has no value") from None

    return [sorted(series(query["Id"], frozenset()).items()) for query in shown]


def _points(query: Record, data: Mapping[MetricKey, list[MetricDatum]]) -> list[Point]:
    compute = statistic(query["MetricStat"]["Stat"])
    metric, period = query["MetricStat"]["Metric"], int(query["MetricStat"]["Period"])
    dimensions = frozenset((each["Name"], each["Value"]) for each in metric.get("Dimensions", ()))
    periods: defaultdict[float, list[float]] = defaultdict(list)
    for datum in data.get((metric["Namespace"], metric["MetricName"], dimensions), ()):
        seconds = datum.timestamp.replace(tzinfo=UTC).timestamp()
        periods[seconds - seconds % period].append(datum.value)
    return [(_moment(at), compute(values)) for at, values in sorted(periods.items())]


def _page(
    queries: Sequence[Record], series: Sequence[list[Point]], first: int, last: int
) -> Iterator[Record]:
    """The points from `first` to `last`, counted over all series one after the other. The first page names
    each series; later pages name only those that continue."""
    position = 0
    for query, points in zip(queries, series, strict=True):
        here = points[max(first - position, 0) : max(last - position, 0)]
        position += len(points)
        if here or first == 0:
            yield {
                "Id": query["Id"],
                "Label": _label(query),
                "Timestamps": [at for at, _ in here],
                "Values": [value for _, value in here],
                "StatusCode": "Complete" if position <= last else "PartialData",
            }


def _label(query: Record) -> str:
    own = query["MetricStat"]["Metric"]["MetricName"] if "MetricStat" in query else query["Id"]
    return str(query.get("Label") or own)
