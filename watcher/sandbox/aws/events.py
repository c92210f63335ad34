"""Derives the events that EventBridge sends for a change from the job before and after it. Pure.

The shapes are documented as "SageMaker Training Job State Change" and "SageMaker Processing Job State
Change": times are in milliseconds (the start of training as a string), tags are a map. AWS may send an event
twice; the sandbox sends each event about an end twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from watcher.sandbox.jobs.rule_jobs import rule_jobs
from watcher.sandbox.sagemaker.training_job import DEBUG_RULES, Record, TrainingJob

_TRAINING_MEMBERS = (
    "TrainingJobName",
    "TrainingJobArn",
    "TrainingJobStatus",
    "SecondaryStatus",
    "FailureReason",
    "HyperParameters",
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "CreationTime",
    "TrainingStartTime",
    "TrainingEndTime",
    "LastModifiedTime",
    "SecondaryStatusTransitions",
)
_TIMES = frozenset(
    {
        "CreationTime",
        "TrainingStartTime",
        "TrainingEndTime",
        "ProcessingStartTime",
        "ProcessingEndTime",
        "LastModifiedTime",
        "StartTime",
        "EndTime",
    }
)


@dataclass(frozen=True)
class Event:
    detail_type: str
    resource: str
    detail: Record


def between(before: TrainingJob | None, after: TrainingJob) -> Iterator[Event]:
    """The events of one change, in the order in which they happen."""
    earlier = {(rule.statuses, rule.rule): rule.status for rule in rule_jobs(before)} if before else {}
    rule_changed = False
    for rule in rule_jobs(after):
        old = earlier.get((rule.statuses, rule.rule), {})
        seen = ("RuleEvaluationStatus", "RuleEvaluationJobArn")
        if all(old.get(member) == rule.status.get(member) for member in seen):
            continue
        rule_changed = rule_changed or rule.statuses == DEBUG_RULES
        if rule.arn:
            record = rule.processing_job()
            event = Event("SageMaker Processing Job State Change", rule.arn, _milliseconds(record))
            yield from _repeated(event, ended="ProcessingEndTime" in record)
    moved = before is None or any(
        before.record[member] != after.record[member] for member in ("TrainingJobStatus", "SecondaryStatus")
    )
    if moved or rule_changed:
        event = Event(
            "SageMaker Training Job State Change", after.arn, _training_detail(after, with_rules=rule_changed)
        )
        yield from _repeated(event, ended=moved and after.ended)


def _repeated(event: Event, *, ended: bool) -> Iterator[Event]:
    yield event
    if ended:
        yield event


def _training_detail(job: TrainingJob, *, with_rules: bool) -> Record:
    """Rule statuses are included only if a rule has changed, so that no consumer relies on them."""
    detail: Record = {member: job.record[member] for member in _TRAINING_MEMBERS if member in job.record}
    detail |= {"VpcConfig": detail.get("VpcConfig", {}), "Tags": dict(job.tags)}
    if with_rules:
        detail[DEBUG_RULES] = job.record[DEBUG_RULES]
    detail = {**_milliseconds(detail)}
    if "TrainingStartTime" in detail:
        detail["TrainingStartTime"] = str(detail["TrainingStartTime"])
    return detail


def _milliseconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: int(item * 1000) if key in _TIMES else _milliseconds(item) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_milliseconds(item) for item in value]
    return value
