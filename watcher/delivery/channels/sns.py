"""Amazon SNS: mail, SMS, chat and whatever else subscribes to a topic.

A FIFO topic gets the delivery's id as its deduplication id, so that a repeat within five minutes reaches
nobody; a standard topic has no way to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.alerts.message import Message, plain_text
from watcher.arn import Arn
from watcher.errors import DeliveryError, Retry, Undeliverable

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from types_boto3_sns import SNSClient
    from types_boto3_sns.type_defs import MessageAttributeValueTypeDef, PublishInputTypeDef

MESSAGE_LIMIT = 250_000
"""Bytes; SNS takes 256 KiB, the attributes counted in."""
SUBJECT_LIMIT = 100
"""ASCII characters on one line."""

_CREDENTIALS = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"}
)
_MENDS = {
    "AuthorizationError": "allow sns:Publish on it, in Watcher's role and in the topic's policy",
    "AuthorizationErrorException": "allow sns:Publish on it, in Watcher's role and in the topic's policy",
    "AccessDenied": "allow sns:Publish on it, in Watcher's role and in the topic's policy",
    "AccessDeniedException": "allow sns:Publish on it, in Watcher's role and in the topic's policy",
    "NotFound": "check its ARN in the route, or create it",
    "NotFoundException": "check its ARN in the route, or create it",
    "InvalidParameter": "check its ARN in the route",
    "KMSAccessDenied": "allow kms:GenerateDataKey and kms:Decrypt on the topic's key",
    "KMSDisabled": "enable the topic's key",
}


class SnsChannel:
    """`client` is one of the topic's region, best without retries: they are the outbox's business."""

    def __init__(self, topic_arn: str, client: SNSClient) -> None:
        self._topic_arn = topic_arn
        self._client = client
        self._name = f"the SNS topic {Arn.parse(topic_arn).resource}"

    def send(self, message: Message) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.publish(**self._request(message))
        except ClientError as error:
            raise self._translated(error) from error
        except BotoCoreError as error:
            raise self._not_answered(error) from error
        return answer["MessageId"]

    @property
    def can_find(self) -> bool:
        return False

    def find(self, message: Message) -> str | None:  # noqa: ARG002
        return None

    def update(self, message: Message, receipt: str) -> str:  # noqa: ARG002
        return self.send(message)

    def _request(self, message: Message) -> PublishInputTypeDef:
        request: PublishInputTypeDef = {
            "TopicArn": self._topic_arn,
            "Subject": subject(message),
            "Message": _within(plain_text(message), MESSAGE_LIMIT),
            "MessageAttributes": _attributes(message),
        }
        if self._topic_arn.endswith(".fifo"):
            request["MessageGroupId"] = message.finding.job[:128]
            request["MessageDeduplicationId"] = message.id
        return request

    def _translated(self, error: ClientError) -> DeliveryError:
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        said = f"{self._name} refused: {code}"
        if "Throttl" in code or status == 429:
            return Retry(said)
        if code in _CREDENTIALS:  # they are needed for everything, so somebody will renew them
            return Retry(f"{said}: renew Watcher's AWS credentials")
        if status >= 500:
            return Retry(said, uncertain=True)
        explained = f"{said}: {error.response['Error']['Message']}"
        return Undeliverable(f"{explained}; {_MENDS[code]}" if code in _MENDS else explained)

    def _not_answered(self, error: BotoCoreError) -> DeliveryError:
        from botocore.exceptions import HTTPClientError, ParamValidationError

        if isinstance(error, ParamValidationError):
            return Undeliverable(f"{self._name}: {error}")
        # A refused connection and missing credentials are no HTTPClientError: nothing was sent.
        return Retry(f"{self._name}: {error}", uncertain=isinstance(error, HTTPClientError))


def subject(message: Message) -> str:
    """A mail's subject."""
    title = f"Update: {message.title}" if message.is_update else message.title
    ascii_only = title.encode("ascii", "replace").decode()
    return ascii_only if len(ascii_only) <= SUBJECT_LIMIT else ascii_only[: SUBJECT_LIMIT - 3] + "..."


def _attributes(message: Message) -> dict[str, MessageAttributeValueTypeDef]:
    """For filter policies of subscriptions."""
    finding = message.finding
    values = {"kind": finding.kind, "job": finding.job, "rule": finding.rule or ""}
    return {name: {"DataType": "String", "StringValue": value} for name, value in values.items() if value}


def _within(text: str, limit: int) -> str:
    """The beginning of `text` that takes at most `limit` bytes in UTF-8."""
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[:limit].decode(errors="ignore")
