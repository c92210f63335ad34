"""The permissions of `deploy/policy.json` are enough for the daemon, and to look at a job.

The sandbox's IAM checks each request against the policies of the user who signed it. It ignores conditions,
so whether the policy protects a job without the tag `watcher:stop` can be tested only at AWS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import blocks, changed, issue, running, texts
from tests.e2e.deployment import Deployment, deploy
from tests.e2e.user import enforced_permissions
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox


@pytest.fixture
def deployment(config: Config, sandbox: Sandbox, trial: tuple[Path, int]) -> Iterator[Deployment]:
    deployment = deploy(sandbox, config, trial[0])
    with enforced_permissions(sandbox):
        yield deployment


def start_training() -> str:
    """Start a training as a data scientist does, in a separate process with other permissions."""
    command = "from watcher.sandbox.cookbook import start_training; print(start_training())"
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, "SAGEMAKER_SUPPRESS_V2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]


def test_a_job_is_found_evaluated_reported_and_stopped(
    deployment: Deployment, sandbox: Sandbox, slack: SlackDouble
):
    deployment.act()

    with capture_logs() as logged, running(App(deployment.config)) as app:
        eventually(lambda: sandbox.control.training_jobs()[0]["TrainingJobStatus"] == "Stopped", "the stop")
        eventually(lambda: app.store.next_due() is None, "every delivery")
        eventually(lambda: sandbox.control.calls().get("logs:PutLogEvents"), "the log of the evaluation")
        eventually(lambda: sandbox.control.calls().get("sqs:DeleteMessageBatch"), "a handled message")

    assert [line for line in logged if line["log_level"] in ("warning", "error")] == []
    (alert,) = [message for message in slack.messages if "found an issue" in message["text"]]
    assert "Loss is not decreasing" in json.dumps(alert["blocks"])
    assert "permission" not in json.dumps(alert["blocks"])


def test_an_issue_that_only_watcher_found_is_reported_with_its_evaluation_log(
    deployment: Deployment, sandbox: Sandbox, slack: SlackDouble
):
    debugger_is_at_it = {**issue(), "RuleEvaluationStatus": "InProgress", "StatusDetails": ""}
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[debugger_is_at_it])
    deployment.act()

    with running(App(deployment.config)):
        eventually(lambda: slack.messages, "an alert")

    alert = blocks(slack)
    assert "Started execution of rule LossNotDecreasing" in alert
    assert "permission" not in alert


def test_the_whole_demo_runs_with_the_policy(deployment: Deployment, sandbox: Sandbox, slack: SlackDouble):
    name = start_training()
    deployment.act()

    def status() -> str:
        (job,) = (job for job in sandbox.control.training_jobs() if job["TrainingJobName"] == name)
        return str(job["TrainingJobStatus"])

    with capture_logs() as logged, running(App(changed(deployment.config, watch={"tags": {}}))) as app:
        eventually(lambda: [text for text in texts(slack) if name in text], "an alert")
        eventually(lambda: status() == "Stopped", "the stop")
        eventually(lambda: app.store.next_due() is None, "every delivery")

    assert [line for line in logged if line["log_level"] in ("warning", "error")] == []
    (alert,) = [message for message in slack.messages if f"found an issue in {name}" in message["text"]]
    assert "oss is not decreasing" in json.dumps(alert["blocks"])
    assert "Stopped by Watcher" in json.dumps(alert["blocks"])
    assert [file for file in slack.files if name in file["title"]]


def command(*arguments: str, folder: Path) -> dict[str, Any]:
    """What a command prints as JSON, run in an empty folder by the user with the policy."""
    done = subprocess.run(
        [sys.executable, "-m", "watcher", *arguments, "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_a_job_can_be_shown_and_traced_and_what_the_policy_lacks_is_named(
    deployment: Deployment, tmp_path: Path
):
    deployment.act()

    shown = command("show", "latest", folder=tmp_path)
    traced = command("lineage", "chu", folder=tmp_path)

    assert (shown["job"], shown["read_from"]) == ("churn", "sagemaker")
    assert [sentence.partition(":")[0] for sentence in shown["not_read"]] == ["findings"]
    assert traced["debug_output"]["exists"] is True
    assert "no permission for s3:ListBucket" in traced["model"]["not_read"]
    [sentence] = traced["not_read"]
    assert sentence.startswith("what was made from its model: no permission for sagemaker:ListArtifacts")
