"""The values of a trial component's metrics, and what SageMaker says of them: summaries and series. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from watcher.sandbox.sagemaker.api_errors import invalid
from watcher.sandbox.sagemaker.training_job import Record

Series = Sequence["Point"]

PERIODS_S = {"OneMinute": 60, "FiveMinute": 300, "OneHour": 3600}


class Point(NamedTuple):
    value: float
    at: float
    """Seconds since 1970."""
    step: int | None = None


def summary(name: str, points: Series, source_arn: str = "") -> Record:
    """The `TrialComponentMetricSummary` of the values, of which there is at least one, in the order in which
    they came. The standard deviation is that of a population, so it is 0 for one value."""
    seen = [point.value for point in points]
    last = max(points, key=lambda point: point.at)  # the first of equals
    last = next(point for point in reversed(points) if point.at == last.at)
    record: Record = {
        "MetricName": name,
        "TimeStamp": last.at,
        "Max": max(seen),
        "Min": min(seen),
        "Last": last.value,
        "Count": len(seen),
        "Avg": math.fsum(seen) / len(seen),
        "StdDev": _deviation(seen),
    }
    return record | {"SourceArn": source_arn} if source_arn else record


def _deviation(seen: Sequence[float]) -> float:
    mean = math.fsum(seen) / len(seen)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in seen) / len(seen))


_STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "Min": min,
    "Max": max,
    "Avg": lambda seen: math.fsum(seen) / len(seen),
    "Count": len,
    "StdDev": _deviation,
    "Last": lambda seen: seen[-1],
}


def queried(query: Mapping[str, Any], points: Iterable[Point]) -> Record:
    """The answer to one query of `BatchGetMetrics`: an x value and a statistic for each period, or for each
    step. Start and End include their own value. Raises `ApiError` for what the API does not allow."""
    by_step = query["XAxisType"] == "IterationNumber"
    if by_step != (query["Period"] == "IterationNumber"):
        raise invalid("XAxisType IterationNumber needs Period IterationNumber, and Timestamp another one.")
    first, last = query.get("Start", -math.inf), query.get("End", math.inf)
    groups: defaultdict[int, list[float]] = defaultdict(list)
    for point in sorted(points, key=lambda point: point.at):
        if by_step and point.step is not None:
            x = point.step
        elif by_step:
            continue
        else:
            x = int(point.at) - int(point.at) % PERIODS_S[query["Period"]]
        if first <= (x if by_step else point.at) <= last:
            groups[x].append(point.value)
    statistic = _STATISTICS[query["MetricStat"]]
    return {
        "Status": "Complete",
        "XAxisValues": sorted(groups),
        "MetricValues": [float(statistic(groups[x])) for x in sorted(groups)],
    }


def of_final_metrics(metrics: Iterable[Record], source_arn: str) -> list[Record]:
    """The summaries of a job of which only the final metrics are known, such as one that was placed."""
    return [
        summary(metric["MetricName"], [Point(metric["Value"], metric["Timestamp"])], source_arn)
        for metric in metrics
    ]
