"""Stops that a person asks for: `watcher stop`, with the same guards as the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from watcher.aws.accounts import Accounts
from watcher.aws.sagemaker import TrainingJobs
from watcher.config.settings import Watch
from watcher.delivery.stop import VERIFY_INTERVAL_S, Stopper, StopResult, StopState
from watcher.errors import AwsError
from watcher.model import DeliveryKind, JobSnapshot
from watcher.policy import routing
from watcher.policy.stop_guards import Refusal
from watcher.store.base import Store

CONFIRMATION_TIMEOUT_S = 180.0
"""How long `stop` waits for SageMaker to confirm a stop. The training script alone may take 120 seconds."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The outcome for one job. `result` is None if AWS refused the stop; `sentence` says why."""

    job: JobSnapshot
    result: StopResult | None
    sentence: str

    @property
    def state(self) -> str:
        return self.result.state if self.result else "failed"

    @property
    def succeeded(self) -> bool:
        """The job has ended, or it was only a dry run."""
        if self.result is None:
            return False
        if self.result.refusal is Refusal.DRY_RUN:
            return True
        return self.result.state in (StopState.STOPPED, StopState.ENDED_OTHERWISE)


def all_in_progress(accounts: Accounts, watch: Watch) -> Iterator[JobSnapshot]:
    """Every watched job in progress, oldest first within each account and region."""
    for place in accounts.places:
        for page in TrainingJobs(place).in_progress(watch.tags):
            yield from (job for job in page if watch.names(job.name))


def stop(
    stopper: Stopper,
    jobs: Sequence[JobSnapshot],
    actor: str,
    wait: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Stopped]:
    """Request every stop, then wait until SageMaker confirms them; yields each job when it is settled.

    If AWS refuses to stop a job, the others are stopped all the same.
    """
    stopping = []
    for job in jobs:
        attempt = _attempt(stopper, job, actor)
        if attempt.state == StopState.STOPPING:
            stopping.append(job)
        else:
            yield attempt
    deadline = clock() + CONFIRMATION_TIMEOUT_S
    while stopping:
        wait(VERIFY_INTERVAL_S)
        unconfirmed = []
        for job in stopping:
            attempt = _attempt(stopper, job, actor)
            if attempt.state == StopState.STOPPING and clock() < deadline:
                unconfirmed.append(job)
            else:
                yield attempt
        stopping = unconfirmed


def _attempt(stopper: Stopper, job: JobSnapshot, actor: str) -> Stopped:
    try:
        result = stopper.attempt(job.arn, actor)
    except AwsError as error:
        return Stopped(job, None, str(error))
    return Stopped(job, result, result.sentence)


def cancel(store: Store, job_arn: str, user: str, now: datetime) -> int:
    """Cancel the stops of a job that wait for the end of `stop.grace`, and update the alerts that announced
    them. Returns how many were cancelled: 0 if the stop was already requested from SageMaker.
    """
    if store.stop_of(job_arn):
        return 0
    cancelled = 0
    for finding in store.findings(job_arn):
        deliveries = store.deliveries(finding.id)
        updates = routing.updates(deliveries, f"Not stopped: {user} cancelled it. The job continues.", now)
        cancelled += sum(
            store.cancel(delivery.id, updates)
            for delivery in deliveries
            if delivery.kind is DeliveryKind.STOP
        )
    return cancelled
