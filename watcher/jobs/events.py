"""What EventBridge says of SageMaker's jobs, as hints: which training job to look at again. Pure.

Nothing else is taken from an event. SageMaker sends several for one change, they come late and out of
order, and the documented one may lack the rule statuses; the job itself is always read anew.
"""

from __future__ import annotations

import json
from typing import Any

from watcher.arn import TRAINING_JOB_ARN

TRAINING_JOB = "SageMaker Training Job State Change"
PROCESSING_JOB = "SageMaker Processing Job State Change"


class Unreadable(ValueError):
    """A body that no sender of ours writes."""


def hint(body: str) -> str | None:
    """The ARN of the training job that a message is about; None where it is about something else.

    Takes an event as EventBridge puts it on a queue, the same in an SNS envelope, and what `look_again`
    writes. A processing job that evaluates a rule names its training job. Raises `Unreadable`.
    """
    document = _parsed(body)
    if document.get("Type") == "Notification" and isinstance(document.get("Message"), str):
        document = _parsed(document["Message"])
    arn = document.get("look_again")
    if arn is None and document.get("detail-type") in (TRAINING_JOB, PROCESSING_JOB):
        detail = document.get("detail")
        arn = detail.get("TrainingJobArn") if isinstance(detail, dict) else None
        if arn is None and document["detail-type"] == TRAINING_JOB:
            arn = next(iter(document.get("resources") or ()), None)
    if arn is None:
        return None
    if not (isinstance(arn, str) and TRAINING_JOB_ARN.fullmatch(arn)):
        raise Unreadable(f"{arn!r} is no training job's ARN")
    return arn


def look_again(arn: str) -> str:
    """The body by which one replica asks whichever comes first to look at a job."""
    return json.dumps({"look_again": arn})


def _parsed(body: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise Unreadable(f"no JSON: {error}") from error
    if not isinstance(document, dict):
        raise Unreadable("no JSON object")
    return document
