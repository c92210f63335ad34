"""A training job as a value, which is the same from `Search` and from `DescribeTrainingJob`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from watcher.aws.sagemaker import TrainingJobs, parse_job
from watcher.aws.session import Aws
from watcher.jobs.pipeline import fingerprint
from watcher.model import FinalMetric, JobSnapshot
from watcher.sandbox.process import Sandbox

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
EVERYTHING = {
    "EnableManagedSpotTraining": True,
    "ResourceConfig": {
        "InstanceGroups": [
            {"InstanceGroupName": "gpu", "InstanceType": "ml.p4d.24xlarge", "InstanceCount": 2},
            {"InstanceGroupName": "cpu", "InstanceType": "ml.c5.18xlarge", "InstanceCount": 4},
        ],
        "VolumeSizeInGB": 30,
    },
    "ExperimentConfig": {"ExperimentName": "churn", "TrialName": "deep-trees"},
    "AlgorithmSpecification": {
        "TrainingImage": "xgboost",
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "validation:error", "Regex": "validation-error:([0-9.]+)"}],
    },
    "FinalMetricDataList": [
        {"MetricName": "validation:error", "Value": 0.125, "Timestamp": NOON.timestamp()}
    ],
    "BillableTimeInSeconds": 1200,
}


def searched_and_described(sandbox: Sandbox, **members: Any) -> tuple[JobSnapshot, JobSnapshot]:
    sandbox.control.put_training_job("churn", **members)
    jobs = TrainingJobs(Aws())
    [[searched]] = jobs.in_progress({})
    return searched, jobs.describe("churn")


def test_search_and_describe_give_instances_spot_experiment_and_metrics(aws_environment: Sandbox):
    searched, described = searched_and_described(aws_environment, **EVERYTHING)
    assert replace(searched, tags=None) == described
    assert described.instance_groups == (("ml.p4d.24xlarge", 2), ("ml.c5.18xlarge", 4))
    assert described.spot
    assert (described.experiment, described.trial) == ("churn", "deep-trees")
    assert described.metrics == ("validation:error",)
    assert [(metric.name, metric.value) for metric in described.final_metrics] == [
        ("validation:error", 0.125)
    ]
    assert described.billable_time == 1200


def test_search_and_describe_give_the_same_fingerprint(aws_environment: Sandbox):
    searched, described = searched_and_described(aws_environment, **EVERYTHING)
    assert fingerprint(searched) == fingerprint(described)


def test_missing_fields_of_a_job_are_empty(aws_environment: Sandbox):
    _, described = searched_and_described(aws_environment)
    assert (described.instance_groups, described.spot, described.experiment) == ((), False, "")
    assert (described.metrics, described.final_metrics) == ((), ())


def record(**members: Any) -> dict[str, Any]:
    return {
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:111122223333:training-job/churn",
        "TrainingJobName": "churn",
        "TrainingJobStatus": "InProgress",
        "CreationTime": NOON,
        **members,
    }


def test_the_billed_one_of_several_preferred_instance_types_counts():
    preferences = [{"InstanceType": "ml.p5.48xlarge"}, {"InstanceType": "ml.p4d.24xlarge"}]
    resources = {
        "InstancePreferences": preferences,
        "SelectedInstanceType": "ml.p4d.24xlarge",
        "SelectedInstanceCount": 3,
    }
    job = parse_job(record(ResourceConfig=resources))
    assert (job.instance_type, job.instance_count) == ("ml.p4d.24xlarge", 3)
    waiting = parse_job(record(ResourceConfig={"InstancePreferences": preferences}))
    assert waiting.instance_type == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_final_metric_that_is_not_a_number_is_left_out(value: float):
    listed = [
        {"MetricName": "train:loss", "Value": value, "Timestamp": NOON},
        {"MetricName": "train:accuracy", "Value": 0.5, "Timestamp": NOON},
    ]
    job = parse_job(record(FinalMetricDataList=listed))
    assert job.final_metrics == (FinalMetric("train:accuracy", 0.5, NOON),)
