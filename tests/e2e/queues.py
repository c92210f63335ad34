"""A queue that EventBridge feeds, with its dead-letter queue, as `deploy/ecs.yaml` has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.conftest import arn
from watcher.sandbox.process import Sandbox


@dataclass(frozen=True)
class Queues:
    """The queue at `url` and its dead-letter queue at `dead`."""

    sandbox: Sandbox
    url: str
    dead: str

    def depth(self) -> tuple[int, int]:
        """The number of waiting messages, and of messages in flight."""
        return _depth(self.sandbox, self.url)

    def dead_letters(self) -> int:
        return sum(_depth(self.sandbox, self.dead))

    def send(self, *bodies: str) -> None:
        sqs = self.sandbox.client("sqs")
        for start in range(0, len(bodies), 10):
            batch: Sequence[str] = bodies[start : start + 10]
            entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(batch)]
            sqs.send_message_batch(QueueUrl=self.url, Entries=entries)


def create_queues(sandbox: Sandbox, held: int = 60) -> Queues:
    """Create both queues. `held` is the visibility timeout in seconds."""
    sqs, events = sandbox.client("sqs"), sandbox.client("events")

    def made(name: str, **attributes: str) -> tuple[str, str]:
        url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, found["Attributes"]["QueueArn"]

    dead, dead_arn = made("watcher-dead")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 10})
    url, target = made("watcher", VisibilityTimeout=str(held), RedrivePolicy=redrive)
    events.put_rule(Name="watcher", EventPattern=json.dumps({"source": ["aws.sagemaker"]}))
    events.put_targets(Rule="watcher", Targets=[{"Id": "queue", "Arn": target}])
    return Queues(sandbox, url, dead)


def event(name: str) -> str:
    """The event that EventBridge sends when a training job has changed."""
    detail = {"TrainingJobArn": arn(name)}
    return json.dumps({"detail-type": "SageMaker Training Job State Change", "detail": detail})


def _depth(sandbox: Sandbox, url: str) -> tuple[int, int]:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sandbox.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    waiting, in_flight = (int(attributes[name]) for name in names)
    return waiting, in_flight
