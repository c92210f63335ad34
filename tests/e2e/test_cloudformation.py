"""The daemon with the queue and the table of the template, and with the settings of its task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from cfnlint.decode.cfn_yaml import load as load_template

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import arn, issue, running
from tests.e2e.process import Watcher
from tests.e2e.user import enforced_permissions
from tests.stacks import DEPLOY, Stack, create_service
from tests.waiting import eventually
from watcher.config.load import load
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox

SETTINGS = load_template(str(DEPLOY / "ecs.yaml"))["Parameters"]["Settings"]["Default"]


@pytest.fixture
def stack(aws_environment: Sandbox) -> Stack:
    return create_service(aws_environment)


@pytest.fixture
def deployed(stack: Stack, slack: SlackDouble, tmp_path: Path) -> Config:
    """The template's settings, with the address of Slack's double."""
    file = tmp_path / "watcher.toml"
    file.write_text(
        f"""{SETTINGS}
        [slack]
        bot_token = "{slack.token}"
        channel = "#alerts"
        api_url = "{slack.api_url}"
        [http]
        listen = ""
        """
    )
    outputs = stack.outputs
    return load(file, {"QUEUE_URL": outputs["QueueUrl"], "STORE_URL": f"dynamodb://{outputs['TableName']}"})


def test_an_event_on_the_bus_reaches_slack(deployed: Config, sandbox: Sandbox, slack: SlackDouble):
    with running(App(deployed)) as app:
        eventually(
            lambda: sandbox.control.calls().get("sagemaker:Search"), "the first pass, which finds nothing"
        )
        sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
        eventually(lambda: slack.messages, "an alert")
        eventually(lambda: app.store.next_due() is None, "every delivery")
    assert "LossNotDecreasing found an issue in churn" in slack.messages[0]["text"]


@pytest.fixture
def task(aws_environment: Sandbox, slack: SlackDouble) -> Iterator[Mapping[str, str]]:
    """The environment of the task: the variables of its definition, Slack's token and its role's credentials.

    Its policies are enforced from then on, but the sandbox ignores their conditions.
    """
    settings = f"""{SETTINGS}
        [rules]
        log_group = "${{EVALUATION_LOG_GROUP}}"
        [slack]
        bot_token = "${{SLACK_BOT_TOKEN}}"
        channel = "#alerts"
        api_url = "{slack.api_url}"
        [[route]]
        to = ["slack:#alerts"]
        stop = true
        [http]
        listen = "127.0.0.1:0"
    """
    secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:watcher/slack-bot-token"
    stack = create_service(
        aws_environment, Settings=settings, SlackBotTokenSecretArn=secret, AllowStopping="yes"
    )
    made = aws_environment.client("ecs").describe_task_definition(taskDefinition=stack.ids["TaskDefinition"])
    [container] = made["taskDefinition"]["containerDefinitions"]
    given = aws_environment.client("sts").assume_role(
        RoleArn=stack.outputs["TaskRoleArn"], RoleSessionName="task"
    )["Credentials"]
    with enforced_permissions(aws_environment):
        yield {
            **{variable["name"]: variable["value"] for variable in container["environment"]},
            **{entry["name"]: slack.token for entry in container["secrets"] if entry},
            "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
            "AWS_SESSION_TOKEN": given["SessionToken"],
        }


def test_the_task_reports_a_job_stops_it_and_exits_cleanly(
    task: Mapping[str, str], sandbox: Sandbox, slack: SlackDouble, tmp_path: Path
):
    with closing(Watcher(tmp_path, environment=task)) as watcher:
        watcher.ready()
        sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
        eventually(lambda: sandbox.control.training_jobs()[0]["TrainingJobStatus"] == "Stopped", "the stop")
        eventually(lambda: "Stopped by Watcher" in json.dumps(slack.messages), "the alert that says so")
        code = watcher.end()

    assert code == 0
    assert "LossNotDecreasing found an issue in churn" in slack.messages[0]["text"]
    assert watcher.events("finding")
    assert watcher.events("delivered")
    assert [line for line in map(json.loads, watcher.lines) if line["level"] in ("warning", "error")] == []


def test_check_as_the_task_finds_nothing_that_fails(task: Mapping[str, str], tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "watcher", "check", "--json"],
        cwd=tmp_path,
        env={**os.environ, **task},
        capture_output=True,
        text=True,
        check=False,
    )

    states = {check["name"]: check["state"] for check in json.loads(done.stdout)}
    assert done.returncode == 0
    assert {name for name, state in states.items() if state != "ok"} == {"debug output", "stopping jobs"}
    assert {"store", "queue", "evaluation log", "Slack"} < states.keys()


@pytest.mark.parametrize(
    ("detail_type", "arrives"),
    [
        ("SageMaker Training Job State Change", True),
        ("SageMaker Processing Job State Change", True),
        ("SageMaker Model State Change", False),
    ],
)
def test_events_of_a_member_account_reach_the_queue_through_the_shared_bus(
    stack: Stack, sandbox: Sandbox, detail_type: str, arrives: bool
):
    entry = {
        "EventBusName": stack.outputs["BusArn"],
        "Source": "aws.sagemaker",
        "DetailType": detail_type,
        "Detail": json.dumps({"TrainingJobArn": arn("churn")}),
    }

    sandbox.client("events").put_events(Entries=[entry])

    received = sandbox.client("sqs").receive_message(QueueUrl=stack.outputs["QueueUrl"]).get("Messages", [])
    assert [json.loads(message["Body"])["detail-type"] for message in received] == [detail_type] * arrives


def test_a_message_that_cannot_be_handled_goes_to_the_dead_letter_queue_after_ten_attempts(
    stack: Stack, sandbox: Sandbox
):
    sqs = sandbox.client("sqs")
    queue, dead = stack.outputs["QueueUrl"], stack.outputs["DeadLetterQueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="poison")

    attempts = 0
    while sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0).get("Messages"):
        attempts += 1

    assert attempts == 10
    [message] = sqs.receive_message(QueueUrl=dead)["Messages"]
    assert message["Body"] == "poison"
