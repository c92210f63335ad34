"""Turns incidents, with their deliveries and their history, into the documents that `--json` prints.

Scripts rely on the keys, so they do not change. Times are aware and in UTC; in JSON they are ISO 8601.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Protocol, TypedDict

from watcher.arn import job_name, run_arn
from watcher.config.destination import shown
from watcher.model import (
    Case,
    Change,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Finding,
    Incident,
    IncidentState,
)
from watcher.store.base import Store


class Records(Protocol):
    """What documents are made from: a store, or what was read from it once for several documents."""

    def incidents(self) -> list[Incident]: ...

    def findings(self) -> list[Finding]: ...

    def deliveries(self) -> list[Delivery]: ...


class DeliveryView(TypedDict):
    to: str
    state: str
    attempts: int
    delivered_at: datetime | None


class IncidentDelivery(DeliveryView):
    error: str


class IncidentView(TypedDict):
    id: str
    jobs: list[str]
    group: str | None
    state: str
    severity: str
    opened_at: datetime
    resolved_at: datetime | None
    acknowledged_by: str | None
    revision: int
    findings: list[str]
    """Their ids."""
    deliveries: list[IncidentDelivery]
    """The alerts, and the stop if there is one; not the pictures."""


class ChangeView(TypedDict):
    at: datetime
    incident: str | None
    """None for an action that concerns no incident."""
    job: str
    run: str
    revision: int
    kind: str
    actor: str | None
    """None if it just happened."""
    door: str
    text: str
    finding: str | None


class RunStopView(TypedDict):
    phase: str
    actor: str
    at: datetime
    due_at: datetime | None
    reason: str


class ShownIncident(IncidentView):
    acknowledged_at: datetime | None
    snoozed_until: datetime | None
    snoozed_by: str | None
    stop: RunStopView | None
    history: list[ChangeView]
    """Oldest first."""


class Refusal(TypedDict):
    """A destination that takes no alerts at present, and for which reason."""

    to: str
    since: datetime
    error: str
    """What the destination says, and how to fix it."""
    incidents: list[str]
    retry_at: datetime
    """When Watcher tries again by itself."""


def cases(store: Records) -> list[Case]:
    """All incidents with their findings and deliveries, without history: first the open ones, then the
    acknowledged, then the resolved, and the newest first in each."""
    findings: dict[str, list[Finding]] = defaultdict(list)
    for finding in reversed(store.findings()):
        findings[finding.incident].append(finding)
    deliveries = by_incident(store.deliveries())
    order = list(IncidentState)
    newest_first = sorted(store.incidents(), key=lambda incident: incident.opened_at, reverse=True)
    return [
        Case(incident, tuple(findings[incident.id]), tuple(deliveries[incident.id]))
        for incident in sorted(newest_first, key=lambda incident: order.index(incident.state))
    ]


def incident(case: Case) -> IncidentView:
    this = case.incident
    return {
        "id": this.id,
        "jobs": [this.job],
        "group": this.group or None,
        "state": this.state,
        "severity": this.severity,
        "opened_at": this.opened_at,
        "resolved_at": this.resolved_at,
        "acknowledged_by": this.acknowledged_by or None,
        "revision": this.revision,
        "findings": [finding.id for finding in case.findings],
        "deliveries": [{**delivery(each), "error": each.error} for each in listed(case.deliveries)],
    }


def change(change: Change) -> ChangeView:
    return {
        "at": change.at,
        "incident": change.incident or None,
        "job": job_name(run_arn(change.run)),
        "run": change.run,
        "revision": change.revision,
        "kind": change.kind,
        "actor": change.actor or None,
        "door": change.door,
        "text": change.text,
        "finding": change.finding or None,
    }


def history(store: Store, since: datetime | None = None) -> Iterator[str]:
    """All that happened, each change as JSON on one line, oldest first."""
    for each in store.history(since):
        yield json.dumps(change(each), default=datetime.isoformat)


def shown_incident(case: Case) -> ShownIncident:
    this, stop = case.incident, case.incident.stop
    return {
        **incident(case),
        "acknowledged_at": this.acknowledged_at,
        "snoozed_until": this.snoozed_until,
        "snoozed_by": this.snoozed_by or None,
        "stop": {
            "phase": stop.phase,
            "actor": stop.actor,
            "at": stop.at,
            "due_at": stop.due_at,
            "reason": stop.reason,
        }
        if stop
        else None,
        "history": [change(each) for each in case.changes],
    }


def states(incidents: Iterable[Incident]) -> dict[str, int]:
    """The number of incidents in each state, those that need a person first."""
    found = Counter(incident.state for incident in incidents)
    return {str(state): found[state] for state in IncidentState if found[state]}


def refusals(deliveries: Iterable[Delivery]) -> list[Refusal]:
    """What is refused at present, one entry for each destination and reason, the longest refused first."""
    return _by_reason(delivery for delivery in deliveries if delivery.state is DeliveryState.REFUSED)


def retries(deliveries: Iterable[Delivery]) -> list[Refusal]:
    """The same for what was tried and is tried again within minutes, because its destination could not be
    reached, or because it was refused until `watcher redeliver`."""
    return _by_reason(
        delivery
        for delivery in deliveries
        if delivery.kind is DeliveryKind.ALERT and delivery.open and delivery.refused_at and delivery.error
    )


def _by_reason(deliveries: Iterable[Delivery]) -> list[Refusal]:
    groups: dict[tuple[str, str], list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        groups[delivery.to, delivery.error].append(delivery)
    found: list[Refusal] = [
        {
            "to": shown(to),
            "since": min(each.refused_at or each.created_at for each in failing),
            "error": error,
            "incidents": list(dict.fromkeys(each.incident for each in failing)),
            "retry_at": min(each.due_at for each in failing),
        }
        for (to, error), failing in groups.items()
    ]
    return sorted(found, key=lambda refusal: refusal["since"])


def by_incident(deliveries: Iterable[Delivery]) -> dict[str, list[Delivery]]:
    found: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        found[delivery.incident].append(delivery)
    return found


def listed(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """Without the pictures, which follow an alert."""
    return [delivery for delivery in deliveries if delivery.kind is not DeliveryKind.PLOT]


def delivery(delivery: Delivery) -> DeliveryView:
    return {
        "to": shown(delivery.to),
        "state": delivery.state,
        "attempts": delivery.attempts,
        "delivered_at": delivery.delivered_at,
    }
