"""Training metrics on the sandbox, written from a job's log and read from CloudWatch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.doubles.training_requests import training_request
from watcher.sandbox.aws.metrics import measured
from watcher.sandbox.process import Sandbox
from watcher.sandbox.sagemaker.training_job import created

NAMESPACE = "/aws/sagemaker/TrainingJobs"
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
HOUR = timedelta(hours=1)


def query(job: str, metric: str, number: int = 0, period: int = 60) -> dict[str, Any]:
    dimensions = [{"Name": "TrainingJobName", "Value": job}]
    named = {"Namespace": NAMESPACE, "MetricName": metric, "Dimensions": dimensions}
    return {"Id": f"q{number}", "MetricStat": {"Metric": named, "Period": period, "Stat": "Average"}}


def read(sandbox: Sandbox, queries: Sequence[dict[str, Any]], **request: Any) -> dict[str, Any]:
    parameters = {
        "MetricDataQueries": queries,
        "StartTime": START,
        "EndTime": START + HOUR,
        "ScanBy": "TimestampAscending",
    }
    answer: dict[str, Any] = sandbox.client("cloudwatch").get_metric_data(**parameters | request)
    return answer


def at(minute: float) -> float:
    return (START + timedelta(minutes=minute)).timestamp()


def values(sandbox: Sandbox, job: str, metric: str) -> list[float]:
    now = datetime.now(UTC)
    answer = read(sandbox, [query(job, metric)], StartTime=now - HOUR, EndTime=now + timedelta(minutes=1))
    found: list[float] = answer["MetricDataResults"][0]["Values"]
    return found


def test_matches_of_metric_definitions_in_the_log_become_metrics(sandbox: Sandbox) -> None:
    definitions = [
        {"Name": "train:loss", "Regex": r"loss=([0-9.]+)"},
        {"Name": "broken", "Regex": "loss"},
    ]
    sandbox.control.put_training_job(
        "logs", AlgorithmSpecification={"TrainingInputMode": "File", "MetricDefinitions": definitions}
    )
    sandbox.control.write_logs("logs", ["epoch 1 loss=0.75", "loss=nan", "no number"])
    sandbox.control.write_logs("logs", ["epoch 2 loss=0.25"])
    assert set(values(sandbox, "logs", "train:loss")) in (
        {0.5},
        {0.75, 0.25},
    )  # a new minute may have started
    assert values(sandbox, "logs", "broken") == []
    (final,) = sandbox.client("sagemaker").describe_training_job(TrainingJobName="logs")[
        "FinalMetricDataList"
    ]
    assert (final["MetricName"], final["Value"]) == ("train:loss", 0.25)


def test_metrics_can_be_placed_at_any_time_and_are_averaged_over_periods(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("placed")
    loss = [(at(0), 1.0), (at(0.5), 3.0), (at(7), 5.0)]
    sandbox.control.put_metrics("placed", {"loss": loss, "accuracy": [(at(1), 0.5)]})
    by_minute, by_five, other = read(
        sandbox,
        [
            query("placed", "loss", 0),
            query("placed", "loss", 1, period=300),
            query("another", "loss", 2),
        ],
    )["MetricDataResults"]
    assert by_minute["Values"] == [2.0, 5.0]
    assert by_minute["Timestamps"] == [START, START + timedelta(minutes=7)]
    assert by_five["Timestamps"] == [START, START + timedelta(minutes=5)]
    assert other["Values"] == []


def test_the_newest_value_is_the_final_one(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("placed")
    sandbox.control.put_metrics("placed", {"loss": [(at(5), 5.0), (at(3), 3.0)]})
    (job,) = sandbox.control.training_jobs()
    assert job["FinalMetricDataList"] == [{"MetricName": "loss", "Value": 5.0, "Timestamp": at(5)}]


def test_all_pages_are_returned_in_order(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("placed")
    for name in ("a", "b"):
        sandbox.control.put_metrics("placed", {name: [(at(minute), minute) for minute in range(5)]})
    queries = [query("placed", "a", 0), query("placed", "b", 1)]
    pages = [read(sandbox, queries, MaxDatapoints=4)]
    while "NextToken" in pages[-1]:
        pages.append(read(sandbox, queries, MaxDatapoints=4, NextToken=pages[-1]["NextToken"]))
    assert len(pages) == 3
    found: dict[str, list[float]] = {"q0": [], "q1": []}
    for page in pages:
        for result in page["MetricDataResults"]:
            found[result["Id"]] += result["Values"]
    assert found == {"q0": [0, 1, 2, 3, 4], "q1": [0, 1, 2, 3, 4]}
    assert [result["StatusCode"] for result in pages[0]["MetricDataResults"]] == ["PartialData"] * 2
    assert pages[-1]["MetricDataResults"][0]["StatusCode"] == "Complete"


def test_more_than_500_series_are_refused_as_at_aws(sandbox: Sandbox) -> None:
    with pytest.raises(ClientError, match="must not have a size greater than 500"):
        read(sandbox, [query("job", "loss", number) for number in range(501)])


def test_the_built_in_xgboost_has_definitions_that_match_its_output() -> None:
    job = created(training_request("built-in"), account="123456789012", region="us-east-1", now=at(0))
    line = "[12]#011train-logloss:0.25000#011validation-logloss:0.50000#011validation-error:1e-3"
    assert set(measured(job, [line, "[13] no metrics"], at(1))) == {
        ("train:logloss", 0.25, at(1)),
        ("validation:logloss", 0.5, at(1)),
        ("validation:error", 0.001, at(1)),
    }


def test_a_jobs_own_definitions_are_kept() -> None:
    mine = [{"Name": "loss", "Regex": "loss=(.*)"}]
    image = training_request("mine")["AlgorithmSpecification"]
    request = training_request("mine", AlgorithmSpecification={**image, "MetricDefinitions": mine})
    job = created(request, account="123456789012", region="us-east-1", now=at(0))
    assert job.record["AlgorithmSpecification"]["MetricDefinitions"] == mine


def statistics(sandbox: Sandbox, job: str, **request: Any) -> list[dict[str, Any]]:
    parameters = {
        "Namespace": NAMESPACE,
        "MetricName": "loss",
        "Dimensions": [{"Name": "TrainingJobName", "Value": job}],
        "StartTime": START,
        "EndTime": START + HOUR,
        "Period": 60,
        **request,
    }
    if "ExtendedStatistics" not in request:
        parameters.setdefault("Statistics", ["Average"])
    answer = sandbox.client("cloudwatch").get_metric_statistics(**parameters)
    points: list[dict[str, Any]] = answer["Datapoints"]
    return points


def test_statistics_are_those_of_whole_minutes(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("placed")
    sandbox.control.put_metrics("placed", {"loss": [(at(2.2), 1.0), (at(2.9), 3.0), (at(7.5), 5.0)]})
    every = ["Average", "Minimum", "Maximum", "Sum", "SampleCount"]
    first, second = statistics(sandbox, "placed", Statistics=every)
    assert first["Timestamp"] == START + timedelta(minutes=2)
    assert {name: first[name] for name in every} == {
        "Average": 2.0,
        "Minimum": 1.0,
        "Maximum": 3.0,
        "Sum": 4.0,
        "SampleCount": 2.0,
    }
    assert second["Timestamp"] == START + timedelta(minutes=7)
    [median] = statistics(sandbox, "placed", Period=3600, ExtendedStatistics=["p50"])
    assert median["ExtendedStatistics"] == {"p50": 3.0}


def test_both_ends_of_the_time_are_rounded_down_to_the_minute(sandbox: Sandbox) -> None:
    """So a training that is shorter than a minute needs an EndTime a minute later."""
    sandbox.control.put_training_job("placed")
    sandbox.control.put_metrics("placed", {"loss": [(at(2.2), 1.0), (at(4.2), 2.0)]})
    since, until = START + timedelta(minutes=2, seconds=40), START + timedelta(minutes=4, seconds=50)
    assert [point["Average"] for point in statistics(sandbox, "placed", StartTime=since, EndTime=until)] == [
        1
    ]
    later = until + timedelta(minutes=1)
    points = statistics(sandbox, "placed", StartTime=since, EndTime=later, Period=300)
    assert [(point["Timestamp"], point["Average"]) for point in points] == [
        (START + timedelta(minutes=2), 1.5)
    ]
    with pytest.raises(ClientError, match="StartTime must be less than the parameter EndTime"):
        statistics(sandbox, "placed", StartTime=since, EndTime=since + timedelta(seconds=10))


def test_statistics_are_of_exactly_the_named_dimensions(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("placed")
    sandbox.control.put_metrics("placed", {"loss": [(at(2), 1.0)]})
    assert statistics(sandbox, "placed", Dimensions=[]) == []
    assert statistics(sandbox, "other") == []


def test_more_than_1440_datapoints_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(ClientError, match=r"requested up to 2,880 datapoints.*limit of 1,440"):
        statistics(sandbox, "placed", EndTime=START + 48 * HOUR)


def test_other_statistics_of_get_metric_data_and_its_order(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("placed")
    sandbox.control.put_metrics("placed", {"loss": [(at(2.2), 1.0), (at(2.9), 3.0), (at(7.5), 5.0)]})
    highest = query("placed", "loss")
    highest["MetricStat"]["Stat"] = "Maximum"
    assert read(sandbox, [highest])["MetricDataResults"][0]["Values"] == [3.0, 5.0]
    newest_first = read(sandbox, [highest], ScanBy="TimestampDescending")
    assert newest_first["MetricDataResults"][0]["Values"] == [5.0, 3.0]


def test_expressions_compute_with_series_where_both_have_a_value(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("placed")
    sandbox.control.put_metrics("placed", {"wrong": [(at(1), 1.0), (at(2), 3.0), (at(3), 5.0)]})
    sandbox.control.put_metrics("placed", {"all": [(at(1), 4.0), (at(2), 0.0)]})
    parts = [
        query("placed", name, number) | {"ReturnData": False} for number, name in enumerate(("wrong", "all"))
    ]
    percent = {"Id": "percent", "Expression": "100 * rate ^ 1", "Label": "%"}
    rate = {"Id": "rate", "Expression": "q0 / q1", "ReturnData": False}

    [result] = read(sandbox, [*parts, percent, rate])["MetricDataResults"]

    assert (result["Id"], result["Label"], result["Values"]) == ("percent", "%", [25.0])


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("SEARCH('{N,D} loss', 'Average', 60)", "cannot evaluate SEARCH"),
        ("q0 +", r"cannot evaluate q0 \+"),
        ("1 + 2", r"cannot evaluate 1 \+ 2"),
        ("q7 * 2", "'q7' has no value"),
        ("m * 2", "'m' has no value"),
    ],
    ids=["a function", "no expression", "no series", "no such series", "itself"],
)
def test_other_expressions_are_refused_in_a_sentence(sandbox: Sandbox, expression: str, reason: str) -> None:
    with pytest.raises(ClientError, match=reason):
        read(sandbox, [query("placed", "loss"), {"Id": "m", "Expression": expression}])
