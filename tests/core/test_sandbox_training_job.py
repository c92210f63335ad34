"""A training job's record as it advances, the names of its rules' processing jobs, and its events."""

from __future__ import annotations

from typing import Any

import pytest

from watcher.sandbox.aws.events import Event, between
from watcher.sandbox.jobs.rule_jobs import RuleJob, evaluation_job_arn, rule_jobs
from watcher.sandbox.sagemaker.api_errors import ApiError
from watcher.sandbox.sagemaker.listing import listed
from watcher.sandbox.sagemaker.training_job import (
    DEBUG_RULES,
    PROFILER_RULES,
    TrainingJob,
    check_deletable,
    created,
    entered,
    placed,
    stopping,
    with_rule,
)

NAME = "Churn-XGB-2026-11-18-09-30-02-114"
RULE = "LossNotDecreasing"


def request(**members: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": NAME,
        "RoleArn": "arn:aws:iam::111122223333:role/training",
        "OutputDataConfig": {"S3OutputPath": "s3://churn/out"},
        "DebugRuleConfigurations": [{"RuleConfigurationName": RULE, "RuleEvaluatorImage": "rules:latest"}],
        **members,
    }


def a_job(now: float = 1000.0, **members: Any) -> TrainingJob:
    return created(request(**members), account="111122223333", region="us-east-1", now=now)


def statuses(job: TrainingJob) -> list[tuple[str, float, float | None]]:
    return [
        (entry["Status"], entry["StartTime"], entry.get("EndTime"))
        for entry in job.record["SecondaryStatusTransitions"]
    ]


def test_a_new_job_keeps_its_request_and_starts() -> None:
    job = a_job(Tags=[{"Key": "team", "Value": "growth"}], EnableManagedSpotTraining=True)
    assert (job.status, job.record["SecondaryStatus"]) == ("InProgress", "Starting")
    assert job.record["OutputDataConfig"] == {"KmsKeyId": "", "S3OutputPath": "s3://churn/out"}
    assert job.record["ModelArtifacts"] == {"S3ModelArtifacts": f"s3://churn/out/{NAME}/output/model.tar.gz"}
    assert job.record["EnableManagedSpotTraining"] is True
    assert job.tags == {"team": "growth"}
    assert "Tags" not in job.record


def test_each_rule_of_a_new_job_is_in_progress_without_details_and_without_a_processing_job() -> None:
    (status,) = a_job().record[DEBUG_RULES]
    assert status == {
        "RuleConfigurationName": RULE,
        "RuleEvaluationStatus": "InProgress",
        "LastModifiedTime": 1000.0,
    }


@pytest.mark.parametrize(
    ("members", "rules"),
    [
        ({"ProfilerConfig": {"S3OutputPath": "s3://churn/profile"}}, ["ProfilerReport-1000"]),
        ({"ProfilerConfig": {"DisableProfiler": True}}, []),
        ({}, []),
        (
            {
                "ProfilerConfig": {"S3OutputPath": "s3://churn/profile"},
                "ProfilerRuleConfigurations": [
                    {"RuleConfigurationName": "LowGPUUtilization", "RuleEvaluatorImage": "rules:latest"}
                ],
            },
            ["LowGPUUtilization"],
        ),
    ],
)
def test_a_profiled_job_without_profiler_rules_gets_a_profiler_report(
    members: dict[str, Any], rules: list[str]
) -> None:
    record = a_job(1000.7, **members).record
    assert [rule["RuleConfigurationName"] for rule in record.get(PROFILER_RULES, ())] == rules


def test_a_transition_ends_when_the_next_begins() -> None:
    job = entered(entered(a_job(), "Downloading", 1010.0), "Training", 1020.0)
    assert statuses(job) == [
        ("Starting", 1000.0, 1010.0),
        ("Downloading", 1010.0, 1020.0),
        ("Training", 1020.0, None),
    ]
    assert job.record["TrainingStartTime"] == job.record["LastModifiedTime"] == 1020.0


def test_the_end_closes_the_last_transition_and_says_how_long_it_took() -> None:
    job = entered(entered(a_job(), "Training", 1020.0), "Completed", 1080.0, TrainingJobStatus="Completed")
    assert statuses(job)[-1] == ("Completed", 1080.0, 1080.0)
    assert job.record["TrainingEndTime"] == 1080.0
    assert job.record["TrainingTimeInSeconds"] == job.record["BillableTimeInSeconds"] == 60


def test_moving_a_job_forward_does_not_change_the_record_a_reader_holds() -> None:
    before = a_job()
    entered(before, "Downloading", 1010.0)
    assert statuses(before) == [("Starting", 1000.0, None)]


def test_only_a_job_in_progress_can_be_stopped() -> None:
    job = stopping(a_job(), 1010.0)
    assert (job.status, job.record["SecondaryStatus"]) == ("Stopping", "Stopping")
    with pytest.raises(ApiError, match=r"rejected because the training job is in status Stopping\."):
        stopping(job, 1011.0)


def the_rule(job: TrainingJob) -> RuleJob:
    return next(rule_jobs(job))


def test_the_processing_job_of_a_rule_is_lower_case_and_its_log_stream_is_not() -> None:
    job = a_job()
    arn = evaluation_job_arn(job, RULE)
    suffix = arn[-8:]
    assert arn == (
        "arn:aws:sagemaker:us-east-1:111122223333:processing-job/"
        f"churn-xgb-2026-11-18-09-30-lossnotdecreasing-{suffix}"
    )
    rule = the_rule(with_rule(job, DEBUG_RULES, RULE, 1001.0, RuleEvaluationJobArn=arn))
    assert rule.log_stream == f"Churn-XGB-2026-11-18-09-30-LossNotDecreasing-{suffix}/algo-1-1000000"


def test_a_long_name_is_cut_to_the_limit_of_a_processing_job() -> None:
    job = a_job(TrainingJobName="j" * 63)
    arn = evaluation_job_arn(job, "A rule/with a name of any length at all")
    assert len(arn.rpartition("/")[2]) <= 63


@pytest.mark.parametrize(
    ("rule_status", "job_status"),
    [
        ("IssuesFound", "Completed"),
        ("NoIssuesFound", "Completed"),
        ("Error", "Failed"),
        ("Stopped", "Stopped"),
    ],
)
def test_a_rule_that_has_ended_has_a_processing_job_that_has_ended(rule_status: str, job_status: str) -> None:
    job = with_rule(a_job(), DEBUG_RULES, RULE, 1030.0, RuleEvaluationStatus=rule_status)
    record = the_rule(job).processing_job()
    assert (record["ProcessingJobStatus"], record["ProcessingEndTime"]) == (job_status, 1030.0)


def test_a_final_rule_status_stays() -> None:
    fired = with_rule(a_job(), DEBUG_RULES, RULE, 1030.0, RuleEvaluationStatus="IssuesFound")
    stopped = with_rule(fired, DEBUG_RULES, RULE, 1031.0, RuleEvaluationStatus="Stopped")
    assert stopped.record[DEBUG_RULES] == fired.record[DEBUG_RULES]


def modified(job: TrainingJob) -> float:
    return float(job.record["LastModifiedTime"])


def test_a_change_of_the_job_or_of_a_rule_is_a_modification_and_a_repetition_is_none() -> None:
    job = a_job()
    assert modified(entered(job, "Downloading", 1010.0)) == 1010.0
    fired = with_rule(job, DEBUG_RULES, RULE, 1030.0, RuleEvaluationStatus="IssuesFound")
    assert modified(fired) == 1030.0
    assert with_rule(fired, DEBUG_RULES, RULE, 1031.0, RuleEvaluationStatus="IssuesFound") is fired
    assert with_rule(fired, DEBUG_RULES, "NoSuchRule", 1031.0, RuleEvaluationStatus="Error") is fired
    assert with_rule(job, DEBUG_RULES, RULE, 1031.0, RuleEvaluationStatus="InProgress") is job


def test_only_a_job_that_has_ended_can_be_deleted() -> None:
    check_deletable(entered(a_job(), "Failed", 1010.0, TrainingJobStatus="Failed"))
    for job in (a_job(), stopping(a_job(), 1010.0)):
        with pytest.raises(ApiError, match=f"rejected because the training job is in status {job.status}"):
            check_deletable(job)


def types_and_statuses(events: list[Event]) -> list[tuple[str, str]]:
    return [
        (
            event.detail_type.split()[1],
            event.detail.get("SecondaryStatus") or event.detail["ProcessingJobStatus"],
        )
        for event in events
    ]


def test_every_transition_sends_an_event_and_the_end_sends_two() -> None:
    new = a_job()
    training = entered(new, "Training", 1020.0)
    completed = entered(training, "Completed", 1080.0, TrainingJobStatus="Completed")
    assert types_and_statuses(list(between(None, new))) == [("Training", "Starting")]
    assert types_and_statuses(list(between(new, training))) == [("Training", "Training")]
    assert types_and_statuses(list(between(training, completed))) == [("Training", "Completed")] * 2
    assert list(between(completed, completed)) == []


def test_a_rule_that_finds_an_issue_sends_events_of_both_jobs() -> None:
    training = entered(a_job(), "Training", 1020.0)
    arn = evaluation_job_arn(training, RULE)
    running = with_rule(training, DEBUG_RULES, RULE, 1021.0, RuleEvaluationJobArn=arn)
    fired = with_rule(running, DEBUG_RULES, RULE, 1030.0, RuleEvaluationStatus="IssuesFound")
    events = list(between(running, fired))
    assert types_and_statuses(events) == [
        ("Processing", "Completed"),
        ("Processing", "Completed"),
        ("Training", "Training"),
    ]
    assert events[-1].detail[DEBUG_RULES][0]["RuleEvaluationStatus"] == "IssuesFound"


def test_an_event_has_times_in_milliseconds_and_tags_as_a_map() -> None:
    before = a_job(Tags=[{"Key": "team", "Value": "growth"}])
    (event,) = between(before, entered(before, "Training", 1020.5))
    assert event.resource == before.arn
    assert event.detail["Tags"] == {"team": "growth"}
    assert event.detail["CreationTime"] == 1_000_000
    assert event.detail["TrainingStartTime"] == "1020500"
    assert event.detail["SecondaryStatusTransitions"][0]["EndTime"] == 1_020_500
    assert DEBUG_RULES not in event.detail


def put(old: TrainingJob | None = None, now: float = 1000.0, **members: Any) -> TrainingJob:
    return placed(NAME, members, account="111122223333", region="us-east-1", now=now, old=old)


def test_a_job_can_be_placed_in_a_state_that_sagemaker_does_not_know_yet() -> None:
    job = put(TrainingJobStatus="Hibernating", SecondaryStatus="Dreaming")
    assert (job.status, job.record["SecondaryStatus"]) == ("Hibernating", "Dreaming")


def test_a_job_placed_in_an_ended_status_has_ended_now() -> None:
    job = put(TrainingJobStatus="Failed", FailureReason="AlgorithmError: no")
    assert job.record["SecondaryStatus"] == "Failed"
    assert job.record["TrainingEndTime"] == 1000.0


def test_placing_a_job_again_changes_only_the_given_fields() -> None:
    first = put(Tags=[{"Key": "team", "Value": "growth"}], HyperParameters={"eta": "1"})
    status = {"RuleConfigurationName": RULE, "RuleEvaluationStatus": "IssuesFound"}
    second = put(first, now=1010.0, DebugRuleEvaluationStatuses=[status])
    assert second.record[DEBUG_RULES] == [status | {"LastModifiedTime": 1010.0}]
    assert second.record["HyperParameters"] == {"eta": "1"}
    assert second.tags == {"team": "growth"}
    assert second.record["LastModifiedTime"] == 1010.0
    assert statuses(second) == statuses(first)


def test_placing_a_job_as_it_is_and_changing_its_tags_are_no_modifications() -> None:
    status = {"RuleConfigurationName": RULE, "RuleEvaluationStatus": "InProgress"}
    first = put(DebugRuleEvaluationStatuses=[status], TrainingJobStatus="Failed")
    again = put(first, now=1010.0, DebugRuleEvaluationStatuses=[status], TrainingJobStatus="Failed")
    assert again.record == first.record
    tagged = put(first, now=1010.0, Tags=[{"Key": "team", "Value": "growth"}])
    assert (tagged.record, tagged.tags) == (first.record, {"team": "growth"})


def test_a_job_can_be_placed_as_one_that_has_ended_earlier() -> None:
    job = put(now=5000.0, CreationTime=1000.0, LastModifiedTime=1600.0, TrainingJobStatus="Stopped")
    assert job.record["TrainingEndTime"] == modified(job) == 1600.0
    assert statuses(job)[-1] == ("Stopped", 1600.0, 1600.0)


def test_an_unknown_member_is_refused_by_name() -> None:
    with pytest.raises(ApiError, match="no member TrainingJobState"):
        put(TrainingJobState="Failed")


def names(answer: dict[str, Any]) -> list[str]:
    return [summary["TrainingJobName"] for summary in answer["TrainingJobSummaries"]]


def records_of(**members_by_name: dict[str, Any]) -> list[dict[str, Any]]:
    """Records of jobs that were created one second after the other, from second 0 on."""
    return [
        placed(
            name,
            {"CreationTime": float(second), **members},
            account="111122223333",
            region="us-east-1",
            now=float(second),
            old=None,
        ).record
        for second, (name, members) in enumerate(members_by_name.items())
    ]


@pytest.mark.parametrize(
    "condition",
    [
        {"StatusEquals": "InProgress"},
        {"NameContains": "third"},
        {"LastModifiedTimeAfter": 1.0},
    ],
    ids=lambda condition: next(iter(condition)),
)
def test_a_list_is_filtered_after_cutting_the_page(condition: dict[str, Any]) -> None:
    ended = {"TrainingJobStatus": "Completed"}
    records = records_of(first=ended, second=ended, third={})
    first = listed("TrainingJob", {"MaxResults": 2, **condition}, records)
    assert names(first) == []
    second = listed("TrainingJob", {"MaxResults": 2, **condition, "NextToken": first["NextToken"]}, records)
    assert names(second) == ["third"]
    assert "NextToken" not in second


def test_the_times_of_creation_choose_which_pages_a_list_has() -> None:
    records = records_of(first={}, second={}, third={})
    answer = listed("TrainingJob", {"MaxResults": 1, "CreationTimeAfter": 1.0}, records)
    assert names(answer) == ["third"]
    assert "NextToken" not in answer


@pytest.mark.parametrize(
    ("condition", "chosen"),
    [
        ({"SortBy": "CreationTime", "SortOrder": "Descending"}, ["third", "second", "first"]),
        ({"NameContains": "IR"}, ["first", "third"]),
        ({"CreationTimeAfter": 0.0, "CreationTimeBefore": 2.0}, ["second"]),
        ({"LastModifiedTimeAfter": 2.0}, ["first"]),
        ({"LastModifiedTimeAfter": 1.0, "LastModifiedTimeBefore": 60.0}, ["third"]),
        ({"LastModifiedTimeBefore": 2.0}, ["second"]),
    ],
)
def test_a_list_has_an_order_and_conditions(condition: dict[str, Any], chosen: list[str]) -> None:
    records = records_of(first={"LastModifiedTime": 60.0}, second={}, third={})
    assert names(listed("TrainingJob", condition, records)) == chosen
