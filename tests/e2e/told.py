"""Compares what Slack and a webhook were told with the incidents in the store."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.doubles.slack import SlackDouble
from watcher.alerts import sentences
from watcher.model import (
    Case,
    Delivery,
    DeliveryKind,
    DeliveryState,
    IncidentState,
    StopPhase,
)
from watcher.store.base import Store

UNDER_WAY = frozenset({StopPhase.WAITING, StopPhase.ASKED, StopPhase.STOPPING})
"""A stop in one of these phases is not over."""


def all_cases(store: Store) -> list[Case]:
    """Every incident, with its whole history."""
    return [case for incident in store.incidents() if (case := store.case(incident.id))]


def changes_by_kind(cases: Iterable[Case]) -> dict[str, int]:
    return dict(Counter(change.kind.value for case in cases for change in case.changes))


def alerts_by_incident(slack: SlackDouble) -> Counter[str]:
    """The number of messages in Slack about each incident, replies in threads included."""
    return Counter(message["metadata"]["event_payload"]["incident_id"] for message in slack.messages)


def left_over(cases: Iterable[Case]) -> list[str]:
    """What is not done although all should be: deliveries that are not told everything, stops under way."""
    return [
        f"{case.incident.job}: {problem}"
        for case in cases
        for problem in (*map(_behind, case.deliveries), _stop_under_way(case))
        if problem
    ]


def _behind(row: Delivery) -> str:
    if row.kind is DeliveryKind.ALERT and row.told < row.wanted:
        return f"{row.to} knows revision {row.told} of {row.wanted}"
    over = (DeliveryState.DELIVERED, DeliveryState.SKIPPED, DeliveryState.CANCELLED)
    allowed = over[:1] if row.kind is DeliveryKind.ALERT else over
    return "" if row.state in allowed else f"{row.kind} to {row.to} is {row.state}: {row.error}"


def _stop_under_way(case: Case) -> str:
    stop = case.incident.stop
    return f"its stop is {stop.phase}" if stop and stop.phase in UNDER_WAY else ""


def out_of_date(store: Store, cases: Iterable[Case], slack: SlackDouble) -> list[str]:
    """Messages in Slack that show another state of their incident than its last."""
    shown = {
        message["metadata"]["event_payload"]["incident_id"]: json.dumps(message["blocks"], ensure_ascii=False)
        for message in slack.messages
    }
    return [
        f"{case.incident.job} ({case.incident.state}): {wanted!r} is not in {shown[case.incident.id]}"
        for case in cases
        for wanted in _to_be_seen(store, case)
        if json.dumps(wanted, ensure_ascii=False)[1:-1] not in shown[case.incident.id]
    ]


def _to_be_seen(store: Store, case: Case) -> Iterator[str]:
    incident, now = case.incident, datetime.now(UTC)
    yield incident.job
    yield from {finding.rule for finding in case.findings if finding.rule}
    yield sentences.status(case, now).rstrip(".")
    if incident.state is IncidentState.ACKNOWLEDGED:
        yield f"Acknowledged by {incident.acknowledged_by}"
    record = store.job(incident.run)
    job = sentences.as_known(record.snapshot, incident.stop) if record else None
    yield sentences.stop_sentence(case, job, now)
    if incident.stop and incident.stop.phase is StopPhase.STOPPED:
        yield "Stopped"


def revisions_told(bodies: Iterable[Mapping[str, Any]]) -> dict[str, Counter[int]]:
    """How often a webhook was told each revision of each incident. Bodies with the same id are repetitions of
    one message, and must tell the same."""
    messages: dict[str, tuple[int, ...]] = {}
    incidents: dict[str, str] = {}
    for body in bodies:
        told = tuple(change["revision"] for change in body["changes"])
        assert messages.setdefault(body["id"], told) == told, f"two messages have the key {body['id']}"
        incidents[body["id"]] = body["incident"]["id"]
    revisions: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for key, told in messages.items():
        revisions[incidents[key]].update(told)
    return dict(revisions)


def telling_revisions(cases: Iterable[Case]) -> dict[str, Counter[int]]:
    """The revisions that a destination is to be told which cannot edit: each once."""
    return {
        case.incident.id: Counter(change.revision for change in case.changes if change.telling)
        for case in cases
    }
