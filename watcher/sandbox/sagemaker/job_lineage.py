"""The artifacts and associations that SageMaker makes for each training job. Pure.

As its developer guide lists them: the image, the data of each channel and the checkpoints contribute to the
job's trial component, and that produces the model. There is one artifact for each URI, whichever jobs use it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from watcher.sandbox.sagemaker import trial_components
from watcher.sandbox.sagemaker.training_job import Record, TrainingJob


class Pair(NamedTuple):
    source: str
    destination: str


class Part(NamedTuple):
    """Something that a job read or wrote."""

    type: str
    uri: str
    produced: bool
    at: float


def artifact_arn(account_arn: str, uri: str, source_types: Iterable[Any] = ()) -> str:
    """`account_arn`: the ARN of any resource in the same account and region."""
    known = json.dumps([uri, *source_types], sort_keys=True)
    name = hashlib.sha256(known.encode()).hexdigest()[:32]
    return ":".join([*account_arn.split(":")[:5], f"artifact/{name}"])


def parts(job: TrainingJob) -> Iterator[Part]:
    record = job.record
    created = record["CreationTime"]
    if image := record.get("AlgorithmSpecification", {}).get("TrainingImage"):
        yield Part("Image", image, produced=False, at=created)
    for channel in record.get("InputDataConfig", ()):
        if uri := trial_components.channel_uri(channel):
            yield Part("DataSet", uri, produced=False, at=created)
    if checkpoints := record.get("CheckpointConfig", {}).get("S3Uri"):
        yield Part("Checkpoint", checkpoints, produced=False, at=created)
    if model := trial_components.model_uri(record):
        yield Part("Model", model, produced=True, at=float(record.get("TrainingEndTime") or created))


def artifact(part: Part, arn: str) -> Record:
    return {
        "ArtifactArn": arn,
        "Source": {"SourceUri": part.uri, "SourceTypes": []},
        "ArtifactType": part.type,
        "Properties": {},
        "CreationTime": part.at,
        "CreatedBy": {},
        "LastModifiedTime": part.at,
        "LastModifiedBy": {},
    }


def lineage_of(jobs: Iterable[TrainingJob]) -> tuple[dict[str, Record], dict[Pair, Record]]:
    """The artifacts by their ARN, and the associations."""
    artifacts: dict[str, Record] = {}
    associations: dict[Pair, Record] = {}
    for job in jobs:
        component = trial_components.arn_of(trial_components.name_of(job), job.arn)
        for part in parts(job):
            arn = artifact_arn(job.arn, part.uri)
            if arn not in artifacts or part.at < artifacts[arn]["CreationTime"]:
                artifacts[arn] = artifact(part, arn)
            pair = Pair(component, arn) if part.produced else Pair(arn, component)
            kind = "Produced" if part.produced else "ContributedTo"
            associations[pair] = {"AssociationType": kind, "CreationTime": part.at}
    return artifacts, associations
