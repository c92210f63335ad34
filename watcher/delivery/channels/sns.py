"""Sends alerts to an Amazon SNS topic, for email, SMS, chat, and anything else that subscribes to it.

A FIFO topic gets the message's key as deduplication id, so SNS drops a duplicate within five minutes. A
standard topic delivers it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from watcher.alerts.message import Message, plain_text
from watcher.arn import Arn
from watcher.delivery.channels import http_status
from watcher.delivery.channels.base import TEST_TITLE, OneWayChannel, Probe, identity_of_test
from watcher.errors import DeliveryError, FormRefused, Retry, Undeliverable
from watcher.text import truncated, within_bytes

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from types_boto3_sns import SNSClient
    from types_boto3_sns.type_defs import MessageAttributeValueTypeDef, PublishInputTypeDef

MESSAGE_LIMIT_BYTES = 250_000
"""SNS takes 256 KiB, attributes included."""
SUBJECT_LIMIT = 100
"""ASCII characters on one line."""

INVALID_SUBJECT = "watcher check: longer than the hundred characters that a subject may have".ljust(101, ".")

# Codes are compared without the suffix "Exception", which only some of them have, depending on the protocol.
_INVALID = frozenset({"InvalidParameter", "InvalidParameterValue"})
_DENIED = frozenset({"AuthorizationError", "AccessDenied"})
_CREDENTIALS = frozenset({"ExpiredToken", "InvalidClientTokenId", "UnrecognizedClient"})
_ALLOW_PUBLISH = "allow sns:Publish on it, in Watcher's role and in the topic's policy"
_ENABLE_KEY = "enable the topic's key"
_FIXES = {
    "AuthorizationError": _ALLOW_PUBLISH,
    "AccessDenied": _ALLOW_PUBLISH,
    "NotFound": "check its ARN in the route, or create it",
    "InvalidParameter": "check its ARN in the route",
    "KMSAccessDenied": "allow kms:GenerateDataKey and kms:Decrypt on the topic's key",
    "KMSDisabled": _ENABLE_KEY,
    "KMSInvalidState": _ENABLE_KEY,
    "KMSNotFound": "the topic's key was deleted: give the topic another one",
}


class SnsChannel(OneWayChannel):
    """`client` is for the topic's region, and should not retry: the outbox does."""

    def __init__(self, topic_arn: str, client: SNSClient) -> None:
        self._topic_arn = topic_arn
        self._client = client
        self._name = f"the SNS topic {Arn.parse(topic_arn).resource}"

    def send(self, message: Message) -> str:
        return self._publish(self._request(message))

    def _publish(self, request: PublishInputTypeDef) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.publish(**request)
        except ClientError as error:
            raise self._translated(error) from error
        except BotoCoreError as error:
            raise self._not_answered(error) from error
        return answer["MessageId"]

    def probe(self) -> Probe:
        """Publish a message that SNS refuses as invalid, which it does only if publishing is allowed."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            # Often denied, because publishing does not need it. Then a missing topic may go unnoticed here.
            with _ignoring(_DENIED):
                self._client.get_topic_attributes(TopicArn=self._topic_arn)
            with _ignoring(_INVALID):
                self._client.publish(
                    TopicArn=self._topic_arn, Subject=INVALID_SUBJECT, Message="watcher check"
                )
        except ClientError as error:
            raise self._translated(error) from error
        except BotoCoreError as error:
            raise self._not_answered(error) from error
        return Probe("accepts messages")

    def send_test(self, text: str, at: datetime) -> str:
        request: PublishInputTypeDef = {
            "TopicArn": self._topic_arn,
            "Subject": TEST_TITLE,
            "Message": text,
            "MessageAttributes": {"kind": {"DataType": "String", "StringValue": "test"}},
        }
        if self._topic_arn.endswith(".fifo"):
            request["MessageGroupId"] = "watcher-test"
            request["MessageDeduplicationId"] = identity_of_test(at)
        return f"accepted for the topic's subscribers as {self._publish(request)}"

    def _request(self, message: Message) -> PublishInputTypeDef:
        request: PublishInputTypeDef = {
            "TopicArn": self._topic_arn,
            "Subject": subject(message),
            "Message": within_bytes(plain_text(message), MESSAGE_LIMIT_BYTES),
            "MessageAttributes": _attributes(message),
        }
        if self._topic_arn.endswith(".fifo"):
            request["MessageGroupId"] = message.finding.job[:128]
            request["MessageDeduplicationId"] = message.key
        return request

    def _translated(self, error: ClientError) -> DeliveryError:
        code = _code(error)
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if "Throttl" in code:  # SNS sends it with status 400
            status = http_status.TOO_MANY_REQUESTS
        said = f"{self._name} refused: {error.response['Error']['Code']}"
        if code in _CREDENTIALS:  # will pass: the loops need the same credentials and renew them
            return Retry(f"{said}: renew Watcher's AWS credentials")
        if retry := http_status.retry(said, status, None, datetime.now(UTC)):
            return retry
        explained = f"{said}: {error.response['Error']['Message']}"
        if code in _INVALID and "too long" in explained.lower():
            return FormRefused(explained)
        fix = _FIXES.get(code, "see the errors of Publish in the API reference of SNS")
        return Undeliverable(f"{explained}; {fix}")

    def _not_answered(self, error: BotoCoreError) -> DeliveryError:
        from botocore.exceptions import HTTPClientError, ParamValidationError

        if isinstance(error, ParamValidationError):
            return Undeliverable(f"{self._name}: {error}")
        # Only with an HTTPClientError can the request have been sent. A refused connection is not one.
        return Retry(f"{self._name}: {error}", uncertain=isinstance(error, HTTPClientError))


@contextmanager
def _ignoring(codes: frozenset[str]) -> Iterator[None]:
    """Ignore a refusal with one of these error codes."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if _code(error) not in codes:
            raise


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"].removesuffix("Exception")


def subject(message: Message) -> str:
    """The subject of an email."""
    ascii_only = message.subject.encode("ascii", "replace").decode()
    return truncated(ascii_only, SUBJECT_LIMIT, end="...")


def _attributes(message: Message) -> dict[str, MessageAttributeValueTypeDef]:
    """Message attributes, which the filter policy of a subscription can match."""
    finding = message.finding
    values = {"kind": finding.kind, "job": finding.job, "rule": finding.rule or ""}
    return {name: {"DataType": "String", "StringValue": value} for name, value in values.items() if value}
