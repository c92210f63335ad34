"""The daemon, with the queue and the table that the template makes, and with the settings of its task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cfnlint.decode.cfn_yaml import load as load_template

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import arn, eventually, issue, running
from tests.stacks import DEPLOY, Stack, create_service
from watcher.app import App
from watcher.config import Config, load
from watcher.sandbox.process import Sandbox

SETTINGS = load_template(str(DEPLOY / "ecs.yaml"))["Parameters"]["Settings"]["Default"]


@pytest.fixture
def stack(aws_environment: Sandbox) -> Stack:
    return create_service(aws_environment)


@pytest.fixture
def deployed(stack: Stack, slack: SlackDouble, tmp_path: Path) -> Config:
    """The template's own settings, and where Slack is."""
    file = tmp_path / "watcher.toml"
    file.write_text(
        f'{SETTINGS}\n[slack]\nbot_token = "{slack.token}"\nchannel = "#alerts"\napi_url = "{slack.api_url}"'
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


@pytest.mark.parametrize(
    ("detail_type", "arrives"),
    [
        ("SageMaker Training Job State Change", True),
        ("SageMaker Processing Job State Change", True),
        ("SageMaker Model State Change", False),
    ],
)
def test_what_a_member_account_sends_to_the_shared_bus_comes_to_the_queue(
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


def test_what_nobody_can_handle_goes_to_the_dead_letter_queue_after_ten_attempts(
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
