"""Amazon Resource Names, taken apart: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

TRAINING_JOB_ARN = re.compile(r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:training-job/[A-Za-z0-9-]{1,63}")
ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+")
TOPIC_ARN = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")


class Arn(NamedTuple):
    partition: str
    """`aws`, `aws-cn`, `aws-eusc`, `aws-us-gov` …"""
    service: str
    region: str
    """Empty for what has no region, such as a role."""
    account: str
    resource: str
    """`training-job/NAME`, `role/PATH/NAME`, or the bare name of a topic or a queue."""

    @classmethod
    def parse(cls, text: str) -> Arn:
        """Raises `ValueError` if the text has fewer than six parts."""
        _, *parts = text.split(":", 5)
        if len(parts) < len(cls._fields):
            raise ValueError(f"{text!r} is not an ARN")
        return cls(*parts)


def is_arn(text: str) -> bool:
    """Whether a person who may give a name or an ARN gave an ARN."""
    return text.startswith("arn:")


def job_name(arn: str) -> str:
    """The name of a training or processing job, from its ARN. A plain name is returned as it is."""
    return arn.rpartition("/")[2]


def run_id(arn: str, created_at: datetime) -> str:
    """`ARN@CreationTime`, in milliseconds, as SageMaker counts. A name can be used again after
    DeleteTrainingJob, so the ARN alone does not say which run it is. Runs of a job sort by their creation."""
    rounded = datetime.fromtimestamp(round(created_at.timestamp() * 1000) / 1000, UTC)
    return f"{arn}@{rounded.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


def run_arn(run: str) -> str:
    """The ARN of the run's training job."""
    return run.partition("@")[0]
