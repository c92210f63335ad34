"""Turns what is stored into the documents that `--json` prints, and that the tables and the status page show.

Scripts rely on the keys, so they do not change. Times are aware and in UTC; in JSON they are ISO 8601.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypedDict

from watcher.arn import is_arn, job_name
from watcher.config.destination import Destination
from watcher.errors import ConfigError, UsageError
from watcher.model import STOP_DESTINATION, Delivery, DeliveryKind, DeliveryState, Finding, Outcome
from watcher.store.base import JobRecord, Store


class Records(Protocol):
    """What documents are made from: a store, or what was read from it once for several documents."""

    def jobs(self) -> list[JobRecord]: ...

    def findings(self) -> list[Finding]: ...

    def deliveries(self) -> list[Delivery]: ...


class DeliveryView(TypedDict):
    to: str
    state: str
    attempts: int
    delivered_at: datetime | None


class FindingView(TypedDict):
    id: str
    job: str
    rule: str | None
    source: str | None
    kind: str
    status: str
    reason: str
    step: int | None
    opened_at: datetime
    deliveries: list[DeliveryView]
    """The alerts, and the stop if there is one, but not the updates and plots that follow an alert."""


class JobView(TypedDict):
    job: str
    arn: str
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


class FindingDetail(TypedDict):
    id: str
    kind: str
    rule: str | None
    source: str | None
    status: str
    step: int | None
    reason: str
    opened_at: datetime
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


class DeadLetter(TypedDict):
    id: str
    kind: str
    job: str
    rule: str | None
    to: str
    attempts: int
    error: str
    created_at: datetime


class StatusView(TypedDict):
    store: str
    jobs: dict[str, int]
    """The number of jobs in each status."""
    watching: int
    findings: int
    undelivered: int
    """The number of findings with an alert that is still open."""
    deliveries: dict[str, int]
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
    records = store.jobs()
    findings = {finding.id: finding for finding in store.findings()}
    deliveries = store.deliveries()
    return {
        "store": url,
        "jobs": _count(record.snapshot.status for record in records),
        "watching": sum(record.watching for record in records),
        "findings": len(findings),
        "undelivered": len({d.finding_id for d in deliveries if d.kind is DeliveryKind.ALERT and d.open}),
        "deliveries": _count(delivery.state for delivery in deliveries),
        "dead_letters": [
            _dead_letter(delivery, findings.get(delivery.finding_id))
            for delivery in deliveries
            if delivery.state is DeliveryState.DEAD
        ],
        "changed_at": max((record.changed_at for record in records), default=None),
    }


def jobs(store: Records, pattern: str = "*") -> list[JobView]:
    """The jobs whose name matches, newest first."""
    findings = Counter(finding.job_arn for finding in store.findings())
    return [
        _job(record, findings[record.snapshot.arn])
        for record in store.jobs()
        if fnmatchcase(record.snapshot.name, pattern)
    ]


def show(store: Store, job: str) -> ShownJob:
    """One job by its name or ARN, with its findings, deliveries and stop. Raises `UsageError` as `find`
    does."""
    record = find(store, job)
    snapshot = record.snapshot
    findings = store.findings(snapshot.arn)
    stop = store.stop_of(snapshot.arn)
    return {
        **_job(record, len(findings)),
        "failure_reason": snapshot.failure_reason,
        "debug_output": snapshot.debug_output,
        "tags": dict(snapshot.tags) if snapshot.tags is not None else None,
        "evaluations": [_rule(outcome) for outcome in snapshot.outcomes],
        "told": [_finding_detail(finding, store.deliveries(finding.id)) for finding in findings],
        "stop": {"actor": stop.actor, "at": stop.at} if stop else None,
    }


def find(store: Store, job: str) -> JobRecord:
    """The job with this name or ARN. Raises `UsageError` if there is none, or more than one."""
    records = store.jobs(job_name(job))
    if is_arn(job):
        records = [record for record in records if record.snapshot.arn == job]
    if len(records) > 1:
        arns = ", ".join(record.snapshot.arn for record in records)
        raise UsageError(f"there are {len(records)} jobs named {job}; name one by its ARN: {arns}")
    if not records:
        close = get_close_matches(job, [record.snapshot.name for record in store.jobs()], n=1)
        hint = f"did you mean {close[0]}?" if close else "`watcher jobs` lists the known jobs"
        raise UsageError(f"the store has no job {job}; {hint}")
    return records[0]


def findings(store: Records, pattern: str = "*") -> list[FindingView]:
    """The findings on jobs whose name matches, newest first."""
    deliveries: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in store.deliveries():
        deliveries[delivery.finding_id].append(delivery)
    return [
        _finding(finding, deliveries[finding.id])
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


_LISTED_KINDS = frozenset({DeliveryKind.ALERT, DeliveryKind.STOP})


def _finding(finding: Finding, deliveries: list[Delivery]) -> FindingView:
    return {
        "id": finding.id,
        "job": finding.job,
        "rule": finding.rule,
        "source": finding.source,
        "kind": finding.kind,
        "status": finding.status,
        "reason": finding.reason,
        "step": finding.step,
        "opened_at": finding.opened_at,
        "deliveries": [_delivery(each) for each in deliveries if each.kind in _LISTED_KINDS],
    }


def _delivery(delivery: Delivery) -> DeliveryView:
    return {
        "to": _shown(delivery.to),
        "state": delivery.state,
        "attempts": delivery.attempts,
        "delivered_at": delivery.delivered_at,
    }


def _finding_detail(finding: Finding, deliveries: list[Delivery]) -> FindingDetail:
    return {
        "id": finding.id,
        "kind": finding.kind,
        "rule": finding.rule,
        "source": finding.source,
        "status": finding.status,
        "step": finding.step,
        "reason": finding.reason,
        "opened_at": finding.opened_at,
        "deliveries": [
            {
                **_delivery(each),
                "id": each.id,
                "kind": each.kind,
                "created_at": each.created_at,
                "due_at": each.due_at,
                "error": each.error,
            }
            for each in deliveries
        ],
    }


def _dead_letter(delivery: Delivery, finding: Finding | None) -> DeadLetter:
    return {
        "id": delivery.id,
        "kind": delivery.kind,
        "job": finding.job if finding else "",
        "rule": finding.rule if finding else None,
        "to": _shown(delivery.to),
        "attempts": delivery.attempts,
        "error": delivery.error,
        "created_at": delivery.created_at,
    }


def _shown(to: str) -> str:
    """The destination without what may be secret."""
    if to == STOP_DESTINATION:
        return to
    try:
        return str(Destination.parse(to))
    except ConfigError:  # stored by a version that has another kind of destination
        return to.partition(":")[0]
