"""Runs, incidents and deliveries for the tests of the stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from watcher.arn import run_id
from watcher.model import (
    Case,
    Change,
    ChangeKind,
    Closing,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Door,
    FinalMetric,
    Finding,
    FindingKind,
    Form,
    HookConfiguration,
    Incident,
    IncidentState,
    JobSnapshot,
    Judge,
    Outcome,
    RuleConfiguration,
    RuleFamily,
    RunStop,
    Says,
    Severity,
    StopPhase,
    delivery_id,
    finding_id,
    incident_id,
)
from watcher.store.base import Amend, DueEvaluation, Look

NOON = datetime(2026, 11, 2, 12, 0, 0, 123456, UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def arn(job: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{job}"


def run(job: str, created_at: datetime = NOON) -> str:
    return run_id(arn(job), created_at)


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
            RuleFamily.DEBUGGER,
            Judge.DEBUGGER,
            "IssuesFound",
            details="RuleEvaluationConditionMet",
            evaluation_job_arn=arn("x"),
            updated_at=after(7),
        ),
        Outcome("ProfilerReport", RuleFamily.PROFILER, Judge.DEBUGGER, "AStatusOfTheFuture"),
    ),
    rules=(RuleConfiguration("loss", RuleFamily.DEBUGGER, {"rule_to_invoke": "LossNotDecreasing"}),),
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


def look(job: str, amend: Amend | None = None, **changes: Any) -> Look:
    values: dict[str, Any] = {
        "snapshot": snapshot(job),
        "fingerprint": "as first seen",
        "seen_at": NOON,
        "watching": True,
        "amend": amend,
    }
    return Look(**values | changes)


# -- what belongs to an incident -------------------------------------------------------------------


def incident(job: str, **changes: Any) -> Incident:
    """As it is after its first change."""
    values: dict[str, Any] = {
        "id": incident_id(run(job)),
        "run": run(job),
        "job": job,
        "state": IncidentState.OPEN,
        "severity": Severity.CRITICAL,
        "revision": 1,
        "telling_revision": 1,
        "opened_at": NOON,
    }
    return Incident(**values | changes)


FULL_INCIDENT = incident(
    "full-ünïcode-🚂",
    state=IncidentState.ACKNOWLEDGED,
    resolved_at=after(5),
    acknowledged_by='<@U1> "Zoë"',
    acknowledged_at=after(2.000001),
    snoozed_until=after(3600),
    snoozed_by="someone\nelse",
    stop=RunStop(StopPhase.WAITING, "route job *", after(3), after(4), "a reason"),
)


def finding(job: str, rule: str = "LossNotDecreasing", **changes: Any) -> Finding:
    values: dict[str, Any] = {
        "id": finding_id(run(job), FindingKind.RULE_ISSUE, rule, RuleFamily.DEBUGGER),
        "kind": FindingKind.RULE_ISSUE,
        "run": run(job),
        "job": job,
        "status": "IssuesFound",
        "opened_at": NOON,
        "incident": incident_id(run(job)),
        "severity": Severity.CRITICAL,
        "rule": rule,
        "family": RuleFamily.DEBUGGER,
        "judge": Judge.DEBUGGER,
    }
    return Finding(**values | changes)


FULL_FINDING = finding(
    "full-ünïcode-🚂",
    step=120,
    reason="at step <120> 🚂",
    says=(
        Says(Judge.WATCHER, "IssuesFound", NOON, 120, "saw it"),
        Says(Judge.DEBUGGER, "IssuesFound", after(0.000001)),
    ),
    episode=2,
    closed_at=after(9),
    closing=Closing.RECOVERED,
    closing_reason="the loss fell again",
)


def delivery(job: str, to: str = "console", **changes: Any) -> Delivery:
    """An alert of the job's incident."""
    values: dict[str, Any] = {
        "id": delivery_id(incident_id(run(job)), DeliveryKind.ALERT, to),
        "incident": incident_id(run(job)),
        "kind": DeliveryKind.ALERT,
        "to": to,
        "lane": to,
        "created_at": NOON,
        "due_at": NOON,
        "wanted": 1,
    }
    return Delivery(**values | changes)


FULL_DELIVERY = delivery(
    "full-ünïcode-🚂",
    "webhook:https://example.com/?a=ü",
    kind=DeliveryKind.STOP,
    lane="refused:1",
    due_at=after(0.000001),
    state=DeliveryState.REFUSED,
    attempts=3,
    uncertain=True,
    receipt='{"ts": "1.2"}',
    error="not_in_channel",
    delivered_at=after(3),
    told=2,
    wanted=5,
    trying=4,
    failures=7,
    refused_at=after(8),
    form=Form.PLAIN,
    run=run("full-ünïcode-🚂"),
    finding="abc",
    actor="route job *",
)


def change(job: str, revision: int = 1, **changes: Any) -> Change:
    values: dict[str, Any] = {
        "revision": revision,
        "at": after(revision - 1),
        "kind": ChangeKind.OPENED if revision == 1 else ChangeKind.WORSE,
        "text": f"change {revision}",
        "incident": incident_id(run(job)),
        "run": run(job),
    }
    return Change(**values | changes)


FULL_CHANGE = change(
    "full-ünïcode-🚂",
    7,
    kind=ChangeKind.ACKNOWLEDGED,
    text="Zoë has this 🚂",
    actor="<@U1>",
    door=Door.SLACK,
    finding="abc",
)


def case(job: str, *deliveries: Delivery, **changes: Any) -> Case:
    """A new incident with one finding, and its first change."""
    values: dict[str, Any] = {
        "incident": incident(job),
        "findings": (finding(job),),
        "deliveries": deliveries,
        "changes": (change(job),),
    }
    return Case(**values | changes)


# -- amendments ------------------------------------------------------------------------------------


def opens(new: Case) -> Amend:
    """Stores the case unless there is one already."""
    return lambda known: new if known is None else None


def alert(job: str, *to: str, **changes: Any) -> Look:
    """A look that opens an incident, with an alert to each of these destinations."""
    return look(job, opens(case(job, *(delivery(job, one) for one in to))), **changes)


def unchanged(_: Case | None) -> None:
    """Changes nothing."""


def grows(known: Case | None) -> Case | None:
    """One more change, which every destination is to see: alerts that were over are due again."""
    assert known is not None
    revision = known.incident.revision + 1
    return Case(
        replace(known.incident, revision=revision, telling_revision=revision),
        known.findings,
        tuple(_wants(each, revision) for each in known.deliveries),
        (change(known.incident.job, revision),),
    )


def _wants(alert: Delivery, revision: int) -> Delivery:
    state = DeliveryState.PENDING if alert.state is DeliveryState.DELIVERED else alert.state
    return replace(alert, wanted=revision, state=state)


def rewrites(*deliveries: Delivery) -> Amend:
    """Puts these deliveries in the place of those with the same ids, or adds them."""

    def amend(known: Case | None) -> Case | None:
        assert known is not None
        rows = {each.id: each for each in (*known.deliveries, *deliveries)}
        return replace(known, deliveries=tuple(rows.values()))

    return amend


def due(run: str, family: RuleFamily = RuleFamily.DEBUGGER) -> DueEvaluation:
    return DueEvaluation(run, family)
