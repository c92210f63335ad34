"""What is done about a finding, and why: findings become decisions. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from watcher.config import Config, Stop
from watcher.model import (
    STOP_DESTINATION,
    Decision,
    Delivery,
    DeliveryKind,
    Finding,
    FindingKind,
    JobSnapshot,
    Routing,
    RuleSource,
    StopChoice,
    delivery_id,
)


def wanted(finding: Finding, config: Config) -> bool:
    """Whether anybody asked to be told this."""
    return finding.kind is not FindingKind.JOB_COMPLETED or config.watch.report_completed


def decide(finding: Finding, job: JobSnapshot, config: Config) -> Decision:
    """Where a finding goes, and whether its job is to be stopped."""
    route = next((r for r in config.route if r.matches(finding.job, finding.rule)), None)
    if route and route.to:
        to, routing = route.to, Routing.ROUTE
    elif config.slack.channel:
        to, routing = (f"slack:{config.slack.channel}",), Routing.SLACK_CHANNEL
    else:
        to, routing = ("console",), Routing.CONSOLE
    return Decision(
        to=tuple(dict.fromkeys(to)),
        routing=routing,
        stop=_stop_choice(finding, job, asked=bool(route and route.stop)),
        route=str(route) if route else "",
    )


def _stop_choice(finding: Finding, job: JobSnapshot, *, asked: bool) -> StopChoice:
    if not job.in_progress:
        return StopChoice.NOT_RUNNING
    if finding.kind is not FindingKind.RULE_ISSUE:
        return StopChoice.NOT_AN_ISSUE
    if not asked:
        return StopChoice.NOT_ASKED
    if finding.source is RuleSource.PROFILER:
        return StopChoice.PROFILER
    return StopChoice.STOP


def deliveries(finding: Finding, decision: Decision, settings: Stop, now: datetime) -> list[Delivery]:
    """The outbox's rows for a decision: one alert a destination, and the stop."""
    sentence = stop_sentence(finding, decision, settings, now)
    rows = [
        Delivery(
            id=delivery_id(finding.id, DeliveryKind.ALERT, to),
            finding_id=finding.id,
            kind=DeliveryKind.ALERT,
            to=to,
            lane=to,
            created_at=now,
            due_at=now,
            text=sentence,
        )
        for to in decision.to
    ]
    if decision.stop is StopChoice.STOP:
        rows.append(
            Delivery(
                id=delivery_id(finding.id, DeliveryKind.STOP, STOP_DESTINATION),
                finding_id=finding.id,
                kind=DeliveryKind.STOP,
                to=STOP_DESTINATION,
                # A lane of its own for each job: one that will not stop holds up no other.
                lane=f"{STOP_DESTINATION}:{finding.job_arn}",
                created_at=now,
                due_at=now + timedelta(seconds=settings.grace),
                text=f"route {decision.route}",
            )
        )
    return rows


def updates(alerts: list[Delivery], text: str, now: datetime) -> list[Delivery]:
    """Say what became of a stop wherever the alert was told."""
    return [
        Delivery(
            id=delivery_id(alert.finding_id, DeliveryKind.UPDATE, alert.to),
            finding_id=alert.finding_id,
            kind=DeliveryKind.UPDATE,
            to=alert.to,
            lane=alert.lane,
            created_at=now,
            due_at=now,
            text=text,
        )
        for alert in alerts
        if alert.kind is DeliveryKind.ALERT
    ]


def stop_sentence(finding: Finding, decision: Decision, settings: Stop, now: datetime) -> str:
    """What the alert says about the job's fate."""
    match decision.stop:
        case StopChoice.STOP if settings.dry_run:
            return f"Dry run: Watcher checks whether it would stop this job (route {decision.route})."
        case StopChoice.STOP if settings.grace:
            at = now + timedelta(seconds=settings.grace)
            return (
                f"Watcher stops this job at {at:%H:%M:%S} UTC (route {decision.route}). "
                f"To prevent that: watcher stop {finding.job} --cancel"
            )
        case StopChoice.STOP:
            return f"Watcher is stopping this job (route {decision.route})."
        case StopChoice.NOT_ASKED:
            return f"The job goes on: no route asks to stop it. To stop it: watcher stop {finding.job}"
        case StopChoice.PROFILER:
            return "The job goes on: profiler rules never stop a job."
        case StopChoice.NOT_AN_ISSUE | StopChoice.NOT_RUNNING:
            return ""


class Refusal(StrEnum):
    """Why a job that somebody asked to stop is not stopped."""

    GONE = "gone"
    ANOTHER_JOB = "another_job"
    NOT_IN_PROGRESS = "not_in_progress"
    DRY_RUN = "dry_run"
    TOO_YOUNG = "too_young"
    BRAKE = "brake"


def refusal(job: JobSnapshot, arn: str, settings: Stop, now: datetime) -> Refusal | None:
    """The first guard that forbids to stop `job`, as SageMaker shows it right now; None: go ahead.

    The hourly brake is not among them: it counts over all processes, so the store keeps it.
    """
    if job.arn != arn:
        return Refusal.ANOTHER_JOB
    if not job.in_progress:
        return Refusal.NOT_IN_PROGRESS
    age = (now - (job.started_at or job.created_at)).total_seconds()
    if age < settings.min_runtime:
        return Refusal.TOO_YOUNG
    if settings.dry_run:
        return Refusal.DRY_RUN
    return None
