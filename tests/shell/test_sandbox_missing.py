"""What the sandbox lacks, and what fails in it, is one sentence that SDKs report and do not repeat."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from watcher.sandbox.process import Sandbox


def refusal(sandbox: Sandbox, service: str, operation: str, **request: Any) -> tuple[str, str]:
    """The code and the message with which the only attempt at a request is refused."""
    with pytest.raises(ClientError) as caught:
        getattr(sandbox.client(service), operation)(**request)
    answer = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
    return answer["Error"]["Code"], answer["Error"]["Message"]


@pytest.mark.parametrize(
    ("service", "operation", "request_", "code", "named"),
    [
        ("sagemaker", "list_workforces", {}, "UnknownOperationException", "sagemaker:ListWorkforces"),
        ("logs", "list_anomalies", {}, "UnknownOperationException", "logs:ListAnomalies"),
        ("dynamodb", "list_imports", {}, "UnknownOperationException", "dynamodb:ListImports"),
        ("events", "list_endpoints", {}, "UnknownOperationException", "events:ListEndpoints"),
        (
            "iam",
            "list_service_specific_credentials",
            {},
            "InvalidAction",
            "iam:ListServiceSpecificCredentials",
        ),
        (
            "sts",
            "decode_authorization_message",
            {"EncodedMessage": "x"},
            "InvalidAction",
            "sts:DecodeAuthorizationMessage",
        ),
        ("sns", "list_origination_numbers", {}, "InvalidAction", "sns:ListOriginationNumbers"),
    ],
)
def test_an_operation_that_moto_lacks_is_refused_by_name(
    sandbox: Sandbox, service: str, operation: str, request_: dict[str, Any], code: str, named: str
) -> None:
    assert refusal(sandbox, service, operation, **request_) == (code, f"the sandbox has no {named}")


def test_a_metric_stream_is_refused_by_name_in_whichever_protocol_the_sdk_chooses(sandbox: Sandbox) -> None:
    _, message = refusal(sandbox, "cloudwatch", "list_metric_streams")
    assert message == "the sandbox has no cloudwatch:ListMetricStreams"


def test_a_service_that_moto_lacks_is_refused_by_its_request(sandbox: Sandbox) -> None:
    refused = refusal(sandbox, "outposts", "list_sites")
    assert refused == ("UnknownOperationException", "the sandbox has no outposts request GET /sites")


def test_a_path_that_moto_lacks_is_refused_by_its_request(sandbox: Sandbox) -> None:
    _, message = refusal(sandbox, "lambda", "list_capacity_providers")
    assert message.startswith("the sandbox has no lambda request GET /")


def test_what_fails_in_moto_is_named_with_its_cause(sandbox: Sandbox) -> None:
    code, message = refusal(sandbox, "logs", "get_query_results", queryId="missing")
    assert code == "InternalFailure"
    assert message.startswith("the sandbox cannot answer logs:GetQueryResults: KeyError: 'missing' (logs/")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        ("list_bucket_analytics_configurations", "GET /bucket?analytics"),
        ("get_bucket_request_payment", "GET /bucket?requestPayment"),
        ("list_bucket_metrics_configurations", "GET /bucket?metrics"),
    ],
)
def test_what_moto_ignores_in_a_query_to_s3_is_refused(sandbox: Sandbox, operation: str, named: str) -> None:
    sandbox.client("s3").create_bucket(Bucket="bucket")
    refused = refusal(sandbox, "s3", operation, Bucket="bucket")
    assert refused == ("NotImplemented", f"the sandbox has no s3 request {named}")


def test_an_object_is_not_taken_for_its_retention(sandbox: Sandbox) -> None:
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="retention", Body=b"kept")
    code, _ = refusal(sandbox, "s3", "get_object_retention", Bucket="bucket", Key="retention")
    assert code == "NotImplemented"
    assert s3.get_object(Bucket="bucket", Key="retention")["Body"].read() == b"kept"
