"""Calculates what a training job costs, and what stopping it now saves. Pure.

SageMaker bills each instance from `TrainingStartTime` to `TrainingEndTime` (API reference of
DescribeTrainingJob). At the end it reports the billed time, `BillableTimeInSeconds`; for spot instances it
shortens that time by the discount. Prices come from the configuration. Volumes and data transfer are not
included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from watcher.model import JobSnapshot

USD = "USD"
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Spend:
    """Amounts of money or, if a price is missing, of instance-hours."""

    so_far: float
    """The total, once the job has ended."""
    an_hour: float
    saved_by_stopping: float | None
    """Up to `MaxRuntimeInSeconds`; less if the job would end earlier by itself. None if there is nothing to
    stop, or no such limit."""
    currency: str
    """`USD`; empty for instance-hours."""
    basis: str
    """How the amounts are calculated, in a few words."""
    at_most: bool = False
    """The amounts are at the full price, although the job has spot instances, which cost less."""

    def formatted(self, amount: float) -> str:
        return formatted(amount, self.currency)


def formatted(amount: float, currency: str) -> str:
    """An amount for people: `$1.20`, `0.25 instance-hours`. At least one cent, unless it is zero."""
    shown = max(amount, 0.01) if amount else 0.0
    number = f"{shown:,.{0 if shown >= 1000 else 2}f}"
    return f"${number}" if currency else f"{number} instance-hours"


def spend(job: JobSnapshot, prices: Mapping[str, float], now: datetime) -> Spend | None:
    """`prices`: US dollars an hour, by instance type. None if training has not begun, or the job's record
    names no instances."""
    ran, instances = runtime(job, now), job.instances
    if ran is None or not instances:
        return None
    priced = all(type_ in prices for type_, _ in instances)
    an_hour = sum(count * (prices[type_] if priced else 1.0) for type_, count in instances)
    billed = timedelta(seconds=job.billable_time) if job.ended and job.billable_time else None
    left = remaining(job, now)
    at_most = job.spot and billed is None
    return Spend(
        so_far=_hours(ran if billed is None else billed) * an_hour,
        an_hour=an_hour,
        saved_by_stopping=None if left is None else _hours(left) * an_hour,
        currency=USD if priced else "",
        basis=_basis(instances, prices if priced else {}, at_most=at_most, billed=billed is not None),
        at_most=at_most,
    )


def runtime(job: JobSnapshot, now: datetime) -> timedelta | None:
    """How long the job has trained; None if training has not begun."""
    if job.started_at is None:
        return None
    return max((job.ended_at or now) - job.started_at, timedelta(0))


def remaining(job: JobSnapshot, now: datetime) -> timedelta | None:
    """How long the job can still train or, if it was stopped, how long it could have gone on.

    None if it ended in another way, has not begun to train, or has no limit.
    """
    ran = runtime(job, now)
    # SageMaker's own stops, such as MaxRuntimeExceeded, have another secondary status.
    stopped = job.status == job.secondary_status == "Stopped"
    if ran is None or not job.max_runtime or (job.ended and not stopped):
        return None
    return max(timedelta(seconds=job.max_runtime) - ran, timedelta(0))


def _basis(
    instances: tuple[tuple[str, int], ...], prices: Mapping[str, float], *, at_most: bool, billed: bool
) -> str:
    each = (
        f"{count} × {type_} at ${prices[type_]:g} an hour" if prices else f"{count} × {type_}"
        for type_, count in instances
    )
    notes = (
        " each" if prices and any(count > 1 for _, count in instances) else "",
        "" if prices else "; no price is configured",
        "; billed time" if billed else "",
        "; at the full price, spot instances cost less" if at_most and prices else "",
    )
    return f"{' and '.join(each)}{''.join(notes)}"


def _hours(span: timedelta) -> float:
    return span.total_seconds() / _HOUR
