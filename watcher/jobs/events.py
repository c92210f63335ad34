"""Reads from an event of EventBridge which training job to look at. Pure.

Nothing else is taken from it. SageMaker sends several events for one change, late and out of order, and
without the statuses of rules. The job itself is always read again.
"""

from __future__ import annotations

import json
from typing import Any

from watcher.arn import TRAINING_JOB_ARN

TRAINING_JOB = "SageMaker Training Job State Change"
PROCESSING_JOB = "SageMaker Processing Job State Change"
MAX_BODY_CHARACTERS = 1 << 20
"""SQS takes messages of at most 1 MiB, and EventBridge writes events of at most 256 KiB."""
MAX_QUOTED_CHARACTERS = 200
"""Of what is quoted from a message that cannot be read."""


class Unreadable(ValueError):
    """The body of a message is not what EventBridge, SNS or Watcher writes."""


def hint(body: str) -> str | None:
    """The ARN of the training job that a message is about; None if it is about something else.

    Reads an event as EventBridge sends it to a queue, the same in an SNS envelope, and what `look_again`
    writes. The event of a rule's processing job contains the ARN of its training job. Raises `Unreadable`.
    """
    document = _parsed(body)
    if document.get("Type") == "Notification" and isinstance(document.get("Message"), str):
        document = _parsed(document["Message"])
    arn = document.get("look_again")
    if arn is None and document.get("detail-type") in (TRAINING_JOB, PROCESSING_JOB):
        detail = document.get("detail")
        arn = detail.get("TrainingJobArn") if isinstance(detail, dict) else None
        if arn is None and document["detail-type"] == TRAINING_JOB:
            arn = _first(document.get("resources"))
    if arn is None:
        return None
    if not (isinstance(arn, str) and TRAINING_JOB_ARN.fullmatch(arn)):
        raise Unreadable(f"not the ARN of a training job: {repr(arn)[:MAX_QUOTED_CHARACTERS]}")
    return arn


def look_again(arn: str) -> str:
    """The body of a message that asks any of the processes to look at a job."""
    return json.dumps({"look_again": arn})


def _first(resources: Any) -> Any:
    """The first resource of an event; None if it has none."""
    if resources is None:
        return None
    if not isinstance(resources, list):
        raise Unreadable("its resources are not a list")
    return resources[0] if resources else None


def _parsed(body: str) -> dict[str, Any]:
    if len(body) > MAX_BODY_CHARACTERS:
        raise Unreadable(f"{len(body)} characters, more than any event has")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:  # RecursionError: nested thousands of levels deep
        raise Unreadable(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Unreadable("not a JSON object")
    return document
