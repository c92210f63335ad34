"""Reading training metrics from CloudWatch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.doubles.cloudwatch import CloudWatchDouble
from tests.jobs import a_job
from watcher.aws.metrics import Average, Metrics, Query
from watcher.aws.session import Aws
from watcher.errors import AccessDenied
from watcher.evaluation.steps import JobMetrics
from watcher.sandbox.process import Sandbox

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
START = NOW - timedelta(minutes=30)
MINUTE = timedelta(minutes=1)


def query(metric: str = "loss", job: str = "churn", since: int = 0, until: int = 30) -> Query:
    return Query(job, metric, 60, START + since * MINUTE, START + until * MINUTE)


def at(minute: float) -> float:
    return (START + minute * MINUTE).timestamp()


def put(sandbox: Sandbox, job: str = "churn", **metrics: list[float]) -> None:
    """Write one value per minute."""
    sandbox.control.put_training_job(job)
    sandbox.control.put_metrics(
        job,
        {
            name: [(at(minute), value) for minute, value in enumerate(values)]
            for name, values in metrics.items()
        },
    )


@pytest.fixture
def metrics(aws_environment: Sandbox) -> Metrics:
    return Metrics(Aws())


def test_each_value_comes_with_the_minute_that_it_averages(metrics: Metrics, sandbox: Sandbox):
    sandbox.control.put_training_job("churn")
    sandbox.control.put_metrics("churn", {"loss": [(at(0), 1.0), (at(0.5), 2.0), (at(3), 5.0)]})
    wanted = query()
    assert metrics.read([wanted])[wanted].averages == [
        Average(START, 1.5),
        Average(START + 3 * MINUTE, 5.0),
    ]


def test_a_metric_without_values_is_empty_and_complete(metrics: Metrics, sandbox: Sandbox):
    put(sandbox, loss=[1.0])
    answers = metrics.read([query("accuracy"), query("loss", job="another")])
    assert [(series.averages, series.problem) for series in answers.values()] == [([], ""), ([], "")]


def test_the_metrics_of_many_jobs_are_read_in_one_request_and_kept_apart(metrics: Metrics, sandbox: Sandbox):
    for number in range(20):
        put(sandbox, f"job-{number}", **{"train:loss": [number], "validation:loss": [-number]})
    queries = [
        query(metric, f"job-{number}") for number in range(20) for metric in ("train:loss", "validation:loss")
    ]
    sandbox.control.forget_calls()
    answers = metrics.read(queries)
    assert sandbox.control.calls() == {"cloudwatch:GetMetricData": 1}
    for wanted, series in answers.items():
        number = float(wanted.job.removeprefix("job-"))
        sign = 1 if wanted.metric == "train:loss" else -1
        assert [average.value for average in series.averages] == [sign * number]


def test_more_than_500_series_need_another_request(metrics: Metrics, sandbox: Sandbox):
    queries = [query(job=f"job-{number}") for number in range(501)]
    sandbox.control.forget_calls()
    assert len(metrics.read(queries)) == 501
    assert sandbox.control.calls() == {"cloudwatch:GetMetricData": 2}


def test_queries_with_different_spans_get_only_their_own_span_from_a_shared_request(
    metrics: Metrics, sandbox: Sandbox
):
    put(sandbox, loss=[float(minute) for minute in range(30)])
    early, late = query(until=10), query(since=20)
    answers = metrics.read([late, early])
    assert [one.value for one in answers[early].averages] == [float(minute) for minute in range(10)]
    assert [one.value for one in answers[late].averages] == [float(minute) for minute in range(20, 30)]


def test_an_empty_span_is_not_queried(metrics: Metrics, sandbox: Sandbox):
    sandbox.control.forget_calls()
    assert metrics.read([query(since=5, until=5)]) == {}
    assert sandbox.control.calls() == {}


def test_different_periods_are_queried_separately(metrics: Metrics, sandbox: Sandbox):
    put(sandbox, loss=[1.0] * 30)
    longer = query()._replace(period=300)
    sandbox.control.forget_calls()
    answers = metrics.read([query(), longer])
    assert sandbox.control.calls() == {"cloudwatch:GetMetricData": 2}
    assert len(answers[query()].averages) == 30
    assert len(answers[longer].averages) in (6, 7)


def test_a_missing_permission_is_named(metrics: Metrics, sandbox: Sandbox):
    sandbox.control.inject_fault("cloudwatch:GetMetricData", "AccessDenied", "not you", status=403)
    with pytest.raises(AccessDenied, match="no permission for cloudwatch:GetMetricData"):
        metrics.read([query()])


def test_throttled_requests_are_repeated(metrics: Metrics, sandbox: Sandbox):
    put(sandbox, loss=[1.0])
    sandbox.control.inject_fault("cloudwatch:GetMetricData", times=1)
    assert metrics.read([query()])[query()].averages


def test_the_last_minutes_of_a_job_up_to_a_step_can_be_read(metrics: Metrics, sandbox: Sandbox):
    put(sandbox, loss=[float(minute) for minute in range(28)])
    job = a_job("churn", metrics=("loss",), started_at=START + timedelta(seconds=30))
    of_job = JobMetrics(metrics, job, lambda: NOW)
    some = of_job.steps(until=20, last=3, wanted=lambda _: True)
    assert [(one.step, float(one.tensors["loss"])) for one in some] == [(18, 18), (19, 19), (20, 20)]
    assert [one.step for one in of_job.steps(wanted=lambda _: True)] == list(range(28))


# -- what the sandbox does not do -----------------------------------------------------------------


@pytest.fixture
def cloudwatch(aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudWatchDouble]:
    with CloudWatchDouble() as double:
        monkeypatch.setenv("AWS_ENDPOINT_URL", double.url)
        yield double


def result(name: str, minutes: range, status: str = "Complete", **members: Any) -> dict[str, Any]:
    times, values = [at(minute) for minute in minutes], [float(minute) for minute in minutes]
    return {"Id": name, "Timestamps": times, "Values": values, "StatusCode": status, **members}


def test_pages_are_read_to_the_end(cloudwatch: CloudWatchDouble):
    cloudwatch.answers = [
        {"MetricDataResults": [result("q0", range(3), "PartialData")], "NextToken": "more"},
        {"MetricDataResults": [result("q0", range(3, 5)), result("q1", range(1))]},
    ]
    first, second = query("a"), query("b")
    answers = Metrics(Aws()).read([first, second])
    assert [average.value for average in answers[first].averages] == [0, 1, 2, 3, 4]
    assert [average.value for average in answers[second].averages] == [0]
    assert not answers[first].problem
    assert [request.get("NextToken") for request in cloudwatch.requests] == [None, "more"]


def test_a_series_that_starts_much_earlier_is_queried_separately_from_the_others(
    cloudwatch: CloudWatchDouble,
):
    cloudwatch.answers = [{"MetricDataResults": []}]
    days = query("a")._replace(since=NOW - timedelta(days=14))
    Metrics(Aws()).read([*(query(job=f"job-{number}", since=28) for number in range(300)), days])
    sizes = [len(request["MetricDataQueries"]) for request in cloudwatch.requests]
    assert sizes == [5, 296]
    assert sum(sizes) == 301
    assert cloudwatch.requests[1]["StartTime"] == at(28)


@pytest.mark.parametrize("status", ["PartialData", "InternalError", "Forbidden"])
def test_a_series_that_stays_incomplete_says_so(cloudwatch: CloudWatchDouble, status: str):
    messages = [{"Code": "x", "Value": "try again"}]
    cloudwatch.answers = [
        {"MetricDataResults": [result("q0", range(2), status, Messages=messages), result("q1", range(2))]}
    ]
    answers = Metrics(Aws()).read([query("a"), query("b")])
    assert [series.problem for series in answers.values()] == [f"{status}: try again", ""]
