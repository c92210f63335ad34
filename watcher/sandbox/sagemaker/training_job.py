"""One training job as SageMaker shows it, and how its status changes. Pure: the time is an argument.

A job holds the record that `DescribeTrainingJob` returns as JSON: members are named as in the API, and times
are seconds since 1970.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from watcher.sandbox.sagemaker import shapes
from watcher.sandbox.sagemaker.api_errors import ApiError, invalid

Record = dict[str, Any]

ENDED_STATUSES = frozenset({"Completed", "Failed", "Stopped"})
FINAL_RULE_STATUSES = frozenset({"NoIssuesFound", "IssuesFound", "Error", "Stopped"})

DEBUG_RULES = "DebugRuleEvaluationStatuses"
PROFILER_RULES = "ProfilerRuleEvaluationStatuses"
RULE_CONFIGURATIONS = {
    DEBUG_RULES: "DebugRuleConfigurations",
    PROFILER_RULES: "ProfilerRuleConfigurations",
}

DEFAULT_MAX_RUNTIME_S = 86_400
ROLE = "arn:aws:iam::123456789012:role/sandbox"

MESSAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}


XGBOOST_METRICS = [
    {
        "Name": f"{data}:{metric}",
        "Regex": rf".*\[[0-9]+\].*#011{data}-{metric}:([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?).*",
    }
    for data in ("train", "validation")
    for metric in (
        *("accuracy", "auc", "error", "f1", "logloss", "mae"),
        *("map", "merror", "mlogloss", "mse", "ndcg", "rmse"),
    )
]
"""The MetricDefinitions that SageMaker adds to a job of its built-in XGBoost: all metrics that it can
compute."""


@dataclass(frozen=True)
class TrainingJob:
    record: Record
    """Never changed in place, because a reader may use it while the job changes."""
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        return str(self.record["TrainingJobName"])

    @property
    def arn(self) -> str:
        return str(self.record["TrainingJobArn"])

    @property
    def status(self) -> str:
        return str(self.record["TrainingJobStatus"])

    @property
    def ended(self) -> bool:
        return self.status in ENDED_STATUSES

    @property
    def max_runtime(self) -> float:
        return float(self.record["StoppingCondition"].get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_S))

    @cached_property
    def description(self) -> str:
        """The answer to `DescribeTrainingJob`, as JSON; without tags, as at AWS."""
        return json.dumps(self.record)

    @cached_property
    def searchable(self) -> Record:
        """The record that `Search` returns: with tags, but without profiler rules."""
        known = shapes.members("TrainingJob")
        record = {member: value for member, value in self.record.items() if member in known}
        return record | {"Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()]}

    @cached_property
    def search_result(self) -> str:
        """One entry of `Search`'s results, as JSON. Cached, because a large search mostly serializes."""
        return json.dumps({"TrainingJob": self.searchable})


def debug_output(job: Mapping[str, Any]) -> str:
    """The place where the hook of a job with this record saves: `s3://BUCKET/PATH/JOB/debug-output`."""
    return f"{job['DebugHookConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/debug-output"


def arn_of(name: str, account: str, region: str) -> str:
    return f"arn:aws:sagemaker:{region}:{account}:training-job/{name}"


def created(request: Mapping[str, Any], *, account: str, region: str, now: float) -> TrainingJob:
    """The job that `CreateTrainingJob` creates from a request."""
    name = request["TrainingJobName"]
    output = {"KmsKeyId": ""} | request["OutputDataConfig"]
    known = shapes.members("DescribeTrainingJobResponse")
    record: Record = {
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        "StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME_S},
    }
    record |= {member: value for member, value in request.items() if member in known}
    record |= {
        "TrainingJobArn": arn_of(name, account, region),
        "OutputDataConfig": output,
        "ModelArtifacts": {
            "S3ModelArtifacts": f"{output['S3OutputPath'].rstrip('/')}/{name}/output/model.tar.gz"
        },
        "TrainingJobStatus": "InProgress",
        "CreationTime": now,
    }
    record["ProfilingStatus"] = _profiling_status(record)
    if record["ProfilingStatus"] == "Enabled" and not record.get("ProfilerRuleConfigurations"):
        record["ProfilerRuleConfigurations"] = [_profiler_report(region, now)]
    for statuses, configurations in RULE_CONFIGURATIONS.items():
        if record.get(configurations):
            record[statuses] = [_waiting(rule, now) for rule in record[configurations]]
    algorithm = record.get("AlgorithmSpecification", {})
    if "xgboost" in algorithm.get("TrainingImage", "") and not algorithm.get("MetricDefinitions"):
        record["AlgorithmSpecification"] = algorithm | {"MetricDefinitions": XGBOOST_METRICS}
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())}
    return entered(TrainingJob(record, tags), "Starting", now)


def _profiling_status(record: Record) -> str:
    profiler = record.get("ProfilerConfig")
    return "Disabled" if profiler is None or profiler.get("DisableProfiler", False) else "Enabled"


def _waiting(rule: Record, now: float) -> Record:
    """The status of a rule with this configuration before its processing job starts."""
    return {
        "RuleConfigurationName": rule["RuleConfigurationName"],
        "RuleEvaluationStatus": "InProgress",
        "LastModifiedTime": now,
    }


def updated(job: TrainingJob, request: Mapping[str, Any], now: float) -> TrainingJob:
    """The job after `UpdateTrainingJob`: given settings replace the present ones, profiler rules are added.

    Raises `ApiError` if the job has ended (then only its ResourceConfig can change), or has a rule of that
    name.
    """
    changes: Record = {
        member: job.record.get(member, {}) | request[member]
        for member in ("ProfilerConfig", "RemoteDebugConfig", "ResourceConfig")
        if member in request
    }
    added = request.get("ProfilerRuleConfigurations", [])
    if job.ended and request.keys() - {"TrainingJobName", "ResourceConfig"}:
        raise _rejected(job)
    if added:
        present = job.record.get("ProfilerRuleConfigurations", [])
        names = [rule["RuleConfigurationName"] for rule in [*present, *added]]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise invalid(f"The training job has a rule configuration with this name: {', '.join(twice)}.")
        changes["ProfilerRuleConfigurations"] = [*present, *added]
        statuses = job.record.get(PROFILER_RULES, [])
        changes[PROFILER_RULES] = [*statuses, *(_waiting(rule, now) for rule in added)]
    record = job.record | changes | {"LastModifiedTime": now}
    return replace(job, record=record | {"ProfilingStatus": _profiling_status(record)})


def _profiler_report(region: str, now: float) -> Record:
    """The rule that SageMaker adds to each profiled job, with the name that the SDK gives it."""
    return {
        "RuleConfigurationName": f"ProfilerReport-{int(now)}",
        "RuleEvaluatorImage": f"503895931360.dkr.ecr.{region}.amazonaws.com/sagemaker-debugger-rules:latest",
        "RuleParameters": {"rule_to_invoke": "ProfilerReport"},
    }


def entered(job: TrainingJob, secondary_status: str, now: float, **members: Any) -> TrainingJob:
    """The job in its next secondary status, with `members` changed as well."""
    since = members.get("TrainingStartTime", now) if secondary_status == "Training" else now
    earlier = [dict(transition) for transition in job.record.get("SecondaryStatusTransitions", ())]
    if earlier:
        earlier[-1].setdefault("EndTime", since)
    transition = {
        "Status": secondary_status,
        "StartTime": since,
        "StatusMessage": MESSAGES.get(secondary_status, secondary_status),
    }
    record = job.record | {
        "SecondaryStatus": secondary_status,
        "SecondaryStatusTransitions": [*earlier, transition],
        "LastModifiedTime": now,
        **members,
    }
    if secondary_status == "Training":
        record.setdefault("TrainingStartTime", now)
    if record["TrainingJobStatus"] in ENDED_STATUSES:
        transition["EndTime"] = now
        record.setdefault("TrainingEndTime", now)
        if "TrainingStartTime" in record:
            seconds = max(1, round(record["TrainingEndTime"] - record["TrainingStartTime"]))
            record |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
    return replace(job, record=record)


def stopping(job: TrainingJob, now: float) -> TrainingJob:
    """The job after `StopTrainingJob`; raises `ApiError` unless it is in progress."""
    if job.status != "InProgress":
        raise _rejected(job)
    return entered(job, "Stopping", now, TrainingJobStatus="Stopping")


def check_deletable(job: TrainingJob) -> None:
    """Raise the `ApiError` with which `DeleteTrainingJob` refuses a job that has not ended."""
    if not job.ended:
        raise _rejected(job)


def _rejected(job: TrainingJob) -> ApiError:
    return invalid(f"The request was rejected because the training job is in status {job.status}.")


def with_rule(job: TrainingJob, statuses: str, rule: str, now: float, **members: Any) -> TrainingJob:
    """The job with `members` set on one rule's entry in the list `statuses`. A final status stays. If nothing
    changes, neither do the times."""

    def changed(entry: Record) -> Record:
        final = entry["RuleEvaluationStatus"] in FINAL_RULE_STATUSES
        if entry["RuleConfigurationName"] != rule or (final and "RuleEvaluationStatus" in members):
            return entry
        return entry if entry | members == entry else entry | members | {"LastModifiedTime": now}

    before = list(job.record.get(statuses, ()))
    after = [changed(entry) for entry in before]
    if after == before:
        return job
    return replace(job, record=job.record | {statuses: after, "LastModifiedTime": now})


def placed(
    name: str, members: Mapping[str, Any], *, account: str, region: str, now: float, old: TrainingJob | None
) -> TrainingJob:
    """The job after it was put directly into a state. A member that is not given keeps its value or, in a new
    job, gets a default. An end has the given LastModifiedTime, if there is one.

    Raises `ApiError` for a member that `DescribeTrainingJob` does not have.
    """
    unknown = members.keys() - shapes.members("DescribeTrainingJobResponse") - {"Tags"}
    if unknown:
        raise invalid(f"DescribeTrainingJob has no member {', '.join(sorted(unknown))}.")
    given = {key: value for key, value in members.items() if key not in {"Tags", "TrainingJobName"}}
    for statuses in RULE_CONFIGURATIONS:
        if statuses in given:
            before = old.record.get(statuses, ()) if old else ()
            given[statuses] = [_placed_status(status, before, now) for status in given[statuses]]
    if old is None:
        request = {
            "TrainingJobName": name,
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": "s3://sandbox"},
        }
        job = created(request, account=account, region=region, now=given.get("CreationTime", now))
        given = {"TrainingJobStatus": "InProgress", **given}
    else:
        job = old
    if "Tags" in members:
        job = replace(job, tags={tag["Key"]: tag["Value"] for tag in members["Tags"]})
    if "TrainingJobStatus" in given:
        status = given["TrainingJobStatus"]
        given.setdefault("SecondaryStatus", "Training" if status == "InProgress" else status)
    secondary = given.pop("SecondaryStatus", job.record["SecondaryStatus"])
    status = given.get("TrainingJobStatus", job.status)
    if (status, secondary) != (job.status, job.record["SecondaryStatus"]):
        return entered(job, secondary, given.get("LastModifiedTime", now), **given)
    if all(job.record.get(member) == value for member, value in given.items()):
        return job
    return replace(job, record=job.record | {"LastModifiedTime": now, **given})


def _placed_status(status: Record, before: Iterable[Record], now: float) -> Record:
    """The rule's status, which keeps the time of an equal one `before`."""
    for earlier in before:
        if earlier | status == earlier:
            return {"LastModifiedTime": earlier["LastModifiedTime"]} | status
    return {"LastModifiedTime": now} | status
