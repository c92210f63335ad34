"""The trial component that SageMaker makes for each training and processing job. Pure.

A training job's is `<job>-aws-training-job`, that of a rule `<processing job>-aws-processing-job`. It is
computed from the job when it is read, so it is never behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from watcher.sandbox.jobs.rule_jobs import RuleJob
from watcher.sandbox.sagemaker.training_job import Record, TrainingJob

TRAINING_SUFFIX = "-aws-training-job"
PROCESSING_SUFFIX = "-aws-processing-job"

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_MEDIA_TYPE = re.compile(r"[-\w]+/[-\w+]+")
_MAX_STRING_LENGTH = 2500
_MAX_MESSAGE_LENGTH = 1024


def arn_of(name: str, of_job: str) -> str:
    """`of_job`: the ARN of any resource in the same account and region."""
    partition = of_job.split(":")[:5]
    return ":".join([*partition, f"experiment-trial-component/{name}"])


def name_of(job: TrainingJob) -> str:
    return job.name + TRAINING_SUFFIX


def of_training_job(job: TrainingJob) -> Record:
    """The component as `Search` returns it, but without tags, parents and metrics. What the job produces is
    in it when the job has ended and uploaded its model."""
    record = job.record
    secondary, reason = record["SecondaryStatus"], record.get("FailureReason", "")
    message = f"Status: {job.status}, secondary status: {secondary}, failure reason: {reason}."
    return _record(
        name_of(job),
        job.arn,
        "Training",
        record,
        {
            "Status": {"PrimaryStatus": job.status, "Message": message[:_MAX_MESSAGE_LENGTH]},
            "Parameters": dict(_training_parameters(record)),
            "InputArtifacts": dict(_channels(record)),
            "OutputArtifacts": dict(_outputs(record)),
        },
    )


def of_rule_job(rule: RuleJob) -> Record:
    record = rule.processing_job()
    status = record["ProcessingJobStatus"]
    cluster = record["ProcessingResources"]["ClusterConfig"]
    message = f"Status: {status}, exit message: {record.get('FailureReason', '')}."
    return _record(
        rule.name + PROCESSING_SUFFIX,
        rule.arn,
        "Processing",
        record,
        {
            "Status": {"PrimaryStatus": status, "Message": message[:_MAX_MESSAGE_LENGTH]},
            "Parameters": {
                "SageMaker.ImageUri": {"StringValue": record["AppSpecification"]["ImageUri"]},
                **dict(_resources(cluster)),
            },
            "InputArtifacts": {},
            "OutputArtifacts": {},
        },
    )


def _record(
    name: str, arn: str, kind: Literal["Training", "Processing"], job: Record, members: Record
) -> Record:
    record: Record = {
        "TrialComponentName": name,
        "TrialComponentArn": arn_of(name, arn),
        "DisplayName": name,
        "Source": {"SourceArn": arn, "SourceType": f"SageMaker{kind}Job"},
        "CreationTime": job["CreationTime"],
        "CreatedBy": {},
        "LastModifiedTime": job["LastModifiedTime"],
        "LastModifiedBy": {},
        **members,
    }
    if f"{kind}StartTime" in job:
        record["StartTime"] = job[f"{kind}StartTime"]
    if f"{kind}EndTime" in job:
        record["EndTime"] = job[f"{kind}EndTime"]
    return record


def _training_parameters(record: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in record.get("HyperParameters", {}).items():
        yield name, parameter(value)
    algorithm = record.get("AlgorithmSpecification", {})
    if image := algorithm.get("TrainingImage"):
        yield "SageMaker.ImageUri", {"StringValue": image}
    yield from _resources(record.get("ResourceConfig", {}))


def _resources(resources: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    if "InstanceCount" in resources:
        yield "SageMaker.InstanceCount", {"NumberValue": float(resources["InstanceCount"])}
    if "InstanceType" in resources:
        yield "SageMaker.InstanceType", {"StringValue": resources["InstanceType"]}
    if "VolumeSizeInGB" in resources:
        yield "SageMaker.VolumeSizeInGB", {"NumberValue": float(resources["VolumeSizeInGB"])}


def parameter(value: str) -> dict[str, Any]:
    """A hyperparameter, which is always text, as a number if it is one."""
    if _NUMBER.fullmatch(value):
        return {"NumberValue": float(value)}
    return {"StringValue": value[:_MAX_STRING_LENGTH]}


def channel_uri(channel: Record) -> str:
    """Where the data of a channel is; empty if it is not on S3."""
    return str(channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri", ""))


def _channels(record: Record) -> Iterator[tuple[str, dict[str, str]]]:
    for channel in record.get("InputDataConfig", ()):
        if uri := channel_uri(channel):
            media_type = channel.get("ContentType", "")
            typed = {"MediaType": media_type} if _MEDIA_TYPE.fullmatch(media_type) else {}
            yield channel["ChannelName"], {**typed, "Value": uri}


def _outputs(record: Record) -> Iterator[tuple[str, dict[str, str]]]:
    if debug := record.get("DebugHookConfig", {}).get("S3OutputPath"):
        yield "SageMaker.DebugHookOutput", {"Value": debug}
    if model := model_uri(record):
        yield "SageMaker.ModelArtifact", {"Value": model}


def model_uri(record: Record) -> str:
    """Where the job's model is; empty before the job has uploaded one."""
    if record["TrainingJobStatus"] not in {"Completed", "Stopped"}:
        return ""
    return str(record.get("ModelArtifacts", {}).get("S3ModelArtifacts", ""))
