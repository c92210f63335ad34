"""Evaluating profiler rules on the metrics of a job's instances, on the sandbox's CloudWatch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.evaluated_jobs import Watched
from tests.jobs import a_job
from watcher.model import Evaluation, JobSnapshot, Judge, Outcome, Reads, RuleFamily
from watcher.sandbox.process import Sandbox

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
STARTED_AT = NOW - timedelta(minutes=60)
MINUTE = timedelta(minutes=1)


def put(sandbox: Sandbox, metrics: Mapping[str, Sequence[float]], job: str = "gpu", node: int = 1) -> None:
    """Write one value a minute from the start of training."""
    data = [
        {
            "MetricName": name,
            "Value": value,
            "Timestamp": STARTED_AT + minute * MINUTE,
            "Dimensions": [{"Name": "Host", "Value": f"{job}/algo-{node}"}],
        }
        for name, values in metrics.items()
        for minute, value in enumerate(values)
    ]
    for first in range(0, len(data), 500):
        sandbox.client("cloudwatch").put_metric_data(
            Namespace="/aws/sagemaker/TrainingJobs", MetricData=data[first : first + 500]
        )


def job(name: str = "gpu", **changes: Any) -> JobSnapshot:
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"
    values = {"arn": arn, "started_at": STARTED_AT, "instance_type": "ml.g5.12xlarge", **changes}
    return a_job(name, **values)


@pytest.fixture
def watched(aws_environment: Sandbox) -> Callable[..., Watched]:
    return partial(Watched, now=NOW)


def outcome(evaluation: Evaluation) -> Outcome:
    [one] = evaluation.outcomes
    return one


def test_a_job_without_debugger_whose_gpus_idle_is_found(watched: Callable[..., Watched], sandbox: Sandbox):
    put(sandbox, {"GPUUtilization": [40.0] * 60})  # of four GPUs, which is 10 % of each
    jobs = watched("LowGPUUtilization")
    jobs.know(job())
    [evaluation] = jobs.look().values()
    found = outcome(evaluation)
    assert (found.family, found.judge, found.status) == (RuleFamily.PROFILER, Judge.WATCHER, "IssuesFound")
    assert "10 %" in found.details
    assert "mean of an instance's GPUs" in found.details
    assert (evaluation.reads, evaluation.due_at) == (Reads.INSTANCE_METRICS, None)


def test_an_evaluation_continues_in_another_process_and_finds_the_same(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"GPUUtilization": [380.0] * 20 + [0.0] * 40})
    at_once, in_pieces = watched("LowGPUUtilization"), watched("LowGPUUtilization", now=STARTED_AT)
    at_once.know(job())
    in_pieces.know(job())
    looks = 0
    while outcome(in_pieces.look()["gpu"]).status == "InProgress":
        in_pieces.restart()
        in_pieces.now += timedelta(seconds=100)
        looks += 1
    assert outcome(in_pieces.look()["gpu"]).details == outcome(at_once.look()["gpu"]).details
    assert looks > 10


def test_the_instances_of_hundreds_of_jobs_are_read_in_one_request(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"GPUUtilization": [40.0] * 60}, job="job-7", node=2)
    jobs = watched("LowGPUUtilization")
    jobs.know(*(job(f"job-{number}", instance_count=2) for number in range(250)))
    sandbox.control.forget_calls()
    found = jobs.look()
    assert sandbox.control.calls() == {"cloudwatch:GetMetricData": 1}
    assert [name for name, one in found.items() if outcome(one).status == "IssuesFound"] == ["job-7"]


def test_training_metrics_and_instance_metrics_are_read_in_one_request(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    sandbox.control.put_training_job("gpu")
    sandbox.control.put_metrics("gpu", {"train:loss": [((STARTED_AT + MINUTE).timestamp(), 1.0)]})
    put(sandbox, {"CPUUtilization": [10.0] * 60, "GPUUtilization": [40.0] * 60})
    jobs = watched("LowGPUUtilization", {"rule": "LossNotDecreasing"})
    jobs.know(job(metrics=("train:loss",)))
    sandbox.control.forget_calls()
    jobs.look()
    assert sandbox.control.calls() == {"cloudwatch:GetMetricData": 1}
    assert [each.family for each in jobs.records["gpu"].evaluations] == [*RuleFamily]


def test_a_rule_on_gpus_asks_nothing_of_a_job_without_gpus(watched: Callable[..., Watched], sandbox: Sandbox):
    jobs = watched("LowGPUUtilization")
    jobs.know(job(instance_type="ml.m5.xlarge"))
    sandbox.control.forget_calls()
    [evaluation] = jobs.look().values()
    assert sandbox.control.calls() == {}
    assert (outcome(evaluation).status, evaluation.due_at) == ("NotEvaluated", None)
    assert "ml.m5.xlarge has no GPU" in outcome(evaluation).details


def test_a_rule_that_needs_the_profilers_output_says_so_on_a_job_without(watched: Callable[..., Watched]):
    jobs = watched("StepOutlier")
    jobs.know(job())
    [evaluation] = jobs.look().values()
    assert (outcome(evaluation).status, evaluation.due_at) == ("NotEvaluated", None)
    assert "profiler's output" in outcome(evaluation).details


def test_a_job_that_ended_is_judged_on_what_it_left(watched: Callable[..., Watched], sandbox: Sandbox):
    put(sandbox, {"GPUUtilization": [399.0] * 30})
    jobs = watched("LowGPUUtilization")
    ended = {"status": "Completed", "secondary_status": "Completed", "ended_at": STARTED_AT + 30 * MINUTE}
    jobs.know(job(**ended))
    [evaluation] = jobs.look().values()
    assert (outcome(evaluation).status, evaluation.due_at) == ("NoIssuesFound", None)
