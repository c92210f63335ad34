"""Decides where a finding goes and whether its job is stopped, and makes the deliveries. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from watcher.config.settings import Config, Stop
from watcher.model import (
    RECOVERED,
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
    finding_id,
)


def wanted(finding: Finding, config: Config) -> bool:
    """Whether the configuration asks for this finding."""
    return finding.kind is not FindingKind.JOB_COMPLETED or config.watch.report_completed


def decide(finding: Finding, job: JobSnapshot, config: Config) -> Decision:
    """Where a finding goes, and whether its job is stopped."""
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
    """The deliveries of a decision: an alert for each destination, and the stop."""
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
                # Each job has its own lane, so that one which does not stop delays no other.
                lane=f"{STOP_DESTINATION}:{finding.job_arn}",
                created_at=now,
                due_at=now + timedelta(seconds=settings.grace),
                text=f"route {decision.route}",
            )
        )
    return rows


def updates(rows: Sequence[Delivery], text: str, now: datetime) -> list[Delivery]:
    """Updates that say what became of a stop, for each alert in `rows`, which are the finding's
    deliveries."""
    return [_update(alert, alert.finding_id, text, now) for alert in rows if _is_alert(alert)]


def plot(alert: Delivery, now: datetime) -> Delivery:
    """The picture for an alert that was sent. It has its own lane: drawing and uploading delay no alert."""
    id_ = delivery_id(alert.finding_id, DeliveryKind.PLOT, alert.to)
    return Delivery(
        id=id_,
        finding_id=alert.finding_id,
        kind=DeliveryKind.PLOT,
        to=alert.to,
        lane=f"plot:{id_}",
        created_at=now,
        due_at=now,
        follows=alert.id,
    )


def twin(finding: Finding) -> str | None:
    """The id that the same issue has if the other evaluator finds it; None if there is no other evaluator.

    Debugger and Watcher may both evaluate a rule. People should get one alert for both.
    """
    if finding.kind is not FindingKind.RULE_ISSUE or finding.source not in _OTHER_EVALUATOR:
        return None
    return finding_id(finding.job_arn, finding.kind, finding.rule, _OTHER_EVALUATOR[finding.source])


def judged_twice(finding: Finding, job: JobSnapshot) -> bool:
    """Whether the other evaluator has finished the finding's rule, or seen it recover, too: only then it may
    have found the same."""
    other = _OTHER_EVALUATOR.get(finding.source) if finding.source else None
    return any(
        outcome.final or outcome.status == RECOVERED
        for outcome in job.outcomes
        if (outcome.source, outcome.rule) == (other, finding.rule)
    )


def agreement(finding: Finding, twins_rows: Sequence[Delivery], now: datetime) -> list[Delivery]:
    """Updates for the alerts of the finding's twin, which say that the other evaluator found the same."""
    who = {
        RuleSource.DEBUGGER: "Debugger's own rule job",
        RuleSource.LOCAL: "Watcher's own evaluation",
    }
    step = f" at step {finding.step}" if finding.step is not None else ""
    sentence = f"{who[finding.source or RuleSource.DEBUGGER]} found the same{step}."
    latest = {row.to: row.text for row in twins_rows if row.kind in _MESSAGES}
    return [
        _update(alert, finding.id, f"{latest[alert.to]}\n{sentence}".strip(), now)
        for alert in twins_rows
        if _is_alert(alert)
    ]


_MESSAGES = frozenset({DeliveryKind.ALERT, DeliveryKind.UPDATE})


_OTHER_EVALUATOR = {RuleSource.DEBUGGER: RuleSource.LOCAL, RuleSource.LOCAL: RuleSource.DEBUGGER}


def _is_alert(row: Delivery) -> bool:
    return row.kind is DeliveryKind.ALERT


def _update(alert: Delivery, finding: str, text: str, now: datetime) -> Delivery:
    return Delivery(
        id=delivery_id(finding, DeliveryKind.UPDATE, alert.to),
        finding_id=finding,
        kind=DeliveryKind.UPDATE,
        to=alert.to,
        lane=alert.lane,
        created_at=now,
        due_at=now,
        text=text,
        follows=alert.id,
    )


def stop_sentence(finding: Finding, decision: Decision, settings: Stop, now: datetime) -> str:
    """What the alert says about stopping the job."""
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
            return f"The job continues: no route says to stop it. To stop it: watcher stop {finding.job}"
        case StopChoice.PROFILER:
            return "The job continues: profiler rules never stop a job."
        case StopChoice.NOT_AN_ISSUE | StopChoice.NOT_RUNNING:
            return ""
