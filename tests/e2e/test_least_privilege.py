"""What `deploy/policy.json` allows is enough for all that the daemon does, and no action of it is spare.

The sandbox's IAM judges each request by the policies of whoever signed it. It does not look at the conditions
of statements, so that a job without the tag `watcher:stop` is spared can only be tried at AWS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import arn, changed, issue, running, texts
from tests.e2e.user import User, judged
from tests.stacks import POLICY, Stack, create_service
from tests.trials import save_trial, upload
from tests.waiting import eventually
from watcher.aws.session import Aws, translate
from watcher.cli.preflight import Check, State, preflight
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.errors import AccessDenied
from watcher.sandbox import cookbook
from watcher.sandbox.cookbook import PARAMETERS
from watcher.sandbox.process import Sandbox

ARN = arn("churn")
BUCKET = "jobs"
TOPIC = "arn:aws:sns:us-east-1:123456789012:TOPIC"
ELSEWHERE = {"sagemaker:StopTrainingJob", "sts:AssumeRole"}
"""In tests of their own: the sandbox's IAM, unlike AWS's, does not tell whether a stop is allowed, and a role
is only assumed where there is a member account."""


def actions(statement: dict[str, Any]) -> list[str]:
    return [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]


GRANTED = [(statement["Sid"], action) for statement in POLICY["Statement"] for action in actions(statement)]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_trial(tmp_path_factory.mktemp("trial"))[0]


@pytest.fixture
def stack(sandbox: Sandbox) -> Stack:
    return create_service(
        sandbox,
        AllowStopping="yes",
        AlertTopicArns=TOPIC,
        DebugOutputBuckets=f"{BUCKET},{cookbook.BUCKET}",
    )


@pytest.fixture
def deployed(config: Config, stack: Stack, sandbox: Sandbox, trial: Path) -> Config:
    """Everything that the policy speaks of is there and used, and there is a job with saved tensors."""
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    upload(trial, s3, BUCKET, "churn")
    s3.close()
    sandbox.client("sns").create_topic(Name="TOPIC")
    sandbox.control.put_training_job(
        "churn",
        Tags=[{"Key": "team", "Value": "risk"}],
        DebugHookConfig={"S3OutputPath": f"s3://{BUCKET}/debug"},
        DebugRuleConfigurations=[
            {
                "RuleConfigurationName": "LossNotDecreasing",
                "RuleEvaluatorImage": "debugger-rules",
                "RuleParameters": {"rule_to_invoke": "LossNotDecreasing", **PARAMETERS},
            }
        ],
        DebugRuleEvaluationStatuses=[issue()],
    )
    sandbox.control.write_logs("churn", ["Loss is not decreasing"], rule="LossNotDecreasing")
    return changed(
        config,
        watch={"queue_url": stack.outputs["QueueUrl"], "tags": {"team": "risk"}},
        store={"url": f"dynamodb://{stack.outputs['TableName']}"},
        rules={"local": "attach", "log_group": stack.ids["EvaluationLogGroup"]},
        route=[{"to": ["slack:#alerts", f"sns:{TOPIC}"], "stop": True}],
    )


@pytest.fixture
def act_as(stack: Stack, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """From then on policies count, and this process is a user who has policy.json, with the names of this
    stack, less an action of a statement."""
    user = User(sandbox)

    def act(*without: tuple[str, str]) -> None:
        allowed = [_less(statement, without) for statement in stack.statements("TaskRole")]
        user.may([statement for statement in allowed if statement["Action"]])
        for name, value in user.environment.items():
            monkeypatch.setenv(name, value)

    with judged(sandbox):
        yield act


def _less(statement: dict[str, Any], without: Collection[tuple[str, str]]) -> dict[str, Any]:
    left = [action for action in actions(statement) if (statement["Sid"], action) not in without]
    return {**statement, "Action": left}


def start_training() -> str:
    """As whoever trains does it, in a process of theirs and with rights of their own."""
    command = "from watcher.sandbox.cookbook import start_training; print(start_training())"
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, "SAGEMAKER_SUPPRESS_V2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]


def checked(config: Config) -> dict[str, Check]:
    return {check.name: check for check in preflight(config, "watcher.toml")}


def test_a_job_is_found_evaluated_told_and_stopped(
    deployed: Config, act_as: Callable[..., None], sandbox: Sandbox, slack: SlackDouble
):
    act_as()

    with capture_logs() as logged, running(App(deployed)) as app:
        eventually(lambda: sandbox.control.training_jobs()[0]["TrainingJobStatus"] == "Stopped", "the stop")
        eventually(lambda: app.store.next_due() is None, "every delivery")
        eventually(lambda: sandbox.control.calls().get("logs:PutLogEvents"), "the log of the evaluation")
        eventually(lambda: sandbox.control.calls().get("sqs:DeleteMessageBatch"), "a handled message")

    assert [line for line in logged if line["log_level"] in ("warning", "error")] == []
    (alert,) = [message for message in slack.messages if "found an issue" in message["text"]]
    assert "Loss is not decreasing" in json.dumps(alert["blocks"])
    assert "permission" not in json.dumps(alert["blocks"])


def test_what_only_watcher_found_is_told_with_the_log_of_its_own_evaluation(
    deployed: Config, act_as: Callable[..., None], sandbox: Sandbox, slack: SlackDouble
):
    debugger_is_at_it = {**issue(), "RuleEvaluationStatus": "InProgress", "StatusDetails": ""}
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[debugger_is_at_it])
    act_as()

    with running(App(deployed)):
        eventually(lambda: slack.messages, "an alert")

    told = json.dumps(slack.messages[0]["blocks"])
    assert "Started execution of rule LossNotDecreasing" in told
    assert "permission" not in told


def test_the_whole_demo_runs_with_it(
    deployed: Config, act_as: Callable[..., None], sandbox: Sandbox, slack: SlackDouble
):
    name = start_training()
    act_as()

    def rules() -> list[str]:
        (job,) = (job for job in sandbox.control.training_jobs() if job["TrainingJobName"] == name)
        return [rule["RuleEvaluationStatus"] for rule in job["DebugRuleEvaluationStatuses"]]

    def status() -> str:
        (job,) = (job for job in sandbox.control.training_jobs() if job["TrainingJobName"] == name)
        return str(job["TrainingJobStatus"])

    with capture_logs() as logged, running(App(changed(deployed, watch={"tags": {}}))) as app:
        eventually(lambda: "InProgress" in rules(), "the training, and its rule")
        eventually(lambda: [text for text in texts(slack) if name in text], "an alert")
        eventually(lambda: status() == "Stopped", "the stop")
        eventually(lambda: app.store.next_due() is None, "every delivery")

    assert [line for line in logged if line["log_level"] in ("warning", "error")] == []
    (alert,) = [message for message in slack.messages if f"found an issue in {name}" in message["text"]]
    assert "oss is not decreasing" in json.dumps(alert["blocks"])
    assert "Stopped by Watcher" in json.dumps(alert["blocks"])
    assert [file for file in slack.files if name in file["title"]]


def test_check_misses_nothing(deployed: Config, act_as: Callable[..., None]):
    act_as()

    found = checked(deployed)

    not_ok = {name for name, check in found.items() if check.state is not State.OK}
    assert not_ok - {"configuration"} == {"stopping jobs"}


@pytest.mark.parametrize(
    ("statement", "action"), [granted for granted in GRANTED if granted[1] not in ELSEWHERE]
)
def test_check_names_the_action_that_is_missing(
    deployed: Config, act_as: Callable[..., None], statement: str, action: str
):
    act_as((statement, action))

    missed = [check for check in checked(deployed).values() if action in check.mend + check.found]

    assert missed
    assert all(check.state is not State.OK for check in missed)


def test_check_says_of_a_stop_that_it_cannot_be_tried(deployed: Config, act_as: Callable[..., None]):
    act_as()

    found = checked(deployed)["stopping jobs"]

    assert found.state is State.WARNING
    assert "cannot be tried without stopping a job" in found.found
    assert "sagemaker:StopTrainingJob" in found.mend


def test_check_names_the_role_that_may_not_be_assumed(deployed: Config, act_as: Callable[..., None]):
    act_as(("ActInMemberAccounts", "sts:AssumeRole"))
    role = "arn:aws:iam::444455556666:role/watcher"

    refused = checked(changed(deployed, account=[{"role_arn": role}]))[f"credentials (us-east-1 as {role})"]

    assert refused.state is State.FAILED
    assert refused.mend == "allow sts:AssumeRole"


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("sagemaker:DeleteTags", lambda aws: aws.sagemaker.delete_tags(ResourceArn=ARN, TagKeys=["team"])),
        ("s3:ListBucket", lambda aws: aws.s3.list_objects_v2(Bucket="somebody-elses")),
        ("logs:GetLogEvents", lambda aws: aws.logs.get_log_events(logGroupName="/app", logStreamName="1")),
        ("sqs:PurgeQueue", lambda aws: aws.sqs("us-east-1").purge_queue(QueueUrl="http://localhost/1/other")),
        (
            "sqs:ReceiveMessage",
            lambda aws: aws.sqs("us-east-1").receive_message(QueueUrl="http://localhost/1/o"),
        ),
        ("iam:ListUsers", lambda aws: aws.client("iam").list_users()),
    ],
)
def test_what_the_policy_does_not_speak_of_is_denied(
    deployed: Config, act_as: Callable[..., None], operation: str, call: Callable[[Aws], Any]
):
    act_as()

    with pytest.raises(AccessDenied), translate(operation):
        call(Aws("us-east-1"))
