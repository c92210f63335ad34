"""`watcher show`: what the store and SageMaker know of one job, in the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.contract.samples import case, finding, incident, look, opens
from tests.shell.conftest import CommandResult
from tests.shell.test_cli_evaluate import BUCKET, put_job
from tests.trials import CREATED_AT, upload
from watcher.aws.accounts import Accounts
from watcher.jobs.find import find_job
from watcher.model import JobSnapshot, Judge, Says, incident_id
from watcher.sandbox.cookbook import PARAMETERS
from watcher.sandbox.process import Sandbox
from watcher.store import open_store

Watcher = Callable[..., CommandResult]
BEGAN = datetime(2026, 11, 20, 10, 0, tzinfo=UTC).timestamp()
PHASES = [
    {
        "Status": "Starting",
        "StartTime": BEGAN,
        "EndTime": BEGAN + 60,
        "StatusMessage": "Preparing the instances for training",
    },
    {"Status": "Training", "StartTime": BEGAN + 60, "StatusMessage": "Training in progress"},
    {
        "Status": "Failed",
        "StartTime": BEGAN + 3660,
        "EndTime": BEGAN + 3660,
        "StatusMessage": "Training job failed",
    },
]
SETTINGS = """
[slack]
bot_token = "xoxb-1"
channel = "#ml"

[prices]
"ml.m5.xlarge" = 0.23

[[route]]
job = "churn*"
rule = "LossNotDecreasing"
to = ["slack:#prod"]
stop = true
"""


def put_failed(sandbox: Sandbox, name: str = "churn", **members: Any) -> None:
    sandbox.control.put_training_job(
        name,
        **{
            "TrainingJobStatus": "Failed",
            "CreationTime": BEGAN,
            "TrainingStartTime": BEGAN + 60,
            "TrainingEndTime": BEGAN + 3660,
            "SecondaryStatusTransitions": PHASES,
            "FailureReason": "AlgorithmError: out of memory",
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30},
            "HyperParameters": {"max_depth": "5", "api_token": "hunter2"},
            "ExperimentConfig": {"ExperimentName": "trees", "TrialName": "deep"},
            "TuningJobArn": "arn:aws:sagemaker:us-east-1:123456789012:hyper-parameter-tuning-job/sweep",
            "DebugRuleConfigurations": [
                {
                    "RuleConfigurationName": "LossNotDecreasing",
                    "RuleEvaluatorImage": "debugger-rules",
                    "RuleParameters": {"rule_to_invoke": "LossNotDecreasing"},
                }
            ],
            **members,
        },
    )


def store_look(job: JobSnapshot, *, found: bool = False, step: int = 24) -> None:
    concerned = finding(
        job.name,
        run=job.run,
        incident=incident_id(job.run),
        step=step,
        reason="the loss stands still",
        says=(Says(Judge.DEBUGGER, "IssuesFound", job.created_at, step, "the loss stands still"),),
    )
    whole = case(
        job.name,
        incident=incident(job.name, id=incident_id(job.run), run=job.run),
        findings=(concerned,),
        changes=(),
    )
    with closing(open_store("sqlite:///watcher.db")) as store:
        store.commit([look(job.name, opens(whole) if found else None, snapshot=job)])


def test_a_job_that_watcher_never_saw_is_shown_with_phases_cost_and_routes(
    watcher: Watcher, aws_environment: Sandbox
):
    put_failed(aws_environment)
    Path("watcher.toml").write_text(SETTINGS)

    shown = watcher("show", "churn", "--json").json

    assert (shown["known"], shown["read_from"], shown["status"]) == (False, "sagemaker", "Failed")
    assert shown["failure_reason"] == "AlgorithmError: out of memory"
    assert [(phase["status"], phase["seconds"]) for phase in shown["phases"]] == [
        ("Starting", 60),
        ("Training", 3600),  # SageMaker gives it no end: it ended when the next phase began
        ("Failed", 0),
    ]
    assert (shown["experiment"], shown["trial"], shown["tuning_job"]) == ("trees", "deep", "sweep")
    assert (shown["training_seconds"], shown["cost"]["so_far"]) == (3600, pytest.approx(0.46))
    assert shown["hyperparameters"] == {"max_depth": "5"}
    assert shown["hidden_hyperparameters"] == ["api_token"]
    assert [(route["rule"], route["to"], route["stop"]) for route in shown["routes"]] == [
        ("LossNotDecreasing", ["slack:#prod"], "not_running"),
        (None, ["slack:#ml"], "not_running"),
    ]
    assert [link["what"] for link in shown["links"]] == ["job", "log", "model"]
    [missing] = shown["not_read"]
    assert missing.startswith("findings: there is no store at watcher.db yet")


def test_the_readable_form_has_a_table_for_each_part(watcher: Watcher, aws_environment: Sandbox):
    put_failed(aws_environment)
    Path("watcher.toml").write_text(SETTINGS)

    out = " ".join(watcher("show", "churn").out.split())

    for words in (
        "cost $0.46 (2 × ml.m5.xlarge at $0.23 an hour each; billed time)",
        "trained for 1 h of 1 d at most",
        "experiment trees, trial deep",
        "Training 2026-11-20 10:01:00 1 h Training in progress",
        "api_token (not shown: it may be a secret)",
        "slack:#prod [[route]] job churn*, rule LossNotDecreasing",
        "https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/jobs/churn",
    ):
        assert words in out
    assert "hunter2" not in out


def test_a_known_job_is_shown_as_sagemaker_has_it_now_with_what_only_the_store_has(
    watcher: Watcher, aws_environment: Sandbox
):
    put_failed(aws_environment, TrainingJobStatus="InProgress")
    store_look(find_job(Accounts(), "churn"), found=True)
    put_failed(aws_environment)

    shown = watcher("show", "churn", "--json").json

    assert (shown["known"], shown["status"], shown["not_read"]) == (True, "Failed", [])
    [told] = shown["told"]
    assert told["reason"] == "the loss stands still"
    assert shown["routes"][0]["finding"] == told["id"]


def test_the_values_that_decided_a_finding_are_read_again(
    watcher: Watcher, aws_environment: Sandbox, trial: tuple[Path, int]
):
    folder, step = trial
    with closing(aws_environment.client("s3")) as s3:
        s3.create_bucket(Bucket=BUCKET)
        upload(folder, s3, BUCKET, "churn")
    put_job(aws_environment, "churn", {"LossNotDecreasing": PARAMETERS})
    store_look(find_job(Accounts(), "churn"), found=True, step=step)

    ran, printed = watcher("show", "churn", "--json"), watcher("show", "churn").out

    [values] = ran.json["values"]
    assert [reading["step"] for reading in values["deciding"]] == [step - 2, step]
    assert f"between step {step - 2} and step {step}" in values["explanation"]
    assert "Values that decided" in printed
    assert f"{values['deciding'][1]['value']:.6g}" in printed


def test_a_job_that_is_gone_from_sagemaker_is_shown_from_the_store(
    watcher: Watcher, aws_environment: Sandbox
):
    put_failed(aws_environment)
    store_look(find_job(Accounts(), "churn"), found=True)
    aws_environment.control.delete_training_job("churn")

    shown = watcher("show", "churn", "--json").json

    assert (shown["read_from"], shown["status"], len(shown["told"])) == ("store", "Failed", 1)
    assert shown["not_read"] == ["SageMaker no longer has this job: shown as the store has it"]
    assert shown["phases"] == []


def test_without_permission_a_job_is_shown_from_the_store_with_what_could_not_be_read(
    watcher: Watcher, aws_environment: Sandbox
):
    put_failed(aws_environment)
    store_look(find_job(Accounts(), "churn"))
    aws_environment.control.inject_fault(
        "sagemaker:DescribeTrainingJob", "AccessDeniedException", "not authorized", times=1
    )

    ran = watcher("show", "churn")

    assert ran.code == 0
    [line] = [line for line in ran.out.splitlines() if line.startswith("not read")]
    assert "no permission for sagemaker:DescribeTrainingJob" in line
    assert line.endswith("shown as the store has it")


def test_without_a_network_a_job_is_shown_from_the_store(
    watcher: Watcher, aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    put_failed(aws_environment)
    store_look(find_job(Accounts(), "churn"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    shown = watcher("show", "churn", "--json").json

    assert shown["read_from"] == "store"
    assert "sagemaker:DescribeTrainingJob could not be reached" in shown["not_read"][0]


def test_of_a_name_that_was_used_again_the_newer_run_is_shown_with_the_earlier_one_beside_it(
    watcher: Watcher, aws_environment: Sandbox
):
    put_failed(aws_environment)
    earlier = find_job(Accounts(), "churn")
    store_look(earlier, found=True)
    aws_environment.control.delete_training_job("churn")
    aws_environment.control.put_training_job("churn", CreationTime=CREATED_AT + 10**6)

    newer = watcher("show", "churn", "--json").json
    older = watcher("show", earlier.run, "--json").json

    assert (newer["known"], newer["told"]) == (False, [])
    assert [run["run"] for run in newer["other_runs"]] == [earlier.run]
    assert (older["run"], older["read_from"], len(older["told"])) == (earlier.run, "store", 1)
    assert older["not_read"][0].startswith("SageMaker has only the run that was created at")


def test_a_job_that_nobody_has_is_a_usage_error_without_a_store_too(
    watcher: Watcher, aws_environment: Sandbox
):
    ran = watcher("show", "churn")

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("watcher: there is no training job churn in us-east-1")


def test_a_running_job_says_how_long_it_has_been_in_its_phase(watcher: Watcher, aws_environment: Sandbox):
    aws_environment.control.put_training_job("churn", TrainingJobStatus="InProgress")

    shown, printed = watcher("show", "churn", "--json").json, watcher("show", "churn").out

    assert shown["phases"][-1]["ended_at"] is None
    assert " so far" in printed
