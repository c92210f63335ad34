"""Stops that a person asks for: `watcher stop`, with the same guards as the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from watcher.aws.accounts import Accounts
from watcher.aws.sagemaker import TrainingJobs
from watcher.config.settings import Watch
from watcher.delivery.stop import VERIFY_INTERVAL_S, Stopper, StopResult, StopState
from watcher.errors import AwsError
from watcher.model import Case, Change, ChangeKind, Door, JobSnapshot, StopPhase, incident_id
from watcher.policy import incidents
from watcher.policy.stop_guards import Refusal, refusal
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


_AmendAt = Callable[[Case | None, datetime], Case | None]


@dataclass(frozen=True)
class ManualStop:
    """Stops for one person. What happens is recorded in each run's incident, so that its alerts show it; or,
    if a run has none, in the history alone."""

    stopper: Stopper
    user: str
    dry_run: bool = False
    """Only say what would be stopped, and record nothing."""
    wait: Callable[[float], object] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def stop(self, jobs: Sequence[JobSnapshot]) -> Iterator[Stopped]:
        """Request every stop, then wait until SageMaker confirms them; yields each job when it is settled.

        If AWS refuses to stop a job, the others are stopped all the same.
        """
        asked, stopping = set(), []
        for job in jobs:
            if self._may_record(job):
                self._record_request(job)
                asked.add(job.run)
            attempt = self._attempt(job)
            if attempt.state == StopState.STOPPING:
                if job.run in asked:
                    self._amend(job, lambda case, now: incidents.stop_requested(case, self.user, now))
                stopping.append(job)
            else:
                self._record_end(attempt, asked)
                yield attempt
        deadline = self.monotonic() + CONFIRMATION_TIMEOUT_S
        while stopping:
            self.wait(VERIFY_INTERVAL_S)
            unconfirmed = []
            for job in stopping:
                attempt = self._attempt(job)
                if attempt.state == StopState.STOPPING and self.monotonic() < deadline:
                    unconfirmed.append(job)
                else:
                    self._record_end(attempt, asked)
                    yield attempt
            stopping = unconfirmed

    def _attempt(self, job: JobSnapshot) -> Stopped:
        stopper = self.stopper
        if self.dry_run:
            stopper = replace(stopper, settings=stopper.settings.model_copy(update={"dry_run": True}))
        try:
            result = stopper.attempt(job.run, f"watcher stop by {self.user}")
        except AwsError as error:
            return Stopped(job, None, str(error))
        if result.refusal is Refusal.DRY_RUN and not self.stopper.settings.dry_run:
            return Stopped(job, result, f"Dry run: {job.name} would be stopped now")
        return Stopped(job, result, result.sentence)

    # -- what is recorded -------------------------------------------------------------------------

    def _may_record(self, job: JobSnapshot) -> bool:
        """Not if the job has ended, because there is nothing to stop. Nor if a guard refuses while a route's
        stop waits: that one is still tried when its time comes."""
        if self.dry_run or not job.in_progress:
            return False
        case = self.stopper.store.case(incident_id(job.run))
        stop = case.incident.stop if case else None
        waits = stop is not None and stop.phase is StopPhase.WAITING
        return not (waits and refusal(job, job.run, self.stopper.settings, self.stopper.clock()))

    def _record_request(self, job: JobSnapshot) -> None:
        self._record(
            job,
            ChangeKind.STOP_ASKED,
            f"{self.user} asks to stop the job",
            lambda case, now: incidents.person_stops(case, self.user, Door.CLI, now),
        )

    def _record_end(self, attempt: Stopped, asked: Collection[str]) -> None:
        """If it is still stopping, the daemon records how it ends."""
        if attempt.job.run not in asked or attempt.state == StopState.STOPPING:
            return
        stopped = attempt.state == StopState.STOPPED
        phase = StopPhase.STOPPED if stopped else StopPhase.NOT_STOPPED
        kind = ChangeKind.STOPPED if stopped else ChangeKind.NOT_STOPPED
        sentence = attempt.sentence if stopped else f"Not stopped: {attempt.sentence.rstrip('.')}."
        self._record(
            attempt.job,
            kind,
            sentence,
            lambda case, now: incidents.stop_ended(case, phase, self.user, sentence, now),
        )

    def _record(self, job: JobSnapshot, kind: ChangeKind, text: str, amend: _AmendAt) -> None:
        store, now = self.stopper.store, self.stopper.clock()
        if store.case(incident_id(job.run)):
            self._amend(job, amend)
        else:
            store.record(Change(0, now, kind, text, self.user, Door.CLI, run=job.run))

    def _amend(self, job: JobSnapshot, amend: _AmendAt) -> None:
        now = self.stopper.clock()
        self.stopper.store.amend(incident_id(job.run), lambda case: amend(case, now))


def cancel(store: Store, job: JobSnapshot, user: str, now: datetime) -> bool:
    """Cancel the stop of a run that waits for the end of `stop.grace`. False if none waits: it may have been
    requested from SageMaker already."""
    cancelled = store.amend(
        incident_id(job.run), lambda case: incidents.cancel_stop(case, user, Door.CLI, now)
    )
    return cancelled is not None
