"""Turns what is stored into the documents that `--json` prints, and that the tables and the status page show.

Scripts rely on the keys, so they do not change. Times are aware and in UTC; in JSON they are ISO 8601.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypedDict

from watcher.config.destination import shown
from watcher.model import (
    Delivery,
    DeliveryKind,
    DeliveryState,
    Finding,
    Incident,
    JobSnapshot,
    Outcome,
    Says,
    incident_id,
)
from watcher.store import incident_views
from watcher.store.base import JobRecord, KnownRun, Store
from watcher.store.incident_views import (
    DeliveryView,
    Refusal,
    ShownIncident,
    by_incident,
    delivery,
    listed,
)
from watcher.store.lookup import find_run


class Records(incident_views.Records, Protocol):
    def jobs(self) -> list[JobRecord]: ...

    def runs(self) -> list[KnownRun]: ...


class FindingView(TypedDict):
    id: str
    job: str
    rule: str | None
    source: str | None
    """Who found it first."""
    sources: list[str]
    kind: str
    status: str
    reason: str
    step: int | None
    opened_at: datetime
    closed_at: datetime | None
    episode: int
    incident: str
    deliveries: list[DeliveryView]
    """The alerts of its incident, and the stop if this finding asks for it."""


class JobView(TypedDict):
    job: str
    arn: str
    run: str
    """`ARN@CreationTime`: a name can be used again."""
    status: str
    secondary_status: str
    created_at: datetime
    ended_at: datetime | None
    instance_type: str
    instance_count: int
    watching: bool
    changed_at: datetime
    rules: dict[str, int]
    """The number of rules in each status."""
    findings: int


class RuleView(TypedDict):
    rule: str
    source: str
    status: str
    details: str
    updated_at: datetime | None
    evaluation_job_arn: str


class DeliveryDetail(DeliveryView):
    id: str
    kind: str
    created_at: datetime
    due_at: datetime
    error: str


class SaysView(TypedDict):
    source: str
    status: str
    step: int | None
    reason: str
    at: datetime


class FindingDetail(TypedDict):
    id: str
    kind: str
    rule: str | None
    source: str | None
    sources: list[str]
    says: list[SaysView]
    """What each source found, first found first; empty if the finding is about the job itself."""
    severity: str
    status: str
    step: int | None
    reason: str
    episode: int
    opened_at: datetime
    closed_at: datetime | None
    closing: str | None
    """Why it is closed: `recovered`, `run_ended` or `unwatched`."""
    closing_reason: str
    deliveries: list[DeliveryDetail]


class StopView(TypedDict):
    actor: str
    at: datetime


class ShownJob(JobView):
    failure_reason: str
    debug_output: str
    tags: dict[str, str] | None
    evaluations: list[RuleView]
    told: list[FindingDetail]
    stop: StopView | None
    incident: ShownIncident | None
    other_runs: list[JobView]
    """The other runs of the same job, newest first."""


class DeadLetter(TypedDict):
    id: str
    kind: str
    job: str
    rule: str | None
    """The rule that asks for a stop; None for an alert, which is about all findings of its incident."""
    incident: str
    to: str
    attempts: int
    error: str
    created_at: datetime


class StatusView(TypedDict):
    store: str
    jobs: dict[str, int]
    """The number of runs in each status."""
    watching: int
    incidents: dict[str, int]
    """The number of incidents in each state."""
    findings: int
    undelivered: int
    """The number of incidents of which a destination does not know the present state: the alert is still
    open, refused or given up."""
    deliveries: dict[str, int]
    refused: list[Refusal]
    retrying: list[Refusal]
    """What was tried and has not arrived, but is not refused: it is tried again within minutes."""
    dead_letters: list[DeadLetter]
    changed_at: datetime | None
    """When a look at any job last found a change."""


def to_json(document: Any) -> str:
    """NaN and infinities become the strings `nan`, `inf` and `-inf`, because JSON has no such numbers."""
    try:
        return json.dumps(document, indent=2, default=datetime.isoformat, allow_nan=False)
    except ValueError:
        return to_json(_without_nan(document))


def _without_nan(document: Any) -> Any:
    if isinstance(document, Mapping):
        return {key: _without_nan(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_without_nan(value) for value in document]
    return str(document) if isinstance(document, float) and not math.isfinite(document) else document


def status(store: Records, url: str) -> StatusView:
    runs = store.runs()
    incidents = {incident.id: incident for incident in store.incidents()}
    findings = {finding.id: finding for finding in store.findings()}
    deliveries = store.deliveries()
    return {
        "store": url,
        "jobs": _count(run.status for run in runs),
        "watching": sum(run.watching for run in runs),
        "incidents": incident_views.states(incidents.values()),
        "findings": len(findings),
        "undelivered": len({delivery.incident for delivery in deliveries if _behind(delivery)}),
        "deliveries": _count(delivery.state for delivery in deliveries),
        "refused": incident_views.refusals(deliveries),
        "retrying": incident_views.retries(deliveries),
        "dead_letters": [
            _dead_letter(delivery, incidents.get(delivery.incident), findings.get(delivery.finding))
            for delivery in deliveries
            if delivery.state is DeliveryState.DEAD
        ],
        "changed_at": max((run.changed_at for run in runs), default=None),
    }


_BEHIND = frozenset(
    {DeliveryState.PENDING, DeliveryState.IN_FLIGHT, DeliveryState.REFUSED, DeliveryState.DEAD}
)


def _behind(delivery: Delivery) -> bool:
    return delivery.kind is DeliveryKind.ALERT and delivery.state in _BEHIND


def jobs(store: Records, pattern: str = "*") -> list[JobView]:
    """The runs of jobs whose name matches, newest first."""
    findings = Counter(finding.run for finding in store.findings())
    return [
        _job(record, findings[record.snapshot.run])
        for record in store.jobs()
        if fnmatchcase(record.snapshot.name, pattern)
    ]


def show(store: Store, job: str) -> ShownJob:
    """The run that `job` names, with its findings, deliveries and stop. Raises `UsageError` as `find_run`
    does."""
    return show_run(store, find_run(store, job))


def unknown_run(snapshot: JobSnapshot, now: datetime) -> JobRecord:
    """A run that the store does not know, for `show_run`."""
    return JobRecord(snapshot, first_seen_at=now, changed_at=now, watching=False)


def show_run(store: Store, record: JobRecord) -> ShownJob:
    snapshot = record.snapshot
    findings = store.findings(snapshot.run)
    case = store.case(findings[0].incident if findings else incident_id(snapshot.run))
    deliveries = case.deliveries if case else ()
    stop = store.stop_of(snapshot.run)
    return {
        **_job(record, len(findings)),
        "failure_reason": snapshot.failure_reason,
        "debug_output": snapshot.debug_output,
        "tags": dict(snapshot.tags) if snapshot.tags is not None else None,
        "evaluations": [_rule(outcome) for outcome in snapshot.outcomes],
        "told": [_finding_detail(finding, deliveries) for finding in findings],
        "stop": {"actor": stop.actor, "at": stop.at} if stop else None,
        "incident": incident_views.shown_incident(case) if case else None,
        "other_runs": [
            _job(other, len(store.findings(other.snapshot.run)))
            for other in store.jobs(snapshot.name)
            if other.snapshot.arn == snapshot.arn and other.snapshot.run != snapshot.run
        ],
    }


def findings(store: Records, pattern: str = "*") -> list[FindingView]:
    """The findings on jobs whose name matches, newest first."""
    deliveries = by_incident(store.deliveries())
    return [
        _finding(finding, deliveries[finding.incident])
        for finding in store.findings()
        if fnmatchcase(finding.job, pattern)
    ]


def _count(words: Iterable[str]) -> dict[str, int]:
    """Most frequent first."""
    return {str(word): count for word, count in Counter(words).most_common()}


def _job(record: JobRecord, findings: int) -> JobView:
    snapshot = record.snapshot
    return {
        "job": snapshot.name,
        "arn": snapshot.arn,
        "run": snapshot.run,
        "status": snapshot.status,
        "secondary_status": snapshot.secondary_status,
        "created_at": snapshot.created_at,
        "ended_at": snapshot.ended_at,
        "instance_type": snapshot.instance_type,
        "instance_count": snapshot.instance_count,
        "watching": record.watching,
        "changed_at": record.changed_at,
        "rules": _count(outcome.status for outcome in snapshot.outcomes),
        "findings": findings,
    }


def _rule(outcome: Outcome) -> RuleView:
    return {
        "rule": outcome.rule,
        "source": outcome.source,
        "status": outcome.status,
        "details": outcome.details,
        "updated_at": outcome.updated_at,
        "evaluation_job_arn": outcome.evaluation_job_arn,
    }


def _finding(finding: Finding, deliveries: Iterable[Delivery]) -> FindingView:
    return {
        "id": finding.id,
        "job": finding.job,
        "rule": finding.rule,
        "source": finding.source,
        "sources": [finding.source_of(says) for says in finding.says],
        "kind": finding.kind,
        "status": finding.status,
        "reason": finding.reason,
        "step": finding.step,
        "opened_at": finding.opened_at,
        "closed_at": finding.closed_at,
        "episode": finding.episode,
        "incident": finding.incident,
        "deliveries": [delivery(each) for each in listed(_concerning(finding, deliveries))],
    }


def _concerning(finding: Finding, deliveries: Iterable[Delivery]) -> Iterator[Delivery]:
    return (each for each in deliveries if each.finding in ("", finding.id))


def _finding_detail(finding: Finding, deliveries: Collection[Delivery]) -> FindingDetail:
    return {
        "id": finding.id,
        "kind": finding.kind,
        "rule": finding.rule,
        "source": finding.source,
        "sources": [finding.source_of(says) for says in finding.says],
        "says": [_says(finding, says) for says in finding.says],
        "severity": finding.severity,
        "status": finding.status,
        "step": finding.step,
        "reason": finding.reason,
        "episode": finding.episode,
        "opened_at": finding.opened_at,
        "closed_at": finding.closed_at,
        "closing": finding.closing,
        "closing_reason": finding.closing_reason,
        "deliveries": [
            {
                **delivery(each),
                "id": each.id,
                "kind": each.kind,
                "created_at": each.created_at,
                "due_at": each.due_at,
                "error": each.error,
            }
            for each in _concerning(finding, deliveries)
        ],
    }


def _says(finding: Finding, says: Says) -> SaysView:
    return {
        "source": finding.source_of(says),
        "status": says.status,
        "step": says.step,
        "reason": says.reason,
        "at": says.at,
    }


def _dead_letter(delivery: Delivery, of: Incident | None, finding: Finding | None) -> DeadLetter:
    return {
        "id": delivery.id,
        "kind": delivery.kind,
        "job": of.job if of else "",
        "rule": finding.rule if finding else None,
        "incident": delivery.incident,
        "to": shown(delivery.to),
        "attempts": delivery.attempts,
        "error": delivery.error,
        "created_at": delivery.created_at,
    }
