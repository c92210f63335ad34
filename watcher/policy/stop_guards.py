"""The guards that a job must pass before it is stopped, by a route or by a person. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from watcher.config.settings import Stop
from watcher.model import JobSnapshot


class Refusal(StrEnum):
    """Why a job is not stopped, although a route or a person asked for it."""

    GONE = "gone"
    """SageMaker has no such job any more."""
    ANOTHER_JOB = "another_job"
    """A job with another ARN has this name."""
    NOT_IN_PROGRESS = "not_in_progress"
    DRY_RUN = "dry_run"
    TOO_YOUNG = "too_young"
    """It has trained for less than `stop.min_runtime`."""
    BRAKE = "brake"
    """The limit of stops per hour (`stop.max_per_hour`) is reached."""


def refusal(job: JobSnapshot, arn: str, settings: Stop, now: datetime) -> Refusal | None:
    """The first guard that forbids stopping `job`, as SageMaker shows it now; None if it may be stopped.

    The hourly limit is not checked here: it counts the stops of all processes, so the store does.
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
