"""`watcher stop`: jobs that a person wants stopped, with the guards of the daemon."""

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

PATIENCE = 180.0
"""Seconds in which a stop is to be confirmed; the script alone may take 120 of them."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """How far the stop of one job came. `result` is None where AWS refused, as `sentence` says."""

    job: JobSnapshot
    result: StopResult | None
    sentence: str

    @property
    def state(self) -> str:
        return self.result.state if self.result else "failed"

    @property
    def as_wanted(self) -> bool:
        """The job runs no longer, or it was only a rehearsal."""
        if self.result is None:
            return False
        if self.result.refusal is Refusal.DRY_RUN:
            return True
        return self.result.state in (StopState.STOPPED, StopState.ENDED_OTHERWISE)


def all_in_progress(accounts: Accounts, watch: Watch) -> Iterator[JobSnapshot]:
    """Every job in progress that the configuration watches, in each place oldest first."""
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
    """Ask for every stop first, then wait until SageMaker confirms; gives each job as it is done with.

    A job that AWS refuses to stop does not keep the others from being stopped.
    """
    stopping = []
    for job in jobs:
        attempt = _attempt(stopper, job, actor)
        if attempt.state == StopState.STOPPING:
            stopping.append(job)
        else:
            yield attempt
    deadline = clock() + PATIENCE
    while stopping:
        wait(VERIFY_INTERVAL_S)
        still = []
        for job in stopping:
            attempt = _attempt(stopper, job, actor)
            if attempt.state == StopState.STOPPING and clock() < deadline:
                still.append(job)
            else:
                yield attempt
        stopping = still


def _attempt(stopper: Stopper, job: JobSnapshot, actor: str) -> Stopped:
    try:
        result = stopper.attempt(job.arn, actor)
    except AwsError as error:
        return Stopped(job, None, str(error))
    return Stopped(job, result, result.sentence)


def cancel(store: Store, job_arn: str, user: str, now: datetime) -> int:
    """Cancel the stops of a job that still wait for the end of `stop.grace`, and say so wherever the alert
    was told. Returns how many: none where SageMaker has been asked already.
    """
    if store.stop_of(job_arn):
        return 0
    cancelled = 0
    for finding in store.findings(job_arn):
        deliveries = store.deliveries(finding.id)
        told = routing.updates(deliveries, f"Not stopped: {user} cancelled it. The job continues.", now)
        cancelled += sum(
            store.cancel(delivery.id, told) for delivery in deliveries if delivery.kind is DeliveryKind.STOP
        )
    return cancelled
