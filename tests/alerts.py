"""One training job on which a rule fired, and the alert about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.jobs import a_job, an_outcome
from watcher.alerts.message import Message, compose
from watcher.model import (
    AlertEvidence,
    Delivery,
    DeliveryKind,
    Finding,
    FindingKind,
    HookConfiguration,
    Reading,
    RuleConfiguration,
    RuleSource,
)

NOW = datetime(2026, 11, 20, 10, 0, 5, tzinfo=UTC)
JOB = "churn-xgb-2026-11-20"
JOB_ARN = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{JOB}"
RULE_JOB_ARN = f"arn:aws:sagemaker:eu-west-1:123456789012:processing-job/{JOB}-lossnotdecreasing-0a1b2c3d"

FINDING = Finding(
    id="finding-1",
    kind=FindingKind.RULE_ISSUE,
    job_arn=JOB_ARN,
    job=JOB,
    status="IssuesFound",
    opened_at=NOW - timedelta(seconds=2),
    rule="LossNotDecreasing",
    source=RuleSource.DEBUGGER,
    step=24,
    reason="RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 24 resulted in "
    "the condition being met\n",
)
SNAPSHOT = a_job(
    JOB,
    arn=JOB_ARN,
    created_at=NOW - timedelta(minutes=9),
    modified_at=NOW - timedelta(seconds=20),
    started_at=NOW - timedelta(minutes=7, seconds=30),
    outcomes=(an_outcome("IssuesFound", evaluation_job_arn=RULE_JOB_ARN),),
    rules=(
        RuleConfiguration(
            "LossNotDecreasing",
            RuleSource.DEBUGGER,
            {"rule_to_invoke": "LossNotDecreasing", "num_steps": "2"},
        ),
    ),
    hyperparameters={
        "num_round": "10000",
        "objective": "binary:logistic",
        "max_depth": "16",
        "eta": "0.1",
        "sagemaker_submit_directory": "s3://bucket/code.tar.gz",
        "wandb_api_key": "not to be seen",
    },
    hook=HookConfiguration("s3://bucket/debug"),
    instance_count=2,
    max_runtime=86_400,
    experiment="churn",
    trial="deep-trees",
    tags={"team": "growth", "aws:cloudformation:stack-name": "training"},
)
PRICES = {"ml.m5.xlarge": 0.23}
EVIDENCE = AlertEvidence(
    log_stream=f"{JOB}-LossNotDecreasing-0a1b2c3d/algo-1-1763632800000",
    log_lines=(
        "[2026-11-20 09:59:58.120 INFO] Started execution of rule LossNotDecreasing at step 0",
        "[2026-11-20 09:59:59.345 INFO] Loss is not decreasing over the last 2 steps at step 24.",
    ),
    explanation="train-error fell 1.18 % between step 22 and step 24; the rule wants 5 %",
    deciding=(Reading("train-error", 22, 0.1182), Reading("train-error", 24, 0.1168)),
    curve=tuple(Reading("train-error", step, 0.4 / (1 + step / 10)) for step in range(0, 26, 2)),
)
STOPPING = "Watcher is stopping this job (route: job churn-*, rule *)."
STOPPED = "Stopped by Watcher at 10:00 UTC, 12 s after the alert; SageMaker confirms it."


def delivery(kind: DeliveryKind = DeliveryKind.ALERT, text: str = STOPPING) -> Delivery:
    to = "slack:#alerts"
    return Delivery(
        id=f"delivery-{kind}",
        finding_id="finding-1",
        kind=kind,
        to=to,
        lane=to,
        created_at=NOW,
        due_at=NOW,
        text=text,
    )


def alert(**finding: Any) -> Message:
    """The alert, with other values in its finding."""
    return compose(delivery(), replace(FINDING, **finding), SNAPSHOT, EVIDENCE, NOW, prices=PRICES)


def update() -> Message:
    return compose(delivery(DeliveryKind.UPDATE, STOPPED), FINDING, SNAPSHOT, EVIDENCE, NOW, prices=PRICES)
