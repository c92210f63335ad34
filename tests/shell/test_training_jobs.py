"""A training job as a value, which is the same from `Search` and from `DescribeTrainingJob`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from watcher.aws.sagemaker import TrainingJobs, parse_job
from watcher.aws.session import Aws
from watcher.errors import AccessDenied
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


def put_ended(sandbox: Sandbox, name: str, *, modified: datetime = NOON, **members: Any) -> None:
    times = {"CreationTime": NOON.timestamp() - 600, "LastModifiedTime": modified.timestamp()}
    sandbox.control.put_training_job(name, **{"TrainingJobStatus": "Completed", **times, **members})


def names_changed_since(moment: datetime, tags: dict[str, str] | None = None) -> list[str]:
    return [job.name for page in TrainingJobs(Aws()).changed_since(moment, tags or {}) for job in page]


def names_listed_since(moment: datetime) -> list[str]:
    return [arn.rpartition("/")[2] for page in TrainingJobs(Aws()).arns_changed_since(moment) for arn in page]


def test_jobs_that_changed_since_a_moment_are_those_not_in_progress_and_the_earliest_change_is_first(
    aws_environment: Sandbox,
):
    put_ended(aws_environment, "late", modified=NOON + timedelta(hours=1), TrainingJobStatus="Failed")
    put_ended(aws_environment, "just-then", TrainingJobStatus="Stopping")
    put_ended(aws_environment, "early", modified=NOON - timedelta(milliseconds=1))
    put_ended(aws_environment, "running", TrainingJobStatus="InProgress")
    assert names_changed_since(NOON) == ["just-then", "late"]
    assert sorted(names_listed_since(NOON)) == ["just-then", "late"]


@pytest.mark.parametrize("zone", [timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])
def test_the_moment_may_be_in_any_zone_and_between_two_seconds(aws_environment: Sandbox, zone: timezone):
    put_ended(aws_environment, "before", modified=NOON + timedelta(milliseconds=250))
    put_ended(aws_environment, "after", modified=NOON + timedelta(milliseconds=750))
    moment = (NOON + timedelta(milliseconds=500)).astimezone(zone)
    assert names_changed_since(moment) == names_listed_since(moment) == ["after"]


def test_changed_jobs_carry_all_of_the_tags_as_they_are_now(aws_environment: Sandbox):
    tags = [{"Key": "team", "Value": "growth"}, {"Key": "watch", "Value": "yes"}]
    put_ended(aws_environment, "ours", Tags=tags)
    put_ended(aws_environment, "other", Tags=tags[1:])
    assert names_changed_since(NOON, {"team": "growth", "watch": "yes"}) == ["ours"]
    [[job]] = TrainingJobs(Aws()).changed_since(NOON, {"team": "growth"})
    assert job.tags == {"team": "growth", "watch": "yes"}

    sagemaker = aws_environment.client("sagemaker")
    sagemaker.delete_tags(ResourceArn=job.arn, TagKeys=["watch"])
    assert names_changed_since(NOON, {"watch": "yes"}) == ["other"]
    sagemaker.add_tags(ResourceArn=job.arn, Tags=[{"Key": "watch", "Value": "yes"}])
    assert sorted(names_changed_since(NOON, {"watch": "yes"})) == ["other", "ours"]


def test_a_job_in_progress_that_loses_a_tag_is_not_found_by_it(aws_environment: Sandbox):
    aws_environment.control.put_training_job("churn", Tags=[{"Key": "watch", "Value": "yes"}])
    jobs = TrainingJobs(Aws())
    [[job]] = jobs.in_progress({"watch": "yes"})
    aws_environment.client("sagemaker").delete_tags(ResourceArn=job.arn, TagKeys=["watch"])
    assert list(jobs.in_progress({"watch": "yes"})) == [[]]
    assert jobs.tags(job.arn) == {}


def test_hundreds_of_changed_jobs_come_in_pages_of_a_hundred(aws_environment: Sandbox):
    start = NOON.timestamp()
    aws_environment.control.put_training_jobs(
        {
            "TrainingJobName": f"job-{number:03}",
            "TrainingJobStatus": "Completed",
            "CreationTime": start - number,
            "LastModifiedTime": start + number,
        }
        for number in range(250)
    )
    pages = list(TrainingJobs(Aws()).changed_since(NOON, {}))
    assert [len(page) for page in pages] == [100, 100, 50]
    assert [job.name for page in pages for job in page] == [f"job-{number:03}" for number in range(250)]
    # A page of the fallback holds those of a hundred jobs that changed since the moment.
    listed = list(TrainingJobs(Aws()).arns_changed_since(NOON + timedelta(seconds=240)))
    assert [len(page) for page in listed] == [10, 0, 0]


def test_the_list_does_not_reach_back_to_jobs_that_were_created_long_ago(aws_environment: Sandbox):
    aws_environment.control.put_training_jobs(
        {
            "TrainingJobName": f"old-{number:03}",
            "TrainingJobStatus": "Completed",
            "CreationTime": (NOON - timedelta(days=90)).timestamp(),
            "LastModifiedTime": (NOON - timedelta(days=89)).timestamp(),
        }
        for number in range(150)
    )
    put_ended(aws_environment, "new")
    aws_environment.control.forget_calls()
    assert names_listed_since(NOON) == ["new"]
    assert aws_environment.control.calls() == {"sagemaker:ListTrainingJobs": 1}


def test_a_run_that_replaced_a_deleted_one_is_found_with_its_own_time_of_creation(aws_environment: Sandbox):
    put_ended(aws_environment, "churn", FailureReason="AlgorithmError: no", TrainingJobStatus="Failed")
    [[first]] = TrainingJobs(Aws()).changed_since(NOON, {})
    aws_environment.client("sagemaker").delete_training_job(TrainingJobName="churn")
    assert list(TrainingJobs(Aws()).changed_since(NOON, {})) == [[]]

    put_ended(aws_environment, "churn", CreationTime=NOON.timestamp() + 60)
    [[second]] = TrainingJobs(Aws()).changed_since(NOON, {})
    assert second.arn == first.arn
    assert (second.created_at, second.failure_reason) == (NOON + timedelta(seconds=60), "")


def test_a_refusal_names_the_permission(aws_environment: Sandbox):
    aws_environment.control.inject_fault("sagemaker:*", "AccessDeniedException", "not authorized to perform")
    with pytest.raises(AccessDenied) as refused:
        names_changed_since(NOON)
    assert refused.value.operation == "sagemaker:Search"
    with pytest.raises(AccessDenied) as refused:
        names_listed_since(NOON)
    assert refused.value.operation == "sagemaker:ListTrainingJobs"


def test_half_of_an_emoji_in_a_record_becomes_a_question_mark():
    """SageMaker cuts texts, and a store could not keep a half."""
    job = parse_job(record(FailureReason="out of memory \ud83d", HyperParameters={"a\udc00": "🎉"}))

    assert job.failure_reason == "out of memory ?"
    assert job.hyperparameters == {"a?": "🎉"}
