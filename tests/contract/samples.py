"""Jobs, findings and deliveries for the tests of the stores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from watcher.model import (
    Delivery,
    DeliveryKind,
    FinalMetric,
    Finding,
    FindingKind,
    HookConfiguration,
    JobSnapshot,
    Outcome,
    RuleConfiguration,
    RuleSource,
    delivery_id,
    finding_id,
)
from watcher.store.base import Look

NOON = datetime(2026, 11, 2, 12, 0, 0, 123456, UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def arn(job: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{job}"


def snapshot(job: str, **changes: Any) -> JobSnapshot:
    values: dict[str, Any] = {
        "arn": arn(job),
        "name": job,
        "status": "InProgress",
        "secondary_status": "Training",
        "created_at": NOON,
        "modified_at": NOON,
    }
    return JobSnapshot(**values | changes)


FULL_SNAPSHOT = snapshot(
    "churn-ünïcode-🚂",
    status="SomethingNew",
    started_at=after(60.000001),
    ended_at=after(0.5),
    failure_reason="AlgorithmError: 'quoted' \"twice\"\nand a NUL \0 in it",
    outcomes=(
        Outcome(
            "LossNotDecreasing",
            RuleSource.DEBUGGER,
            "IssuesFound",
            details="RuleEvaluationConditionMet",
            evaluation_job_arn=arn("x"),
            updated_at=after(7),
        ),
        Outcome("ProfilerReport", RuleSource.PROFILER, "AStatusOfTheFuture"),
    ),
    rules=(RuleConfiguration("loss", RuleSource.DEBUGGER, {"rule_to_invoke": "LossNotDecreasing"}),),
    hook=HookConfiguration(
        "s3://bucket/debug", {"save_interval": "5"}, (("losses", {"save_interval": "2"}),)
    ),
    hyperparameters={"num_round": "10"},
    image="123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.3-1",
    tags={"team": "risk"},
    instance_type="ml.m5.large",
    instance_count=4,
    instance_groups=(("ml.p4d.24xlarge", 2), ("ml.c5.18xlarge", 4)),
    spot=True,
    max_runtime=86400,
    billable_time=3600,
    experiment="churn",
    trial="deep-trees",
    metrics=("validation:error",),
    final_metrics=(FinalMetric("validation:error", 0.125, after(5.5)),),
)
"""A value in every field, including some that are difficult to store."""


def finding(job: str, rule: str = "LossNotDecreasing", **changes: Any) -> Finding:
    values: dict[str, Any] = {
        "id": finding_id(arn(job), FindingKind.RULE_ISSUE, rule, RuleSource.DEBUGGER),
        "kind": FindingKind.RULE_ISSUE,
        "job_arn": arn(job),
        "job": job,
        "status": "IssuesFound",
        "opened_at": NOON,
        "rule": rule,
        "source": RuleSource.DEBUGGER,
    }
    return Finding(**values | changes)


def delivery(of: Finding, to: str = "console", **changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "id": delivery_id(of.id, DeliveryKind.ALERT, to),
        "finding_id": of.id,
        "kind": DeliveryKind.ALERT,
        "to": to,
        "lane": to,
        "created_at": NOON,
        "due_at": NOON,
    }
    return Delivery(**values | changes)


def look(
    job: str,
    findings: Sequence[Finding] = (),
    deliveries: Sequence[Delivery] = (),
    **changes: Any,
) -> Look:
    values: dict[str, Any] = {
        "snapshot": snapshot(job),
        "fingerprint": "as first seen",
        "seen_at": NOON,
        "watching": True,
        "findings": tuple(findings),
        "deliveries": tuple(deliveries),
    }
    return Look(**values | changes)


def alert(job: str, *to: str) -> Look:
    """A look that found one issue, with a delivery to each of these destinations."""
    issue = finding(job)
    return look(job, [issue], [delivery(issue, destination) for destination in to])
