"""Events of the sandbox reach a queue through EventBridge, as at AWS."""

from __future__ import annotations

import json
from typing import Any

from tests.doubles.training_requests import training_request
from watcher.sandbox.process import Sandbox


def queue_of_sagemaker_events(sandbox: Sandbox) -> str:
    sqs, events = sandbox.client("sqs"), sandbox.client("events")
    url: str = sqs.create_queue(QueueName="watcher")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="sagemaker", EventPattern=json.dumps({"source": ["aws.sagemaker"]}))
    events.put_targets(Rule="sagemaker", Targets=[{"Id": "queue", "Arn": arn}])
    return url


def received(sandbox: Sandbox, queue: str, count: int) -> list[dict[str, Any]]:
    sqs = sandbox.client("sqs")
    messages: list[dict[str, Any]] = []
    while len(messages) < count:
        batch = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=5).get("Messages")
        assert batch, f"only {len(messages)} of {count} events came"
        messages += [json.loads(message["Body"]) for message in batch]
    return messages


def test_an_event_rule_sends_every_change_to_its_queue_and_each_end_twice(
    sandbox: Sandbox,
) -> None:
    queue = queue_of_sagemaker_events(sandbox)
    arn = "arn:aws:sagemaker:us-east-1:123456789012:processing-job/churn-lossnotdecreasing-ee3df9a4"
    rule = {
        "RuleConfigurationName": "LossNotDecreasing",
        "RuleEvaluationJobArn": arn,
        "RuleEvaluationStatus": "IssuesFound",
    }
    sandbox.control.put_training_job("churn", Tags=[{"Key": "team", "Value": "growth"}])
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[rule])
    sandbox.control.put_training_job("churn", TrainingJobStatus="Stopped")

    events = received(sandbox, queue, 6)
    assert [
        (
            event["detail-type"],
            event["detail"].get("TrainingJobStatus") or event["detail"]["ProcessingJobStatus"],
        )
        for event in events
    ] == [
        ("SageMaker Training Job State Change", "InProgress"),
        ("SageMaker Processing Job State Change", "Completed"),
        ("SageMaker Processing Job State Change", "Completed"),
        ("SageMaker Training Job State Change", "InProgress"),
        ("SageMaker Training Job State Change", "Stopped"),
        ("SageMaker Training Job State Change", "Stopped"),
    ]
    first, processing, fired = events[0], events[1], events[3]
    assert first["source"] == "aws.sagemaker"
    assert first["region"] == "us-east-1"
    assert first["resources"] == ["arn:aws:sagemaker:us-east-1:123456789012:training-job/churn"]
    assert first["detail"]["Tags"] == {"team": "growth"}
    assert processing["resources"] == [arn]
    assert fired["detail"]["DebugRuleEvaluationStatuses"][0]["RuleEvaluationStatus"] == "IssuesFound"


def test_an_event_rule_with_a_missing_target_does_not_block_later_events(sandbox: Sandbox) -> None:
    events = sandbox.client("events")
    gone = "arn:aws:events:us-east-1:123456789012:event-bus/gone"
    events.put_rule(Name="broken", EventPattern=json.dumps({"detail": {"TrainingJobName": ["churn"]}}))
    events.put_targets(Rule="broken", Targets=[{"Id": "bus", "Arn": gone}])
    queue = queue_of_sagemaker_events(sandbox)

    sandbox.control.put_training_job("churn")
    sandbox.control.put_training_job("fraud")

    assert received(sandbox, queue, 1)[-1]["detail"]["TrainingJobName"] == "fraud"


def test_jobs_that_end_while_nobody_looks_have_the_times_of_their_events(sandbox: Sandbox) -> None:
    queue = queue_of_sagemaker_events(sandbox)
    sagemaker = sandbox.client("sagemaker")
    image = {"TrainingImage": "an-image-that-the-sandbox-lacks", "TrainingInputMode": "File"}
    sagemaker.create_training_job(**training_request("failing", AlgorithmSpecification=image))
    sandbox.control.put_training_job("stopping")
    sagemaker.stop_training_job(TrainingJobName="stopping")

    ends: dict[str, dict[str, Any]] = {}
    while len(ends) < 2:
        details = [event["detail"] for event in received(sandbox, queue, 1)]
        ends |= {each["TrainingJobName"]: each for each in details if "TrainingEndTime" in each}

    for name, event in ends.items():
        job = sagemaker.describe_training_job(TrainingJobName=name)
        assert abs(job["TrainingEndTime"].timestamp() * 1000 - event["TrainingEndTime"]) <= 1
        assert job["LastModifiedTime"] == job["TrainingEndTime"]
