"""Plausible values for tests: each function gives one, changed as asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from watcher.model import JobSnapshot, Judge, Outcome, RuleFamily

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ARN = "arn:aws:sagemaker:us-east-1:111122223333:training-job/"
FIRED = (
    "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 140 "
    "resulted in the condition being met\n"
)


def a_job(name: str = "churn-xgb-2026-11-20", **changes: Any) -> JobSnapshot:
    """A training job in progress that started 40 minutes before NOON, without findings."""
    values: dict[str, Any] = {
        "arn": ARN + name,
        "name": name,
        "status": "InProgress",
        "secondary_status": "Training",
        "created_at": NOON - timedelta(minutes=45),
        "modified_at": NOON - timedelta(minutes=40),
        "started_at": NOON - timedelta(minutes=40),
        "instance_type": "ml.m5.xlarge",
    }
    return JobSnapshot(**{**values, **changes})


def an_ended_job(
    name: str = "churn-xgb-2026-11-20", status: str = "Completed", **changes: Any
) -> JobSnapshot:
    ended = {"status": status, "secondary_status": status, "ended_at": NOON, "modified_at": NOON}
    return a_job(name, **{**ended, **changes})


def an_outcome(
    status: str = "InProgress", rule: str = "LossNotDecreasing", details: str = "", **changes: Any
) -> Outcome:
    values: dict[str, Any] = {
        "family": RuleFamily.DEBUGGER,
        "judge": Judge.DEBUGGER,
        "status": status,
        "rule": rule,
    }
    return Outcome(**{**values, "details": details, **changes})
