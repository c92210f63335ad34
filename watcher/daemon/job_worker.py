"""The loops `look-N`: describe one job at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from watcher.arn import job_name
from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.daemon.expected_errors import expected_errors
from watcher.errors import LeaseLost
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

    def run(self, turned: Callable[[], None]) -> None:
        while not self.work.closed:
            turned()
            if arn := self.work.take():
                if self.pace:
                    self.pace.keep()
                self._look_at(arn)

    def _look_at(self, arn: str) -> None:
        place = self.accounts.of(arn)
        bound = structlog.contextvars.bound_contextvars(job=job_name(arn))
        with bound, expected_errors(self.refused, place) as errors:
            self.pipeline.look_again(arn)
        if any(isinstance(error, LeaseLost) for error in errors):
            self.work.held_elsewhere(arn)
        elif errors:
            self.work.failed(arn)
        else:
            self.refused.resolved("sagemaker:DescribeTrainingJob", place)
            self.work.done(arn)
