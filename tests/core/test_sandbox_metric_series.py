"""The summaries and series of a trial component's metrics."""

from __future__ import annotations

from typing import Any

import pytest

from watcher.sandbox.sagemaker.api_errors import ApiError
from watcher.sandbox.sagemaker.metric_series import Point, queried, summary

HOUR = 1_800_000_000 - 1_800_000_000 % 3600
POINTS = [Point(4.0, HOUR), Point(2.0, HOUR + 59, step=1), Point(6.0, HOUR + 60, step=1)]


def query(statistic: str, period: str, axis: str = "Timestamp", **more: int) -> dict[str, Any]:
    answer: dict[str, Any] = queried(
        {"MetricStat": statistic, "Period": period, "XAxisType": axis, **more}, POINTS
    )
    return answer


def test_a_summary_has_all_statistics() -> None:
    assert summary("loss", POINTS) == {
        "MetricName": "loss",
        "TimeStamp": HOUR + 60,
        "Min": 2.0,
        "Max": 6.0,
        "Avg": 4.0,
        "StdDev": pytest.approx((8 / 3) ** 0.5),
        "Last": 6.0,
        "Count": 3,
    }


def test_one_value_has_no_deviation() -> None:
    assert summary("loss", POINTS[:1])["StdDev"] == 0.0


def test_the_last_value_is_the_newest_and_of_equals_the_one_that_came_last() -> None:
    late_arrival = [Point(1.0, HOUR), Point(2.0, HOUR), Point(3.0, HOUR - 1)]
    assert summary("loss", late_arrival)["Last"] == 2.0


@pytest.mark.parametrize(
    ("statistic", "values"),
    [
        ("Min", [2.0, 6.0]),
        ("Max", [4.0, 6.0]),
        ("Avg", [3.0, 6.0]),
        ("Count", [2.0, 1.0]),
        ("StdDev", [1.0, 0.0]),
        ("Last", [2.0, 6.0]),
    ],
)
def test_a_series_has_one_value_for_each_minute(statistic: str, values: list[float]) -> None:
    assert query(statistic, "OneMinute") == {
        "Status": "Complete",
        "XAxisValues": [HOUR, HOUR + 60],
        "MetricValues": values,
    }


def test_a_series_can_be_limited_to_a_time_and_have_longer_periods() -> None:
    assert query("Count", "OneHour")["MetricValues"] == [3.0]
    assert query("Count", "FiveMinute", Start=HOUR + 30, End=HOUR + 59)["MetricValues"] == [1.0]


def test_a_series_by_step_leaves_out_what_has_no_step() -> None:
    by_step = query("Max", "IterationNumber", "IterationNumber")
    assert (by_step["XAxisValues"], by_step["MetricValues"]) == ([1], [6.0])


def test_steps_and_minutes_do_not_go_together() -> None:
    with pytest.raises(ApiError, match="IterationNumber"):
        query("Max", "OneMinute", "IterationNumber")
