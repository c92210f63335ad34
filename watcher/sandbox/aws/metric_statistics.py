"""Answers CloudWatch's `GetMetricStatistics`, and computes the statistics of both of its read operations.

moto starts a period at the first value, whatever its second. CloudWatch rounds both ends of the time range
down to whole minutes, and periods start at the rounded StartTime.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from moto.cloudwatch.exceptions import InvalidParameterCombination, InvalidParameterValue
from moto.cloudwatch.models import MetricDatum
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult

MAX_DATAPOINTS = 1440
_SHORT_PERIODS_S = frozenset({1, 5, 10, 20, 30})
MINUTE = timedelta(minutes=1)

_get_metric_statistics = CloudWatchResponse.get_metric_statistics


def install() -> None:
    CloudWatchResponse.get_metric_statistics = get_metric_statistics


def get_metric_statistics(self: CloudWatchResponse) -> ActionResult:
    request = self._get_params()
    named = [*request.get("Statistics", ()), *request.get("ExtendedStatistics", ())]
    if not named:
        raise InvalidParameterCombination("Must specify either Statistics or ExtendedStatistics")
    since, until = whole_minute(request["StartTime"]), whole_minute(request["EndTime"])
    period = int(request["Period"])
    _check(since, until, period)
    dimensions = frozenset((each["Name"], each["Value"]) for each in request.get("Dimensions", ()))
    unit = request.get("Unit")
    wanted = [
        datum
        for datum in list(self.cloudwatch_backend.metric_data)
        if (datum.namespace, datum.name) == (request["Namespace"], request["MetricName"])
        and since <= datum.timestamp < until
        and frozenset((dimension.name, dimension.value) for dimension in datum.dimensions) == dimensions
        and unit in (None, datum.unit or "None")
    ]
    if not all(isinstance(datum, MetricDatum) for datum in wanted):  # sums of values, put as a StatisticSet
        return _get_metric_statistics(self)
    return ActionResult(
        {
            "Label": request["MetricName"],
            "Datapoints": [
                _datapoint(at, data, request.get("Statistics", ()), request.get("ExtendedStatistics", ()))
                for at, data in _periods(wanted, since, timedelta(seconds=period))
            ],
        }
    )


def whole_minute(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


def _check(since: datetime, until: datetime, period: int) -> None:
    if since >= until:
        raise InvalidParameterValue(
            "The parameter StartTime must be less than the parameter EndTime. "
            "CloudWatch rounds both down to whole minutes."
        )
    if period not in _SHORT_PERIODS_S and (period < 60 or period % 60):
        raise InvalidParameterValue("The parameter Period must be 1, 5, 10, 20, 30, or a multiple of 60")
    if (requested := math.ceil((until - since).total_seconds() / period)) > MAX_DATAPOINTS:
        raise InvalidParameterCombination(
            f"You have requested up to {requested:,} datapoints, which exceeds the limit of "
            f"{MAX_DATAPOINTS:,}. You may reduce the datapoints requested by increasing Period, or "
            "decreasing the time range."
        )


def _periods(
    data: Iterable[MetricDatum], since: datetime, period: timedelta
) -> list[tuple[datetime, list[MetricDatum]]]:
    """The periods that have values, each with its start, in the order of time."""
    found: defaultdict[int, list[MetricDatum]] = defaultdict(list)
    for datum in data:
        found[(datum.timestamp - since) // period].append(datum)
    return [(since + number * period, members) for number, members in sorted(found.items())]


def _datapoint(
    at: datetime, data: Sequence[MetricDatum], statistics: Iterable[str], extended: Sequence[str]
) -> dict[str, Any]:
    values = [datum.value for datum in data]
    point = {"Timestamp": at, "Unit": data[0].unit or "None"}
    point |= {name: statistic(name)(values) for name in statistics}
    if extended:
        point["ExtendedStatistics"] = {name: statistic(name)(values) for name in extended}
    return point


def statistic(name: str) -> Callable[[Sequence[float]], float]:
    """The function of a statistic of CloudWatch: `Average`, `p90` …"""
    if name in _STATISTICS:
        return _STATISTICS[name]
    if (percentile := re.fullmatch(r"p(\d{1,2}(?:\.\d+)?|100)", name)) is None:
        raise InvalidParameterValue(f"The value {name} for parameter Stat is not supported")
    return lambda values: _percentile(values, float(percentile[1]))


def _percentile(values: Sequence[float], percent: float) -> float:
    """Interpolates linearly between the two nearest values."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


_STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Average": lambda values: math.fsum(values) / len(values),
    "Sum": math.fsum,
    "Minimum": min,
    "Maximum": max,
    "SampleCount": lambda values: float(len(values)),
}
