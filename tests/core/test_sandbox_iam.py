"""A request needs the same permissions in the sandbox as in AWS's service authorization reference."""

from __future__ import annotations

from typing import Any

import pytest

from watcher.sandbox.aws.iam import permissions

HERE = "us-east-1:123456789012"
TABLE = f"arn:aws:dynamodb:{HERE}:table/state"


@pytest.mark.parametrize(
    ("action", "request_", "needed"),
    [
        (
            "sagemaker:DescribeTrainingJob",
            {"TrainingJobName": "churn"},
            ("sagemaker:DescribeTrainingJob", f"arn:aws:sagemaker:{HERE}:training-job/churn"),
        ),
        ("sagemaker:Search", {"Resource": "TrainingJob"}, ("sagemaker:Search", "*")),
        (
            "logs:PutLogEvents",
            {"logGroupName": "/app", "logStreamName": "1"},
            ("logs:PutLogEvents", f"arn:aws:logs:{HERE}:log-group:/app:log-stream:1"),
        ),
        ("monitoring:GetMetricData", {}, ("cloudwatch:GetMetricData", "*")),
        (
            "sqs:DeleteMessageBatch",
            {"QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/changes"},
            ("sqs:DeleteMessage", f"arn:aws:sqs:{HERE}:changes"),
        ),
        ("sqs:GetQueueUrl", {"QueueName": "dead"}, ("sqs:GetQueueUrl", f"arn:aws:sqs:{HERE}:dead")),
        ("sns:Publish", {"TopicArn": "arn:aws:sns:a:b:c"}, ("sns:Publish", "arn:aws:sns:a:b:c")),
        ("dynamodb:GetItem", {"TableName": "state"}, ("dynamodb:GetItem", TABLE)),
        (
            "dynamodb:Query",
            {"TableName": "state", "IndexName": "by-job"},
            ("dynamodb:Query", f"{TABLE}/index/by-job"),
        ),
        ("dynamodb:BatchGetItem", {"RequestItems": {"state": {}}}, ("dynamodb:BatchGetItem", TABLE)),
    ],
)
def test_a_request_needs_its_action_on_its_resource(
    action: str, request_: dict[str, Any], needed: tuple[str, str]
):
    assert permissions(action, request_, HERE) == [needed]


def test_a_transaction_needs_the_actions_of_its_items():
    items = [{kind: {"TableName": "state"}} for kind in ("Put", "Update", "Delete", "ConditionCheck")]

    needed = permissions("dynamodb:TransactWriteItems", {"TransactItems": items}, HERE)

    assert needed == [
        ("dynamodb:PutItem", TABLE),
        ("dynamodb:UpdateItem", TABLE),
        ("dynamodb:DeleteItem", TABLE),
        ("dynamodb:ConditionCheckItem", TABLE),
    ]


def test_requests_that_moto_authorizes_correctly_are_left_to_moto():
    assert permissions("s3:GetObject", {}, HERE) == []
