"""Asks SageMaker what belongs to an experiment or to a tuning job, and turns its records into values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from watcher.arn import TRAINING_JOB_ARN
from watcher.aws.sagemaker import RECORDS_PER_PAGE, parse_job
from watcher.aws.session import Aws, translate
from watcher.model import JobSnapshot


@dataclass(frozen=True, slots=True)
class Summary:
    """What a trial component knows of one metric."""

    last: float | None
    min: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class Component:
    """One trial component: the record of a training job, or of what a notebook tracked by itself."""

    name: str
    label: str
    """The display name; the name if it has none."""
    status: str
    created_at: datetime
    began_at: datetime | None
    ended_at: datetime | None
    parameters: Mapping[str, str]
    metrics: Mapping[str, Summary]
    source_arn: str
    """The job that made it; empty if a notebook did."""
    job: JobSnapshot | None
    """The training job's record, if the answer held it."""

    @property
    def of_training(self) -> bool:
        """Whether a training job made it."""
        return TRAINING_JOB_ARN.fullmatch(self.source_arn) is not None


@dataclass(frozen=True, slots=True)
class Tuning:
    arn: str
    metric: str
    """Its objective; empty if it has none."""
    rises: bool | None
    """Whether the objective is to be maximized; None without one."""


class Experiments:
    """Those of one account and region. Every method raises an `AwsError` that names the API."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def components(self, experiment: str) -> Iterator[Component]:
        """The components of all trials of an experiment, newest first: a hundred with each request."""
        with translate("sagemaker:Search"):
            pages = self._aws.sagemaker.get_paginator("search").paginate(
                Resource="ExperimentTrialComponent",
                SearchExpression={
                    "Filters": [{"Name": "Parents.ExperimentName", "Operator": "Equals", "Value": experiment}]
                },
                SortBy="CreationTime",
                SortOrder="Descending",
                PaginationConfig={"PageSize": RECORDS_PER_PAGE},
            )
            for page in pages:
                yield from (_component(result["TrialComponent"]) for result in page["Results"])

    def tuning_job(self, name: str) -> Tuning:
        """Raises `NotFound` if there is no such tuning job."""
        operation = "sagemaker:DescribeHyperParameterTuningJob"
        with translate(operation):
            answer = self._aws.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        objective = answer.get("HyperParameterTuningJobConfig", {}).get("HyperParameterTuningJobObjective")
        return Tuning(
            answer["HyperParameterTuningJobArn"],
            objective["MetricName"] if objective else "",
            objective["Type"] == "Maximize" if objective else None,
        )


def _component(record: Mapping[str, Any]) -> Component:
    source = record.get("SourceDetail", {})
    job = source.get("TrainingJob")
    return Component(
        name=record["TrialComponentName"],
        label=record.get("DisplayName") or record["TrialComponentName"],
        status=record.get("Status", {}).get("PrimaryStatus", ""),
        created_at=record["CreationTime"],
        began_at=record.get("StartTime"),
        ended_at=record.get("EndTime"),
        parameters={
            name: value.get("StringValue", f"{value['NumberValue']:g}" if "NumberValue" in value else "")
            for name, value in record.get("Parameters", {}).items()
        },
        metrics={
            each["MetricName"]: Summary(each.get("Last"), each.get("Min"), each.get("Max"))
            for each in record.get("Metrics", ())
        },
        source_arn=record.get("Source", {}).get("SourceArn") or source.get("SourceArn", ""),
        job=parse_job(job) if job else None,
    )
