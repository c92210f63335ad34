"""The commands on the page on runs print what the page shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.contract.samples import case, change, finding, incident, look, opens
from tests.docs.pages import read
from tests.profiler_files import system_file
from tests.shell.conftest import CommandResult
from watcher.aws.accounts import Accounts
from watcher.jobs.find import find_job
from watcher.model import FindingKind, incident_id
from watcher.sandbox.process import Sandbox
from watcher.store import open_store

Watcher = Callable[..., CommandResult]
ACCOUNT, ACCOUNT_ON_PAGE = "123456789012", "111122223333"
BUCKET = "ml-churn"
BEGAN = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
CODE = f"s3://{BUCKET}/code/sourcedir.tar.gz"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/training"
RULE = {
    "RuleConfigurationName": "Overfit",
    "RuleEvaluatorImage": "debugger-rules",
    "RuleParameters": {"rule_to_invoke": "Overfit"},
}
SETTINGS = """
[slack]
bot_token = "xoxb-1"
channel = "#ml"

[prices]
"ml.m5.xlarge" = 0.23
"""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


def shown(command: str) -> tuple[list[str], list[str]]:
    """The arguments of an example on the page, and what it prints, in parts. "…" on a line of its own stands
    for what the page leaves out."""
    [(arguments, output)] = re.findall(
        rf"^```\n\$ watcher ({command} .*)\n(.*?)^```", read("docs/runs.md"), re.MULTILINE | re.DOTALL
    )
    return arguments.replace(ACCOUNT_ON_PAGE, ACCOUNT).split(), output.split("…\n")


def assert_printed(watcher: Watcher, command: str) -> None:
    arguments, parts = shown(command)
    printed = watcher(*arguments).out.replace(ACCOUNT, ACCOUNT_ON_PAGE)
    if len(parts) == 1:
        assert printed == parts[0]
    for number, part in enumerate(parts):
        before, found, printed = printed.partition(part) if part else ("", "", printed)
        assert found == part
        assert number or not before


def channel(name: str, uri: str) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}


def put(sandbox: Sandbox, number: int, *channels: dict[str, Any], **members: Any) -> None:
    name, created = f"churn-deep-{number}", BEGAN + timedelta(hours=number)
    phases = [
        ("Starting", 0, 60, "Preparing the instances for training"),
        ("Downloading", 60, 120, "Downloading input data"),
        ("Training", 120, 2520, "Training image download completed. Training in progress."),
    ]
    sandbox.control.put_training_job(
        name,
        **{
            "TrainingJobStatus": "Completed",
            "CreationTime": created.timestamp(),
            "TrainingStartTime": created.timestamp() + 60,
            "TrainingEndTime": created.timestamp() + 2520,
            "SecondaryStatusTransitions": [
                {
                    "Status": status,
                    "StartTime": created.timestamp() + begin,
                    "EndTime": created.timestamp() + end,
                    "StatusMessage": message,
                }
                for status, begin, end, message in phases
            ],
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            "InputDataConfig": [channel("train", f"s3://{BUCKET}/data/train"), *channels],
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out/"},
            "ModelArtifacts": {"S3ModelArtifacts": f"s3://{BUCKET}/out/{name}/output/model.tar.gz"},
            "HyperParameters": {
                "max_depth": "16",
                "sagemaker_program": '"train.py"',
                "sagemaker_submit_directory": f'"{CODE}"',
            },
            "ExperimentConfig": {"ExperimentName": "churn"},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
            "RoleArn": ROLE,
            **members,
        },
    )


@pytest.fixture
def runs(aws_environment: Sandbox) -> Sandbox:
    """`churn-deep-2`, which goes on from one run and from which another goes on, which failed."""
    with closing(aws_environment.client("s3")) as s3:
        s3.create_bucket(Bucket=BUCKET)
        for key, size in {
            **{f"data/train/{number}.csv": 4000 for number in range(12)},
            "code/sourcedir.tar.gz": 3100,
            "out/churn-deep-1/output/model.tar.gz": 12000,
            "out/churn-deep-2/output/model.tar.gz": 13000,
            "out/churn-deep-2/output/output.tar.gz": 1000,
        }.items():
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"x" * size)
    put(aws_environment, 1)
    for number in (2, 3):
        put(
            aws_environment,
            number,
            channel("model", f"s3://{BUCKET}/out/churn-deep-{number - 1}/output/model.tar.gz"),
            **(FAILED if number == 3 else {}),
        )
    return aws_environment


FAILED = {
    "TrainingJobStatus": "Failed",
    "FailureReason": "AlgorithmError: ExecuteUserScriptError: MemoryError",
    "DebugRuleConfigurations": [RULE],
    "DebugRuleEvaluationStatuses": [
        {
            "RuleConfigurationName": "Overfit",
            "RuleEvaluationStatus": "NoIssuesFound",
            "LastModifiedTime": (BEGAN + timedelta(hours=3, minutes=40)).timestamp(),
        }
    ],
}


def test_a_lineage(watcher: Watcher, runs: Sandbox):
    assert_printed(watcher, "lineage")


def test_one_job(watcher: Watcher, runs: Sandbox, monkeypatch: pytest.MonkeyPatch):
    Path("watcher.toml").write_text(SETTINGS)
    job = find_job(Accounts(), "churn-deep-3")
    ended = BEGAN + timedelta(hours=3, seconds=2523)
    failed = finding(
        job.name,
        run=job.run,
        incident=incident_id(job.run),
        kind=FindingKind.JOB_FAILED,
        rule=None,
        family=None,
        status="Failed",
        step=None,
        reason=FAILED["FailureReason"],
        opened_at=ended,
        says=(),
    )
    whole = case(
        job.name,
        incident=incident(job.name, id=incident_id(job.run), run=job.run, opened_at=ended),
        findings=(failed,),
        changes=(
            change(job.name, run=job.run, incident=incident_id(job.run), at=ended, text="the job failed"),
        ),
    )
    with closing(open_store("sqlite:///watcher.db")) as store:
        store.commit([look(job.name, opens(whole), snapshot=job)])
    monkeypatch.setattr(import_module("watcher.cli.show"), "now", lambda: BEGAN + timedelta(hours=4))

    assert_printed(watcher, "show")


def test_a_profile_and_a_profiler_rule(watcher: Watcher, aws_environment: Sandbox):
    with closing(aws_environment.client("s3")) as s3:
        s3.create_bucket(Bucket=BUCKET)
        for minute in range(10):
            key, text = system_file(
                BEGAN + timedelta(minutes=minute), gpu=12.0 + minute, cpu=5.0 + 10 * minute
            )
            s3.put_object(Bucket=BUCKET, Key=f"out/bert-large/profiler-output/{key}", Body=text.encode())
    aws_environment.control.put_training_job(
        "bert-large",
        TrainingJobStatus="Completed",
        CreationTime=BEGAN.timestamp() - 60,
        TrainingStartTime=BEGAN.timestamp(),
        TrainingEndTime=BEGAN.timestamp() + 600,
        ProfilerConfig={"S3OutputPath": f"s3://{BUCKET}/out/"},
        ResourceConfig={"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
    )

    assert_printed(watcher, "profile")
    assert_printed(watcher, "evaluate")


def test_what_a_role_may_do(watcher: Watcher, aws_environment: Sandbox):
    aws_environment.control.put_training_job(
        "churn-deep-3", DebugHookConfig={"S3OutputPath": f"s3://{BUCKET}/debug"}
    )
    policy = json.loads(read("deploy/policy.json").replace(ACCOUNT_ON_PAGE, ACCOUNT))
    with closing(aws_environment.client("iam")) as iam:
        iam.create_role(RoleName="watcher", AssumeRolePolicyDocument=json.dumps(TRUST))
        iam.put_role_policy(RoleName="watcher", PolicyName="watch", PolicyDocument=json.dumps(policy))

    assert_printed(watcher, "permissions")
