"""Training jobs and their rules run in the sandbox as real processes that do almost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.doubles import containers
from tests.doubles.training_requests import training_request, with_rule
from tests.waiting import eventually
from watcher.sandbox.process import Sandbox


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox.start(
        pace=0.02, trainers={"xgboost": containers.TRAINER}, rule_evaluator=containers.RULE, stop_timeout=0.3
    ) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.control.reset()
    return running


@pytest.fixture
def sagemaker(sandbox: Sandbox) -> Any:
    return sandbox.client("sagemaker")


def job_when(sagemaker: Any, name: str, *secondary: str) -> dict[str, Any]:
    def job() -> dict[str, Any] | None:
        found: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=name)
        return found if found["SecondaryStatus"] in secondary else None

    found: dict[str, Any] = eventually(job, f"{name} is {' or '.join(secondary)}")
    return found


def rules_when_final(sagemaker: Any, name: str, kind: str = "Debug") -> list[dict[str, Any]]:
    def rules() -> list[dict[str, Any]] | None:
        job = sagemaker.describe_training_job(TrainingJobName=name)
        found: list[dict[str, Any]] = job[f"{kind}RuleEvaluationStatuses"]
        final = all(rule["RuleEvaluationStatus"] not in {"InProgress", "Stopping"} for rule in found)
        return found if final else None

    found: list[dict[str, Any]] = eventually(rules, f"the rules of {name} have ended")
    return found


def log_lines(sandbox: Sandbox, group: str, stream: str) -> list[str]:
    events = sandbox.client("logs").get_log_events(logGroupName=group, logStreamName=stream)["events"]
    return [event["message"] for event in events]


def streams(sandbox: Sandbox, group: str) -> list[str]:
    return [
        stream["logStreamName"]
        for stream in sandbox.client("logs").describe_log_streams(logGroupName=group)["logStreams"]
    ]


def test_a_job_passes_through_the_secondary_statuses_of_a_real_one(sagemaker: Any) -> None:
    sagemaker.create_training_job(**training_request("whole-life"))
    job = job_when(sagemaker, "whole-life", "Completed")
    assert job["TrainingJobStatus"] == "Completed"
    assert [entry["Status"] for entry in job["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert job["CreationTime"] < job["TrainingStartTime"] < job["TrainingEndTime"]


def test_the_trainers_output_is_the_log_of_the_training_job(sandbox: Sandbox, sagemaker: Any) -> None:
    sagemaker.create_training_job(**training_request("talks"))
    job_when(sagemaker, "talks", "Completed")
    (stream,) = streams(sandbox, "/aws/sagemaker/TrainingJobs")
    assert stream.startswith("talks/algo-1-")
    assert log_lines(sandbox, "/aws/sagemaker/TrainingJobs", stream) == [
        f"training talks against {sandbox.endpoint}"
    ]


def test_empty_lines_are_not_logged(sandbox: Sandbox, sagemaker: Any) -> None:
    words = {"last_words": "first||last|"}
    sagemaker.create_training_job(**training_request("gaps", HyperParameters=words))
    job_when(sagemaker, "gaps", "Completed")
    group = "/aws/sagemaker/TrainingJobs"

    [stream] = streams(sandbox, group)
    lines = log_lines(sandbox, group, stream)
    # Two threads read its stdout and its stderr, so a line of one may come between those of the other.
    on_stdout = [line for line in lines if line.startswith("training gaps against ")]
    assert [line for line in lines if line not in on_stdout] == ["first", "last"]
    assert len(on_stdout) == 1


@pytest.mark.parametrize(
    ("last_words", "reason"),
    [
        ("Traceback:|ValueError: no such column", "AlgorithmError: Traceback:\nValueError: no such column"),
        ("a warning|ClientError: there is no channel train", "ClientError: there is no channel train"),
        ("x" * 2000, "AlgorithmError: " + "x" * 1008),
        ("", "AlgorithmError: exit code 1"),
    ],
    ids=["its own fault", "the job's fault", "many words", "no words"],
)
def test_a_failing_trainer_fails_the_job_with_its_last_line(
    sagemaker: Any, last_words: str, reason: str
) -> None:
    wishes = {"exit": "1", "last_words": last_words}
    sagemaker.create_training_job(**training_request("fails", HyperParameters=wishes))
    job = job_when(sagemaker, "fails", "Failed")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == reason


def test_an_image_that_the_sandbox_cannot_run_fails_the_job_and_lists_the_possible_ones(
    sagemaker: Any,
) -> None:
    image = {"TrainingImage": "example.com/pytorch-training:2", "TrainingInputMode": "File"}
    sagemaker.create_training_job(**training_request("torch", AlgorithmSpecification=image))
    reason = job_when(sagemaker, "torch", "Failed")["FailureReason"]
    assert "example.com/pytorch-training:2" in reason
    assert "xgboost" in reason


def test_stopping_ends_the_trainer_and_then_the_job(sagemaker: Any) -> None:
    sagemaker.create_training_job(**training_request("endless", HyperParameters={"seconds": "600"}))
    job_when(sagemaker, "endless", "Training")
    sagemaker.stop_training_job(TrainingJobName="endless")
    assert sagemaker.describe_training_job(TrainingJobName="endless")["TrainingJobStatus"] in {
        "Stopping",
        "Stopped",
    }
    job = job_when(sagemaker, "endless", "Stopped")
    assert job["TrainingJobStatus"] == "Stopped"
    assert [entry["Status"] for entry in job["SecondaryStatusTransitions"]][-2:] == ["Stopping", "Stopped"]


def test_a_trainer_that_ignores_sigterm_is_killed(sagemaker: Any) -> None:
    wishes = {"seconds": "600", "deaf": "yes"}
    sagemaker.create_training_job(**training_request("deaf", HyperParameters=wishes))
    job_when(sagemaker, "deaf", "Training")
    sagemaker.stop_training_job(TrainingJobName="deaf")
    job_when(sagemaker, "deaf", "Stopped")


def test_a_job_can_be_stopped_before_it_trains(sagemaker: Any) -> None:
    sagemaker.create_training_job(**training_request("early", HyperParameters={"seconds": "600"}))
    sagemaker.stop_training_job(TrainingJobName="early")
    job_when(sagemaker, "early", "Stopped")


def test_a_job_that_is_not_in_progress_cannot_be_stopped(sandbox: Sandbox, sagemaker: Any) -> None:
    sandbox.control.put_training_job("over", TrainingJobStatus="Completed")
    with pytest.raises(ClientError) as refused:
        sagemaker.stop_training_job(TrainingJobName="over")
    assert refused.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": "The request was rejected because the training job is in status Completed.",
    }
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_placed_job_can_be_stopped(sandbox: Sandbox, sagemaker: Any) -> None:
    sandbox.control.put_training_job("placed")
    sagemaker.stop_training_job(TrainingJobName="placed")
    job_when(sagemaker, "placed", "Stopped")


def test_a_job_that_exceeds_its_maximum_runtime_is_stopped(sagemaker: Any) -> None:
    members = {
        "HyperParameters": {"seconds": "600"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 1},
    }
    sagemaker.create_training_job(**training_request("too-long", **members))
    job = job_when(sagemaker, "too-long", "MaxRuntimeExceeded")
    assert job["TrainingJobStatus"] == "Stopped"


def test_a_rule_that_fires_reports_it_while_its_job_continues_training(
    sandbox: Sandbox, sagemaker: Any
) -> None:
    members = with_rule(status="IssuesFound", step="140", early="yes")
    sagemaker.create_training_job(
        **training_request("Fires-2026", HyperParameters={"seconds": "600"}, **members)
    )
    (rule,) = rules_when_final(sagemaker, "Fires-2026")
    assert rule["RuleEvaluationStatus"] == "IssuesFound"
    assert rule["StatusDetails"] == (
        "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 140 "
        "resulted in the condition being met\n"
    )
    assert sagemaker.describe_training_job(TrainingJobName="Fires-2026")["TrainingJobStatus"] == "InProgress"

    processing = sagemaker.describe_processing_job(
        ProcessingJobName=rule["RuleEvaluationJobArn"].rpartition("/")[2]
    )
    assert processing["ProcessingJobStatus"] == "Completed"
    assert processing["TrainingJobArn"].endswith("training-job/Fires-2026")

    suffix = rule["RuleEvaluationJobArn"][-8:]
    (stream,) = streams(sandbox, "/aws/sagemaker/ProcessingJobs")
    assert stream.startswith(f"Fires-2026-LossNotDecreasing-{suffix}/algo-1-")
    assert log_lines(sandbox, "/aws/sagemaker/ProcessingJobs", stream) == [
        "reading s3://churn/debug/Fires-2026/debug-output"
    ]


def test_a_rule_outlives_a_stopped_job_and_then_reports_its_result(sagemaker: Any) -> None:
    sagemaker.create_training_job(
        **training_request("stops", HyperParameters={"seconds": "600"}, **with_rule())
    )
    job_when(sagemaker, "stops", "Training")
    sagemaker.stop_training_job(TrainingJobName="stops")
    (rule,) = rules_when_final(sagemaker, "stops")
    assert rule["RuleEvaluationStatus"] == "NoIssuesFound"
    assert "StatusDetails" not in rule


@pytest.mark.parametrize(
    ("parameters", "details"),
    [
        (
            {"status": "Error", "details": "ClientError: No debugging data was saved by the training job."},
            "ClientError: No debugging data was saved by the training job.",
        ),
        (
            {"garbage": "yes"},
            "InternalServerError: The rule ended with exit code 3. reading s3://churn/debug",
        ),
    ],
)
def test_a_rule_that_cannot_judge_ends_in_error(
    sagemaker: Any, parameters: dict[str, str], details: str
) -> None:
    sagemaker.create_training_job(**training_request("errs", **with_rule(**parameters)))
    (rule,) = rules_when_final(sagemaker, "errs")
    assert rule["RuleEvaluationStatus"] == "Error"
    assert rule["StatusDetails"].startswith(details)


def test_a_rule_of_a_job_without_a_hook_finds_no_data(sagemaker: Any) -> None:
    members = with_rule()
    del members["DebugHookConfig"]
    sagemaker.create_training_job(**training_request("hookless", **members))
    (rule,) = rules_when_final(sagemaker, "hookless")
    assert rule["RuleEvaluationStatus"] == "Error"
    assert rule["StatusDetails"].startswith("ClientError: No debugging data was saved")


def test_the_profiler_report_ends_well_after_its_job(sagemaker: Any) -> None:
    sagemaker.create_training_job(
        **training_request("profiled", ProfilerConfig={"S3OutputPath": "s3://churn/profile"})
    )
    (rule,) = rules_when_final(sagemaker, "profiled", "Profiler")
    assert rule["RuleConfigurationName"].startswith("ProfilerReport-")
    assert rule["RuleEvaluationStatus"] == "NoIssuesFound"
    job_when(sagemaker, "profiled", "Completed")


def test_a_rule_job_can_be_stopped_separately(sagemaker: Any) -> None:
    sagemaker.create_training_job(
        **training_request("patient", HyperParameters={"seconds": "600"}, **with_rule())
    )

    def rule_job() -> str | None:
        [rule] = sagemaker.describe_training_job(TrainingJobName="patient")["DebugRuleEvaluationStatuses"]
        return rule.get("RuleEvaluationJobArn")

    name = eventually(rule_job, "the rule has a job").rpartition("/")[2]
    sagemaker.stop_processing_job(ProcessingJobName=name)
    (rule,) = rules_when_final(sagemaker, "patient")
    assert rule["RuleEvaluationStatus"] == "Stopped"
    with pytest.raises(ClientError, match="the processing job is in status Stopped"):
        sagemaker.stop_processing_job(ProcessingJobName=name)


def test_two_jobs_cannot_have_the_same_name(sagemaker: Any) -> None:
    sagemaker.create_training_job(**training_request("twin"))
    with pytest.raises(ClientError) as refused:
        sagemaker.create_training_job(**training_request("twin"))
    assert refused.value.response["Error"]["Code"] == "ResourceInUse"


def processes_of(sandbox: Sandbox) -> list[int]:
    """Every process of this sandbox, recognised by its environment."""
    return [
        process.pid
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get("AWS_ENDPOINT_URL") == sandbox.endpoint
    ]


def test_a_reset_ends_every_process_and_deletes_every_job(sandbox: Sandbox, sagemaker: Any) -> None:
    request = training_request("resident", HyperParameters={"seconds": "600"}, **with_rule())
    sagemaker.create_training_job(**request)
    eventually(lambda: len(processes_of(sandbox)) == 2, "a trainer and a rule run")
    sandbox.control.reset()
    assert processes_of(sandbox) == []
    assert sandbox.control.training_jobs() == []
    sagemaker.create_training_job(**request)


def test_a_new_job_with_the_name_of_a_deleted_one_runs_independently(
    sandbox: Sandbox, sagemaker: Any
) -> None:
    request = training_request("phoenix", HyperParameters={"seconds": "600"}, **with_rule())
    sagemaker.create_training_job(**request)
    job_when(sagemaker, "phoenix", "Training")
    sandbox.control.delete_training_job("phoenix")
    assert processes_of(sandbox) == []
    sagemaker.create_training_job(**request)
    job_when(sagemaker, "phoenix", "Training")
    eventually(lambda: len(processes_of(sandbox)) == 2, "a trainer and a rule run")


@pytest.mark.parametrize("stopped", [False, True], ids=["in progress", "stopping"])
def test_a_job_that_has_not_ended_cannot_be_deleted(sagemaker: Any, stopped: bool) -> None:
    hyperparameters = {"seconds": "600", "deaf": "yes"}
    sagemaker.create_training_job(**training_request("busy", HyperParameters=hyperparameters))
    job_when(sagemaker, "busy", "Training")
    if stopped:
        sagemaker.stop_training_job(TrainingJobName="busy")
    with pytest.raises(ClientError) as refused:
        sagemaker.delete_training_job(TrainingJobName="busy")
    assert refused.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": "The request was rejected because the training job is in status "
        f"{'Stopping' if stopped else 'InProgress'}.",
    }


def test_nothing_of_a_deleted_job_is_shown_in_the_next_one_with_its_name(sagemaker: Any) -> None:
    request = training_request("phoenix", **with_rule(status="IssuesFound", step="7", early="yes"))
    tags = [{"Key": "run", "Value": "first"}]
    sagemaker.create_training_job(**request, Tags=tags, HyperParameters={"exit": "1", "last_words": "no"})
    first = job_when(sagemaker, "phoenix", "Failed")
    [fired] = rules_when_final(sagemaker, "phoenix")

    sagemaker.delete_training_job(TrainingJobName="phoenix")

    with pytest.raises(ClientError, match=r"Requested resource not found\."):
        sagemaker.describe_training_job(TrainingJobName="phoenix")
    assert sagemaker.search(Resource="TrainingJob")["Results"] == []
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []
    assert sagemaker.list_processing_jobs()["ProcessingJobSummaries"] == []

    sagemaker.create_training_job(**request, HyperParameters={"seconds": "600"})
    second = job_when(sagemaker, "phoenix", "Training")
    assert second["TrainingJobArn"] == first["TrainingJobArn"]
    assert second["CreationTime"] > first["LastModifiedTime"]
    assert not {"FailureReason", "TrainingEndTime"} & second.keys()
    assert sagemaker.list_tags(ResourceArn=second["TrainingJobArn"])["Tags"] == []
    [again] = rules_when_final(sagemaker, "phoenix")
    assert again["RuleEvaluationJobArn"] != fired["RuleEvaluationJobArn"]
    assert again["LastModifiedTime"] > fired["LastModifiedTime"]


def test_placing_a_running_job_ends_its_processes_and_sets_its_state(
    sandbox: Sandbox, sagemaker: Any
) -> None:
    request = training_request("interrupted", HyperParameters={"seconds": "600"}, **with_rule())
    sagemaker.create_training_job(**request)
    job_when(sagemaker, "interrupted", "Training")
    sandbox.control.put_training_job("interrupted", SecondaryStatus="Interrupted")
    assert processes_of(sandbox) == []
    job = sagemaker.describe_training_job(TrainingJobName="interrupted")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("InProgress", "Interrupted")
