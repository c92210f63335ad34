"""Stops a training job, with the same guards for a route and for a person.

Each attempt reads the job again. It stops exactly the run that was asked for, only while it is InProgress,
and reports it as stopped only once SageMaker does. A job that was deleted and created again is another run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import structlog

from watcher.arn import job_name, run_arn
from watcher.aws.accounts import Accounts
from watcher.aws.sagemaker import TrainingJobs
from watcher.config.settings import Stop, Watch
from watcher.errors import AccessDenied, NotFound
from watcher.model import JobSnapshot
from watcher.policy.stop_guards import Refusal, refusal
from watcher.store.base import StopRecord, Store

log = structlog.get_logger(__name__)

VERIFY_INTERVAL_S = 3.0
"""Between two checks of a job that is stopping."""


class StopState(StrEnum):
    STOPPED = "stopped"
    """SageMaker confirms it."""
    STOPPING = "stopping"
    """SageMaker was asked, and the job has not ended yet. Call `attempt` again later."""
    ENDED_OTHERWISE = "ended_otherwise"
    """SageMaker was asked, but the job completed or failed first."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class StopResult:
    state: StopState
    sentence: str
    """For people."""
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Stopper:
    accounts: Accounts
    store: Store
    settings: Stop
    clock: Callable[[], datetime]
    watch: Watch | None = None
    """What a job must still match. None if a person asks, who may stop any job."""

    def attempt(self, run: str, actor: str) -> StopResult:
        """Ask SageMaker to stop this run, or check whether it has. Safe to call again, which is how a stop is
        verified. Raises `AwsError` and `StoreError`.
        """
        arn = run_arn(run)
        name, jobs = job_name(arn), TrainingJobs(self.accounts.of(arn))
        try:
            job = jobs.describe(name)
        except NotFound:
            return _refused(Refusal.GONE, f"{name} no longer exists")
        asked = self.store.stop_of(run)
        if asked and job.run == run and not job.in_progress:
            return _progress(job, asked)
        if self.watch and self.watch.tags and job.run == run:
            job = replace(job, tags=jobs.tags(arn))
        if reason := refusal(job, run, self.settings, self.clock(), self.watch):
            return _refused(reason, _explain(reason, job, arn, self.settings))
        if not self.store.permit_stop(run, actor, self.clock(), self.settings.max_per_hour):
            return _refused(Refusal.BRAKE, _explain(Refusal.BRAKE, job, arn, self.settings))
        try:
            jobs.stop(name)
        except AccessDenied:
            if asked is None:  # an earlier request may have had an effect
                self.store.retract_stop(run)
            raise
        log.info("stop_requested", job=name, run=run, actor=actor)
        return StopResult(StopState.STOPPING, f"{name} is stopping")


def _progress(job: JobSnapshot, asked: StopRecord) -> StopResult:
    if not job.ended:
        return StopResult(StopState.STOPPING, f"{job.name} is {job.status}")
    if job.status != "Stopped":
        said = f"{job.name} ended ({job.status}) before the stop took effect"
        return StopResult(StopState.ENDED_OTHERWISE, said)
    took = ((job.ended_at or job.modified_at) - asked.at).total_seconds()
    at = f"{job.ended_at or job.modified_at:%H:%M:%S} UTC"
    return StopResult(
        StopState.STOPPED,
        f"Stopped by Watcher ({asked.actor}) at {at}, {max(took, 0):.0f} s after the request; "
        "SageMaker confirms it.",
    )


def _refused(reason: Refusal, sentence: str) -> StopResult:
    log.info("stop_refused", reason=reason, sentence=sentence)
    return StopResult(StopState.REFUSED, sentence, reason)


def _explain(reason: Refusal, job: JobSnapshot, arn: str, settings: Stop) -> str:
    match reason:
        case Refusal.ANOTHER_JOB:
            return f"{job.name} is another job now ({job.arn} instead of {arn})"
        case Refusal.ANOTHER_RUN:
            return (
                f"{job.name} is a new run since {job.created_at:%Y-%m-%d %H:%M:%S} UTC; the one that was to "
                "be stopped has been deleted"
            )
        case Refusal.NOT_WATCHED:
            return f"{job.name} is no longer watched: it does not match watch.jobs and watch.tags"
        case Refusal.NOT_IN_PROGRESS:
            return f"{job.name} is not running: it is {job.status}"
        case Refusal.DRY_RUN:
            return f"Dry run: {job.name} would be stopped now (stop.dry_run is true)"
        case Refusal.TOO_YOUNG:
            return f"{job.name} is younger than stop.min_runtime ({settings.min_runtime:.0f} s)"
        case Refusal.BRAKE:
            return (
                f"limit reached: stop.max_per_hour ({settings.max_per_hour}) jobs were stopped in the last "
                "hour"
            )
        case Refusal.GONE:
            return f"{job.name} no longer exists"
