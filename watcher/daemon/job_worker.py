"""The loops `look-N`: describe one job at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from watcher.arn import job_name
from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.daemon.expected_errors import expected_errors
from watcher.errors import LeaseLost
from watcher.jobs.failures import Failures
from watcher.jobs.pipeline import Pipeline
from watcher.jobs.work import Pace, Work


@dataclass(frozen=True, slots=True)
class JobWorker:
    """Safe to use from several threads: `work` gives each job to one of them."""

    work: Work
    pipeline: Pipeline
    accounts: Accounts
    refused: RefusedCalls
    pace: Pace | None
    """How fast jobs may be described; None for no limit."""
    failures: Failures = field(default_factory=Failures)

    def run(self, turned: Callable[[], None]) -> None:
        while not self.work.closed:
            turned()
            if arn := self.work.take():
                if self.pace:
                    self.pace.keep()
                self._look_at(arn)

    def _look_at(self, arn: str) -> None:
        found = False
        bound = structlog.contextvars.bound_contextvars(job=job_name(arn))
        failing = self.failures.caught("look_failed", "the job is looked at again later", run=arn)
        with bound, failing as unexpected, expected_errors(self.refused) as unplaced:
            place = self.accounts.of(arn)
            with expected_errors(self.refused, place) as refusals:
                found = self.pipeline.look_again(arn) is not None
            if not refusals:
                self.refused.resolved("sagemaker:DescribeTrainingJob", place)
            unplaced.extend(refusals)
        if any(isinstance(error, LeaseLost) for error in unplaced):
            self.work.held_elsewhere(arn)
        elif unplaced or unexpected:
            self.work.failed(arn)
        elif found:
            self.work.done(arn)
        else:
            self.work.absent(arn)
