"""What an amendment changes, worked out before a store writes it. Pure, and the same for every store."""

from __future__ import annotations

from dataclasses import dataclass

from watcher.errors import StoreError
from watcher.model import Case, Change, Delivery, DeliveryState, Finding, Incident
from watcher.store.base import Amend

CLAIMABLE = frozenset(
    {DeliveryState.PENDING, DeliveryState.IN_FLIGHT, DeliveryState.REFUSED, DeliveryState.SNOOZED}
)
"""A delivery in one of these has a place in its lane. In any other state it is over."""

_WAIT_APART = frozenset({DeliveryState.REFUSED, DeliveryState.SNOOZED})


@dataclass(frozen=True, slots=True)
class Amended:
    """What is to be written, and what the case is then."""

    case: Case
    incident: Incident | None
    """None if it stays as it was."""
    findings: tuple[Finding, ...]
    """Those that are new or differ, in the case's order."""
    deliveries: tuple[Delivery, ...]
    """Those that are new or differ, in the case's order."""
    last: frozenset[str]
    """The ids of those deliveries that go to the end of their lane."""
    changes: tuple[Change, ...]


def amended(incident: str, before: Case | None, amend: Amend) -> Amended | None:
    """What `amend` makes of the case, which is shown to it without a history. None if nothing changes.

    Raises `StoreError` if it returns the case of another incident.
    """
    after = amend(before)
    if after is None or (after == before and not after.changes):
        return None
    if after.incident.id != incident:
        raise StoreError(f"the amendment of incident {incident} returned incident {after.incident.id}")
    findings = {finding.id: finding for finding in before.findings} if before else {}
    deliveries = {delivery.id: delivery for delivery in before.deliveries} if before else {}
    written = tuple(each for each in after.deliveries if deliveries.get(each.id) != each)
    return Amended(
        case=after,
        incident=after.incident if before is None or after.incident != before.incident else None,
        findings=tuple(each for each in after.findings if findings.get(each.id) != each),
        deliveries=written,
        last=frozenset(each.id for each in written if goes_last(deliveries.get(each.id), each)),
        changes=after.changes,
    )


def together(first: Case, second: Case) -> Case:
    """One incident's cases after two amendments of one write."""
    return Case(second.incident, second.findings, second.deliveries, (*first.changes, *second.changes))


def goes_last(before: Delivery | None, after: Delivery) -> bool:
    """Whether a delivery goes to the end of its lane: if it is new, open again, or in another lane.

    One that is tried again after a failure stays where it is.
    """
    if before is None or after.state not in CLAIMABLE:
        return before is None
    woken = before.state in _WAIT_APART and after.state is DeliveryState.PENDING
    return before.state not in CLAIMABLE or before.lane != after.lane or woken


def settled_last(held: Delivery, attempt: Delivery, after: Delivery) -> bool:
    """The same for a settled delivery. An alert that arrived, but is due again because its incident changed
    meanwhile, does not keep others of its lane waiting."""
    arrived = attempt.state is DeliveryState.DELIVERED and after.state in CLAIMABLE
    return arrived or goes_last(held, after)
