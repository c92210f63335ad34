"""The unmodified SageMaker Python SDK works with the sandbox. It runs in a separate process, because it is
heavy and warns. The code is that of a notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.doubles import containers
from tests.waiting import WAIT_LIMIT_S
from watcher.sandbox.process import Sandbox

NOTEBOOK = """
import json, sys, time
import boto3, jsonschema, sagemaker
from sagemaker.debugger import CollectionConfig, DebuggerHookConfig, Rule, rule_configs
from sagemaker.estimator import Estimator
from sagemaker.processing import ProcessingJob

sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.05))  # the SDK looks every five seconds
# The SDK validates its own schema for each setting that it looks up, which takes eight seconds in total.
jsonschema.Draft202012Validator.check_schema = lambda *_, **__: None

boto3.client("s3").create_bucket(Bucket="notebook")
boto3.client("s3").put_object(Bucket="notebook", Key="train/data.csv", Body=b"1,2")
session = sagemaker.Session(default_bucket="notebook")
estimator = Estimator(
    image_uri="683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.3-1",
    role="arn:aws:iam::123456789012:role/training",
    instance_count=1,
    instance_type="ml.m5.xlarge",
    output_path="s3://notebook/out",
    base_job_name="cookbook",
    sagemaker_session=session,
    hyperparameters={"num_round": "100"},
    debugger_hook_config=DebuggerHookConfig(
        s3_output_path="s3://notebook/debug",
        collection_configs=[CollectionConfig("metrics", parameters={"save_interval": "2"})],
    ),
    rules=[
        Rule.sagemaker(
            rule_configs.loss_not_decreasing(),
            rule_parameters={"collection_names": "metrics", "status": "IssuesFound", "step": "4"},
        )
    ],
)
estimator.fit({"train": "s3://notebook/train"}, wait=False)
job = estimator.latest_training_job
deadline = time.monotonic() + 100
while any(r["RuleEvaluationStatus"] == "InProgress" for r in job.rule_job_summary()):
    assert time.monotonic() < deadline, job.rule_job_summary()
    time.sleep(0.05)
rules = job.rule_job_summary()
processing = ProcessingJob.from_processing_arn(session, rules[0]["RuleEvaluationJobArn"])
attached = Estimator.attach(job.name, sagemaker_session=session)
print(json.dumps({
    "rules": [[r["RuleConfigurationName"], r["RuleEvaluationStatus"]] for r in rules],
    "processing": processing.describe()["ProcessingJobStatus"],
    "attached": attached.hyperparameters()["num_round"],
    "status": job.describe()["TrainingJobStatus"],
}))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """The output of the notebook."""
    commands = {"trainers": {"xgboost": containers.TRAINER}, "rule_evaluator": containers.RULE}
    with Sandbox.start(pace=0.02, **commands) as sandbox:
        notebook = subprocess.run(
            [sys.executable, "-c", NOTEBOOK],
            env={**os.environ, **sandbox.env},
            capture_output=True,
            text=True,
            timeout=WAIT_LIMIT_S,
            check=False,
        )
    assert notebook.returncode == 0, notebook.stderr
    answer: dict[str, Any] = json.loads(notebook.stdout.splitlines()[-1])
    return answer


def test_rule_job_summary_lists_debugger_and_profiler_rules(seen: dict[str, Any]) -> None:
    (debugger, profiler) = seen["rules"]
    assert debugger == ["LossNotDecreasing", "IssuesFound"]
    assert profiler[0].startswith("ProfilerReport-")
    assert profiler[1] == "NoIssuesFound"


def test_the_processing_job_of_a_rule_is_found_by_its_arn(seen: dict[str, Any]) -> None:
    assert seen["processing"] == "Completed"


def test_an_estimator_can_be_attached_to_a_job(seen: dict[str, Any]) -> None:
    assert seen["attached"] == "100"
    assert seen["status"] == "Completed"
