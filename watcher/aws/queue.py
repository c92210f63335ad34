"""Receives, holds, deletes and sends messages of an SQS queue, in batches."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import structlog

from watcher.arn import Arn
from watcher.aws.session import Aws, translate
from watcher.errors import NotFound

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

log = structlog.get_logger(__name__)

MAX_MESSAGES_PER_REQUEST = 10
"""SQS's limit."""
LONG_POLL_S = 5
"""How long a receive waits for a message. SQS allows 20, but a process that is to end has to wait for
it. An idle queue costs less than a cent a day either way."""

_HOST = re.compile(r"https://sqs\.([a-z0-9]+(?:-[a-z0-9]+)+)\.[a-z0-9.-]+/")
"""In any partition; each has its own domain."""

INVALID_RECEIPT = "watcher-check-there-is-no-such-receipt"
REFUSED_DELAY_S = 901
"""SQS delays a message by at most 900 seconds."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueueMessage:
    receipt: str
    """Needed to hold or delete this delivery of the message."""
    body: str
    sent_at: datetime
    receives: int
    """How often it has been received, this time included."""


@dataclass(frozen=True, slots=True)
class Depth:
    """SQS's approximate counts."""

    waiting: int
    in_flight: int
    dead: int | None
    """In the dead-letter queue; None if there is none, or it cannot be found."""


class Queue:
    """Every method raises an `AwsError` that names the API. Safe to use from several threads."""

    def __init__(self, home: Aws, url: str) -> None:
        self.url = url
        self._home = home

    def receive(self, wait: int = LONG_POLL_S) -> list[QueueMessage]:
        """Up to 10 messages; an empty list if none comes within `wait` seconds."""
        with translate("sqs:ReceiveMessage"):
            answer = self._sqs.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=MAX_MESSAGES_PER_REQUEST,
                WaitTimeSeconds=wait,
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            )
            return [
                QueueMessage(
                    receipt=message["ReceiptHandle"],
                    body=message["Body"],
                    sent_at=datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, UTC),
                    receives=int(message["Attributes"]["ApproximateReceiveCount"]),
                )
                for message in answer.get("Messages", [])
            ]

    def delete(self, receipts: Sequence[str]) -> None:
        """A message that SQS does not delete is delivered again, which does no harm."""
        for batch in _batches(receipts):
            with translate("sqs:DeleteMessage"):
                answer = self._sqs.delete_message_batch(
                    QueueUrl=self.url,
                    Entries=[{"Id": str(i), "ReceiptHandle": receipt} for i, receipt in enumerate(batch)],
                )
            if failed := answer.get("Failed"):
                log.warning("messages_not_deleted", messages=len(failed), error=failed[0].get("Message", ""))

    def hold(self, receipts: Sequence[str], seconds: int) -> None:
        """Hide these messages from other consumers for `seconds` from now; 0 makes them visible at once.

        Skips messages that were deleted, or that another consumer has received since.
        """
        for batch in _batches(receipts):
            with translate("sqs:ChangeMessageVisibility"):
                self._sqs.change_message_visibility_batch(
                    QueueUrl=self.url,
                    Entries=[
                        {"Id": str(i), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                        for i, receipt in enumerate(batch)
                    ],
                )

    def send(self, bodies: Sequence[str]) -> list[str]:
        """Returns the bodies that SQS did not accept."""
        refused: list[str] = []
        for batch in _batches(bodies):
            with translate("sqs:SendMessage"):
                answer = self._sqs.send_message_batch(
                    QueueUrl=self.url,
                    Entries=[{"Id": str(i), "MessageBody": body} for i, body in enumerate(batch)],
                )
            refused += [batch[int(entry["Id"])] for entry in answer.get("Failed", [])]
        return refused

    def try_calls(self) -> None:
        """Check the permissions to receive, hold, delete and send messages, without doing so. Raises
        `AwsError`.

        One message may be read, which SQS counts as a receive; it stays visible to all consumers.
        """
        with translate("sqs:ReceiveMessage"):
            self._sqs.receive_message(QueueUrl=self.url, VisibilityTimeout=0)
        # Callers with the permission get an error for the entry, because there is no such receipt.
        self.hold([INVALID_RECEIPT], 0)
        with translate("sqs:DeleteMessage"):
            self._sqs.delete_message_batch(
                QueueUrl=self.url, Entries=[{"Id": "0", "ReceiptHandle": INVALID_RECEIPT}]
            )
        # The same: the delay is too long, so the entry is refused.
        with translate("sqs:SendMessage"):
            self._sqs.send_message_batch(
                QueueUrl=self.url, Entries=[{"Id": "0", "MessageBody": "{}", "DelaySeconds": REFUSED_DELAY_S}]
            )

    def dead_letter_arn(self) -> str:
        """The ARN of the queue's dead-letter queue; empty if it has none."""
        with translate("sqs:GetQueueAttributes"):
            attributes = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["RedrivePolicy"])
        redrive_policy = attributes.get("Attributes", {}).get("RedrivePolicy", "")
        return str(json.loads(redrive_policy)["deadLetterTargetArn"]) if redrive_policy else ""

    def depth(self) -> Depth:
        with translate("sqs:GetQueueAttributes"):
            attributes = self._sqs.get_queue_attributes(
                QueueUrl=self.url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "RedrivePolicy",
                ],
            )["Attributes"]
        return Depth(
            waiting=int(attributes["ApproximateNumberOfMessages"]),
            in_flight=int(attributes["ApproximateNumberOfMessagesNotVisible"]),
            dead=self._dead(attributes.get("RedrivePolicy", "")),
        )

    def _dead(self, redrive_policy: str) -> int | None:
        if not redrive_policy:
            return None
        queue = Arn.parse(json.loads(redrive_policy)["deadLetterTargetArn"])
        try:
            with translate("sqs:GetQueueUrl"):
                url = self._sqs.get_queue_url(QueueName=queue.resource, QueueOwnerAWSAccountId=queue.account)[
                    "QueueUrl"
                ]
            with translate("sqs:GetQueueAttributes"):
                attributes = self._sqs.get_queue_attributes(
                    QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
                )["Attributes"]
        except NotFound:
            return None
        return int(attributes["ApproximateNumberOfMessages"])

    @property
    def _sqs(self) -> SQSClient:
        host = _HOST.match(self.url)
        return self._home.sqs(host[1] if host else self._home.region)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (
        items[start : start + MAX_MESSAGES_PER_REQUEST]
        for start in range(0, len(items), MAX_MESSAGES_PER_REQUEST)
    )
