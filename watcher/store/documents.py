"""Turns values into text and back: the JSON documents and the times that SQLite and DynamoDB keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from watcher.model import Change, Delivery, Evaluation, Finding, Incident, JobSnapshot
from watcher.store.base import JobRecord

SNAPSHOT = TypeAdapter(JobSnapshot)
EVALUATION = TypeAdapter(Evaluation)
INCIDENT = TypeAdapter(Incident)
FINDING = TypeAdapter(Finding)
CHANGE = TypeAdapter(Change)
DELIVERY = TypeAdapter(Delivery)


def job_record(
    columns: Mapping[str, Any], snapshot: bytes | str, evaluations: Iterable[bytes | str]
) -> JobRecord:
    """From the documents, the evaluations in the order of their families, and what is stored next to them.
    Raises pydantic's `ValidationError`."""
    return JobRecord(
        snapshot=SNAPSHOT.validate_json(snapshot),
        first_seen_at=from_text(columns["first_seen_at"]),
        changed_at=from_text(columns["changed_at"]),
        watching=bool(columns["watching"]),
        describe_at=from_optional_text(columns.get("describe_at")),
        evaluations=tuple(map(EVALUATION.validate_json, evaluations)),
    )


def as_text(moment: datetime) -> str:
    """ISO 8601 in UTC, always with microseconds, so that all have the same length and sort like the times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def as_optional_text(moment: datetime | None) -> str | None:
    return as_text(moment) if moment else None


def from_text(text: str) -> datetime:
    return datetime.fromisoformat(text)


def from_optional_text(text: str | None) -> datetime | None:
    return from_text(text) if text else None
