"""Holds all training jobs of one account and region, and publishes the events of their changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from watcher.sandbox.aws.events import Event, between
from watcher.sandbox.jobs.rule_jobs import RuleJob, rule_jobs
from watcher.sandbox.sagemaker import training_job
from watcher.sandbox.sagemaker.api_errors import ApiError, not_found
from watcher.sandbox.sagemaker.training_job import TrainingJob


class TrainingJobs:
    """Makes one change at a time, and publishes its events in the same order."""

    def __init__(
        self,
        account: str,
        region: str,
        *,
        publish: Callable[[Iterable[Event]], None],
        clock: Callable[[], float],
    ) -> None:
        self.account, self.region = account, region
        self._publish, self._clock = publish, clock
        self._jobs: dict[str, TrainingJob] = {}
        self._names: dict[str, str] = {}
        """By their lower case, in which experiments name them."""
        self._lock = threading.Lock()

    def create(self, request: Mapping[str, Any]) -> TrainingJob:
        with self._lock:
            name = request["TrainingJobName"]
            if name in self._jobs:
                raise ApiError(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and region, and a training job "
                    f"with this name already exists ({self._jobs[name].arn})",
                )
            job = training_job.created(request, account=self.account, region=self.region, now=self._clock())
            return self._keep(job, before=None)

    def place(self, name: str, members: Mapping[str, Any]) -> TrainingJob:
        """Put a job directly into a state; see `training_job.placed`."""
        with self._lock:
            old = self._jobs.get(name)
            job = training_job.placed(
                name, members, account=self.account, region=self.region, now=self._clock(), old=old
            )
            return self._keep(job, before=old)

    def change(self, name: str, how: Callable[[TrainingJob, float], TrainingJob]) -> TrainingJob:
        """`how` gets the job and the time, and returns the changed job. If it raises `ApiError`, nothing
        changes."""
        with self._lock:
            old = self._get(name)
            return self._keep(how(old, self._clock()), before=old)

    def remove(self, name: str) -> None:
        with self._lock:
            self._get(name)
            del self._jobs[name]
            self._names.pop(name.lower(), None)

    def get(self, name: str) -> TrainingJob:
        with self._lock:
            return self._get(name)

    def find(self, name: str) -> TrainingJob | None:
        """The job of this name, whatever its case."""
        with self._lock:
            return self._jobs.get(name) or self._jobs.get(self._names.get(name.lower(), ""))

    def all(self) -> list[TrainingJob]:
        with self._lock:
            return list(self._jobs.values())

    def rule_jobs(self) -> list[RuleJob]:
        """The rules whose processing job has started."""
        return [rule for job in self.all() for rule in rule_jobs(job) if rule.arn]

    def rule_job(self, processing_job: str) -> RuleJob | None:
        return next((rule for rule in self.rule_jobs() if rule.name == processing_job), None)

    def _get(self, name: str) -> TrainingJob:
        try:
            return self._jobs[name]
        except KeyError:
            raise not_found() from None

    def _keep(self, job: TrainingJob, *, before: TrainingJob | None) -> TrainingJob:
        self._jobs[job.name] = job
        self._names[job.name.lower()] = job.name
        self._publish(between(before, job))
        return job
