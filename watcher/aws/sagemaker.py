"""Asks SageMaker about training jobs, stops them, and turns its records into values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from watcher.aws.session import Aws, translate
from watcher.errors import NotFound
from watcher.model import (
    IN_PROGRESS,
    FinalMetric,
    HookConfiguration,
    JobSnapshot,
    Judge,
    Outcome,
    Phase,
    RuleConfiguration,
    RuleFamily,
)
from watcher.redaction import masked_by_name, masked_hyperparameters, redacted

RECORDS_PER_PAGE = 100
"""The limit of `Search` and `ListTrainingJobs`."""

RECENT_JOBS = 10
"""How many of the newest jobs are searched for one that saves what a check needs."""

MAX_FILTER_VALUE = 1024
"""Characters. The limit of a filter's value in `Search`."""

MAX_JOB_AGE = timedelta(days=60)
"""Longer than a job usually takes from its creation to its last change. The API reference allows 28 days of
waiting for capacity and 28 days of training; rules end after that."""

_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
"""From the API reference."""
_JOB_NAME_PREFIX = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-]{0,62}")

_EVALUATIONS = {
    RuleFamily.DEBUGGER: ("DebugRuleConfigurations", "DebugRuleEvaluationStatuses"),
    RuleFamily.PROFILER: ("ProfilerRuleConfigurations", "ProfilerRuleEvaluationStatuses"),
}


class TrainingJobs:
    """The training jobs of one account and region. Every method raises an `AwsError` that names the API."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def in_progress(self, tags: Mapping[str, str]) -> Iterator[list[JobSnapshot]]:
        """The jobs in progress that carry all of `tags`, a page at a time, through `Search`.

        Search returns whole records, but nothing about profiler rules.
        """
        # Oldest first, so that a job that starts in the meantime is on the last page.
        return self._search([("TrainingJobStatus", "Equals", IN_PROGRESS)], tags, sort_by="CreationTime")

    def changed_since(self, moment: datetime, tags: Mapping[str, str]) -> Iterator[list[JobSnapshot]]:
        """The jobs that are not in progress, carry all of `tags` and changed at or after `moment`, which has
        a time zone; a page at a time, through `Search`. A page may be empty.

        The earliest change comes first, so a job that changes in the meantime is on a later page (again).
        """
        # The API reference documents times of whole seconds without an offset; SageMaker's are in UTC.
        since = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        changed = [
            ("LastModifiedTime", "GreaterThanOrEqualTo", since),
            ("TrainingJobStatus", "NotEquals", IN_PROGRESS),
        ]
        for page in self._search(changed, tags, sort_by="LastModifiedTime"):
            yield [job for job in page if job.modified_at >= moment]

    def _search(
        self,
        conditions: Iterable[tuple[str, str, str]],
        tags: Mapping[str, str],
        *,
        sort_by: str,
        descending: bool = False,
        combine: Literal["And", "Or"] = "And",
    ) -> Iterator[list[JobSnapshot]]:
        """`conditions`: the name, operator and value of each filter."""
        conditions = [*conditions, *((f"Tags.{key}", "Equals", value) for key, value in tags.items())]
        filters = [
            {"Name": name, "Operator": operator, "Value": value} for name, operator, value in conditions
        ]
        with translate("sagemaker:Search"):
            pages = self._aws.sagemaker.get_paginator("search").paginate(
                Resource="TrainingJob",
                SearchExpression={"Filters": filters, "Operator": combine},  # type: ignore[typeddict-item]
                SortBy=sort_by,
                SortOrder="Descending" if descending else "Ascending",
                PaginationConfig={"PageSize": RECORDS_PER_PAGE},
            )
            for page in pages:
                yield [parse_job(result["TrainingJob"]) for result in page["Results"]]

    def matching(self, name: str, value: str) -> Iterator[list[JobSnapshot]]:
        """The jobs, newest first, whose property `name` (a name of `Search`, such as `Tags.team`) has this
        value; a page at a time."""
        return self._search([(name, "Equals", value)], {}, sort_by="CreationTime", descending=True)

    def tagged(self, tags: Mapping[str, str]) -> Iterator[list[JobSnapshot]]:
        """The jobs that carry all of `tags`, newest first; a page at a time."""
        return self._search([], tags, sort_by="CreationTime", descending=True)

    def named(self, names: Sequence[str]) -> Iterator[list[JobSnapshot]]:
        """The jobs of these names that exist, in no particular order: a hundred on a page. Names with a comma
        find nothing."""
        for first in range(0, len(names), RECORDS_PER_PAGE):
            lists = _joined(names[first : first + RECORDS_PER_PAGE])
            filters = [("TrainingJobName", "In", text) for text in lists]
            yield from self._search(filters, {}, sort_by="CreationTime", combine="Or")

    def arns_in_progress(self) -> Iterator[list[str]]:
        """The same through `ListTrainingJobs`, which returns less but needs a more common permission.

        A page may be empty although more follow: SageMaker filters its pages after fetching them.
        """
        with translate("sagemaker:ListTrainingJobs"):
            pages = self._aws.sagemaker.get_paginator("list_training_jobs").paginate(
                StatusEquals=IN_PROGRESS,
                SortBy="CreationTime",
                PaginationConfig={"PageSize": RECORDS_PER_PAGE},
            )
            for page in pages:
                yield [summary["TrainingJobArn"] for summary in page["TrainingJobSummaries"]]

    def arns_changed_since(self, moment: datetime) -> Iterator[list[str]]:
        """The jobs of `changed_since`, whatever their tags, through `ListTrainingJobs`.

        SageMaker applies `LastModifiedTimeAfter` to its pages after fetching them. The time of creation
        bounds what it fetches, so that a pass does not read every job that the account ever had.
        """
        with translate("sagemaker:ListTrainingJobs"):
            pages = self._aws.sagemaker.get_paginator("list_training_jobs").paginate(
                CreationTimeAfter=moment - MAX_JOB_AGE,
                # "After" excludes the time itself.
                LastModifiedTimeAfter=moment - timedelta(seconds=1),
                SortBy="CreationTime",
                SortOrder="Ascending",
                PaginationConfig={"PageSize": RECORDS_PER_PAGE},
            )
            for page in pages:
                yield [
                    summary["TrainingJobArn"]
                    for summary in page["TrainingJobSummaries"]
                    if summary["TrainingJobStatus"] != IN_PROGRESS
                    and summary.get("LastModifiedTime", summary["CreationTime"]) >= moment
                ]

    def newest(self) -> tuple[str, datetime] | None:
        """ARN and CreationTime of the job that was created last, whatever its status; None if there is none.
        One request, through `ListTrainingJobs`."""
        with translate("sagemaker:ListTrainingJobs"):
            answer = self._aws.sagemaker.list_training_jobs(
                SortBy="CreationTime", SortOrder="Descending", MaxResults=1
            )
        for summary in answer["TrainingJobSummaries"]:
            return summary["TrainingJobArn"], summary["CreationTime"]
        return None

    def recent(self) -> list[JobSnapshot]:
        """The newest jobs of any status, RECENT_JOBS at most. One request, through `Search`."""
        with translate("sagemaker:Search"):
            answer = self._aws.sagemaker.search(
                Resource="TrainingJob", SortBy="CreationTime", SortOrder="Descending", MaxResults=RECENT_JOBS
            )
            return [parse_job(result["TrainingJob"]) for result in answer["Results"]]

    def arns_beginning(self, prefix: str) -> Iterator[str]:
        """The jobs whose names begin with `prefix`, newest first, through `Search`: `ListTrainingJobs` would
        fetch every job and filter afterwards."""
        if not _JOB_NAME_PREFIX.fullmatch(prefix):
            return
        containing = [("TrainingJobName", "Contains", prefix)]
        for page in self._search(containing, {}, sort_by="CreationTime", descending=True):
            yield from (job.arn for job in page if job.name.startswith(prefix))

    def describe(self, name: str) -> JobSnapshot:
        """Everything except the tags. Raises `NotFound` if there is no such job."""
        return parse_job(self.record(name))

    def record(self, name: str) -> Mapping[str, Any]:
        """The answer of `DescribeTrainingJob`. Raises `NotFound` if there is no such job."""
        if not _JOB_NAME.fullmatch(name):  # the API would say so in different ways, depending on the endpoint
            raise NotFound(
                f"{name!r} cannot be a training job's name", operation="sagemaker:DescribeTrainingJob"
            )
        with translate("sagemaker:DescribeTrainingJob"):
            answer = self._aws.sagemaker.describe_training_job(TrainingJobName=name)
            _ = answer["TrainingJobArn"], answer["CreationTime"]  # a proxy's page has neither
            return answer

    def tags(self, arn: str) -> dict[str, str]:
        with translate("sagemaker:ListTags"):
            pages = self._aws.sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
            return _tags(tag for page in pages for tag in page["Tags"])

    def stop(self, name: str) -> None:
        with translate("sagemaker:StopTrainingJob"):
            self._aws.sagemaker.stop_training_job(TrainingJobName=name)


def _joined(names: Iterable[str]) -> list[str]:
    """The names as the values of `In` filters, each as long as `Search` allows."""
    lists: list[str] = []
    for name in names:
        if lists and len(lists[-1]) + 1 + len(name) <= MAX_FILTER_VALUE:
            lists[-1] += f",{name}"
        else:
            lists.append(name)
    return lists


def parse_job(record: Mapping[str, Any]) -> JobSnapshot:
    """A record of `Search` or an answer of `DescribeTrainingJob` as a value that may be stored: without what
    looks like a secret."""
    record = _encodable(record)
    algorithm = record.get("AlgorithmSpecification", {})
    resources = record.get("ResourceConfig", {})
    experiment = record.get("ExperimentConfig", {})
    return JobSnapshot(
        arn=record["TrainingJobArn"],
        name=record["TrainingJobName"],
        status=record["TrainingJobStatus"],
        secondary_status=record.get("SecondaryStatus", ""),
        created_at=record["CreationTime"],
        modified_at=record.get("LastModifiedTime", record["CreationTime"]),
        started_at=record.get("TrainingStartTime"),
        ended_at=record.get("TrainingEndTime"),
        failure_reason=redacted(record.get("FailureReason", "")),
        outcomes=tuple(_outcomes(record)),
        rules=tuple(_rules(record)),
        hook=_hook(record.get("DebugHookConfig")),
        profiler_path=_profiler_path(record.get("ProfilerConfig")),
        hyperparameters=masked_hyperparameters(record.get("HyperParameters", {})),
        image=algorithm.get("TrainingImage") or algorithm.get("AlgorithmName", ""),
        tags=_tags(record["Tags"]) if "Tags" in record else None,
        # The job is billed for the type that SageMaker selected among the `InstancePreferences`.
        instance_type=resources.get("SelectedInstanceType") or resources.get("InstanceType", ""),
        instance_count=resources.get("SelectedInstanceCount") or resources.get("InstanceCount", 1),
        instance_groups=tuple(
            (group["InstanceType"], group["InstanceCount"]) for group in resources.get("InstanceGroups", ())
        ),
        spot=record.get("EnableManagedSpotTraining", False),
        max_runtime=record.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 0),
        billable_time=record.get("BillableTimeInSeconds", 0),
        experiment=experiment.get("ExperimentName", ""),
        trial=experiment.get("TrialName", ""),
        metrics=tuple(definition["Name"] for definition in algorithm.get("MetricDefinitions", ())),
        final_metrics=tuple(_final_metrics(record)),
        phases=tuple(
            Phase(one["Status"], one["StartTime"], one.get("EndTime"))
            for one in record.get("SecondaryStatusTransitions", ())
        ),
    )


def _tags(tags: Iterable[Any]) -> dict[str, str]:
    return masked_by_name({tag["Key"]: tag["Value"] for tag in tags})


def _encodable(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record as any store can hold it. Half of an emoji (a lone surrogate), as a text has that was cut
    by UTF-16 units, becomes a question mark."""
    try:
        json.dumps(record, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return _replaced(record)  # type: ignore[no-any-return]
    return record


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_replaced(key): _replaced(item) for key, item in value.items()}
    return [_replaced(item) for item in value] if isinstance(value, list) else value


def _final_metrics(record: Mapping[str, Any]) -> Iterator[FinalMetric]:
    for metric in record.get("FinalMetricDataList", ()):
        value = float(metric["Value"])
        if math.isfinite(value):  # CloudWatch has only finite values, and JSON has no others
            yield FinalMetric(metric["MetricName"], value, metric["Timestamp"])


def _outcomes(record: Mapping[str, Any]) -> Iterator[Outcome]:
    for family, (_, evaluations) in _EVALUATIONS.items():
        for evaluation in record.get(evaluations) or ():
            yield Outcome(
                rule=evaluation.get("RuleConfigurationName", ""),
                family=family,
                judge=Judge.DEBUGGER,
                status=evaluation.get("RuleEvaluationStatus", ""),
                details=redacted(evaluation.get("StatusDetails", "").strip()),
                evaluation_job_arn=evaluation.get("RuleEvaluationJobArn", ""),
                updated_at=evaluation.get("LastModifiedTime"),
            )


def _rules(record: Mapping[str, Any]) -> Iterator[RuleConfiguration]:
    for family, (configurations, _) in _EVALUATIONS.items():
        listed: Sequence[Mapping[str, Any]] = record.get(configurations) or ()
        for rule in listed:
            parameters = masked_by_name(rule.get("RuleParameters", {}))
            yield RuleConfiguration(rule["RuleConfigurationName"], family, parameters)


def _profiler_path(profiler: Mapping[str, Any] | None) -> str:
    """Where the profiler saves; empty if it is off."""
    if not profiler or profiler.get("DisableProfiler"):
        return ""
    return str(profiler.get("S3OutputPath", ""))


def _hook(hook: Mapping[str, Any] | None) -> HookConfiguration | None:
    if not hook:
        return None
    return HookConfiguration(
        output=hook["S3OutputPath"],
        parameters=hook.get("HookParameters", {}),
        collections=tuple(
            (collection.get("CollectionName", ""), collection.get("CollectionParameters", {}))
            for collection in hook.get("CollectionConfigurations", ())
        ),
    )
