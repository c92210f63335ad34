"""The guards that a job must pass before it is stopped, by a route or by a person. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from watcher.arn import run_arn
from watcher.config.settings import Stop, Watch
from watcher.model import JobSnapshot
from watcher.policy.watched import matches


class Refusal(StrEnum):
    """Why a job is not stopped, although a route or a person asked for it."""

    GONE = "gone"
    """SageMaker has no such job any more."""
    ANOTHER_JOB = "another_job"
    """A job with another ARN has this name."""
    ANOTHER_RUN = "another_run"
    """The job was deleted, and a new run has its name."""
    NOT_WATCHED = "not_watched"
    """A route asked for the stop, and the job no longer matches `watch.jobs` or `watch.tags`."""
    NOT_IN_PROGRESS = "not_in_progress"
    DRY_RUN = "dry_run"
    TOO_YOUNG = "too_young"
    """It has trained for less than `stop.min_runtime`."""
    BRAKE = "brake"
    """The limit of stops per hour (`stop.max_per_hour`) is reached."""


NO_SUCH_RUN = frozenset({Refusal.GONE, Refusal.ANOTHER_JOB, Refusal.ANOTHER_RUN})
"""The run does not exist any more, and what has its name is another one."""


def refusal(
    job: JobSnapshot, run: str, settings: Stop, now: datetime, watch: Watch | None = None
) -> Refusal | None:
    """The first guard that forbids stopping `run`, if SageMaker shows `job` now; None if it may be stopped.

    `watch`: what the job must match, if a route asks for the stop. The hourly limit is not checked here: it
    counts the stops of all processes, so the store does.
    """
    if job.arn != run_arn(run):
        return Refusal.ANOTHER_JOB
    if job.run != run:
        return Refusal.ANOTHER_RUN
    if not job.in_progress:
        return Refusal.NOT_IN_PROGRESS
    if watch and not matches(job, watch):
        return Refusal.NOT_WATCHED
    age = (now - (job.started_at or job.created_at)).total_seconds()
    if settings.min_runtime and age < settings.min_runtime:  # a clock may be behind SageMaker's
        return Refusal.TOO_YOUNG
    if settings.dry_run:
        return Refusal.DRY_RUN
    return None
