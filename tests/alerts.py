"""One training job on which a rule fired, its incident, and the alert about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.jobs import a_job, an_outcome
from watcher.alerts.message import Message, compose
from watcher.model import (
    AlertEvidence,
    Case,
    Change,
    ChangeKind,
    Closing,
    Delivery,
    DeliveryKind,
    Finding,
    FindingKind,
    HookConfiguration,
    Incident,
    IncidentState,
    JobSnapshot,
    Judge,
    Reading,
    RuleConfiguration,
    RuleFamily,
    RunStop,
    Says,
    Severity,
    StopPhase,
)

NOW = datetime(2026, 11, 20, 10, 0, 5, tzinfo=UTC)
JOB = "churn-xgb-2026-11-20"
JOB_ARN = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{JOB}"
RULE_JOB_ARN = f"arn:aws:sagemaker:eu-west-1:123456789012:processing-job/{JOB}-lossnotdecreasing-0a1b2c3d"

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
            RuleFamily.DEBUGGER,
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
RUN = SNAPSHOT.run
FINDING = Finding(
    id="finding-1",
    kind=FindingKind.RULE_ISSUE,
    run=RUN,
    job=JOB,
    status="IssuesFound",
    opened_at=NOW - timedelta(seconds=2),
    incident="incident-1",
    severity=Severity.CRITICAL,
    rule="LossNotDecreasing",
    family=RuleFamily.DEBUGGER,
    judge=Judge.DEBUGGER,
    step=24,
    reason="RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 24 resulted in "
    "the condition being met\n",
    says=(Says(Judge.DEBUGGER, "IssuesFound", NOW - timedelta(seconds=2), 24),),
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
ROUTE = "route job churn-*, rule *"
ASKED = RunStop(StopPhase.ASKED, ROUTE, NOW)
STOPPED = RunStop(
    StopPhase.STOPPED,
    ROUTE,
    NOW + timedelta(seconds=12),
    reason=f"Stopped by Watcher ({ROUTE}) at 10:00:17 UTC; SageMaker confirms it.",
)


def an_alert(to: str = "slack:#alerts", **changes: Any) -> Delivery:
    """An alert that has told nothing yet, and is to tell everything."""
    values: dict[str, Any] = {"lane": to, "created_at": NOW, "due_at": NOW, "wanted": 1, "trying": 1}
    return Delivery(
        id="delivery-1", incident="incident-1", kind=DeliveryKind.ALERT, to=to, **{**values, **changes}
    )


def a_case(*findings: Finding, changes: tuple[Change, ...] | None = None, **incident: Any) -> Case:
    """The incident of these findings, or of `FINDING`, with a change for each."""
    findings = findings or (FINDING,)
    if changes is None:
        changes = tuple(
            a_change(ChangeKind.WORSE if number else ChangeKind.OPENED, number + 1, finding=one.id)
            for number, one in enumerate(findings)
        )
    values: dict[str, Any] = {
        "state": IncidentState.OPEN if any(one.open for one in findings) else IncidentState.RESOLVED,
        "severity": max((one.severity for one in findings), key=lambda severity: severity.rank),
        "revision": len(changes),
        "opened_at": findings[0].opened_at,
        "stop": ASKED,
    }
    case = Incident(id="incident-1", run=findings[0].run, job=findings[0].job, **{**values, **incident})
    return Case(case, findings, (an_alert(),), changes)


def a_change(kind: ChangeKind, revision: int = 1, **changes: Any) -> Change:
    values: dict[str, Any] = {"at": NOW, "text": "something happened", "incident": "incident-1"}
    return Change(revision, kind=kind, run=RUN, **{**values, **changes})


def told(
    case: Case,
    alert: Delivery | None = None,
    snapshot: JobSnapshot | None = SNAPSHOT,
    evidence: AlertEvidence = EVIDENCE,
) -> Message:
    """The message about this case; by default the first one."""
    alert = alert or an_alert(trying=case.incident.revision)
    return compose(case, alert, snapshot, evidence, NOW, prices=PRICES)


def alert(**finding: Any) -> Message:
    """The first message about an incident whose job is being stopped, with other values in its finding."""
    return told(a_case(replace(FINDING, **finding)))


def update() -> Message:
    """The message of a one-way destination when the job was stopped."""
    over = replace(FINDING, closed_at=NOW, closing=Closing.RUN_ENDED, closing_reason="The job has ended.")
    changes = (
        a_change(ChangeKind.OPENED, 1, finding=FINDING.id),
        a_change(ChangeKind.STOPPED, 2, text=STOPPED.reason),
    )
    case = a_case(over, changes=changes, stop=STOPPED, resolved_at=NOW)
    return told(case, an_alert(told=1, wanted=2, trying=2))
