"""Says in a few words how an incident is: for tables and the status page."""

from __future__ import annotations

from datetime import datetime

from watcher.config.destination import shown
from watcher.model import Case, Closing, Delivery, DeliveryKind, DeliveryState, Finding, Incident
from watcher.policy import kinds
from watcher.text import ago

_CLOSINGS = {
    Closing.RECOVERED: "recovered",
    Closing.RUN_ENDED: "ended with the job",
    Closing.UNWATCHED: "no longer watched,",
}


def what(finding: Finding, now: datetime) -> str:
    """`LossNotDecreasing found an issue at step 24 (episode 2, recovered 5 min ago)`."""
    episode = f"episode {finding.episode}" if finding.episode > 1 else ""
    notes = ", ".join(filter(None, (episode, over(finding.closing, finding.closed_at, now))))
    return f"{kinds.phrase(finding)} ({notes})" if notes else kinds.phrase(finding)


def over(closing: str | None, closed_at: datetime | None, now: datetime) -> str:
    """`recovered 5 min ago`; empty while the finding is open."""
    return f"{_CLOSINGS[Closing(closing)]} {ago(closed_at, now)}" if closing else ""


def stop(incident: Incident) -> str:
    """`not stopped`; empty if nobody asked for it."""
    return incident.stop.phase.replace("_", " ") if incident.stop else ""


def alerts(case: Case) -> list[Delivery]:
    return [delivery for delivery in case.deliveries if delivery.kind is DeliveryKind.ALERT]


def told(alert: Delivery) -> str:
    """`slack:#ml delivered`, or `slack:#ml update pending` if it shows an earlier state."""
    behind = alert.told > 0 and alert.state is not DeliveryState.DELIVERED
    return f"{shown(alert.to)} {'update ' if behind else ''}{alert.state.replace('_', ' ')}"


def who_has_it(incident: Incident, now: datetime) -> str:
    parts = [incident.acknowledged_by]
    if incident.snoozed_until and incident.snoozed_until > now:
        parts.append(f"snoozed by {incident.snoozed_by} until {incident.snoozed_until:%Y-%m-%d %H:%M} UTC")
    return ", ".join(filter(None, parts))
