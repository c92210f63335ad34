"""Writes the logs of training jobs, and the metrics that SageMaker finds in them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from watcher.aws.links import TRAINING_LOGS
from watcher.sandbox.aws import metrics
from watcher.sandbox.aws.logs import LogWriter
from watcher.sandbox.aws.metrics import Measured
from watcher.sandbox.jobs.rule_jobs import training_log_stream
from watcher.sandbox.sagemaker.api_errors import ApiError
from watcher.sandbox.sagemaker.training_job import TrainingJob
from watcher.sandbox.sagemaker.training_jobs import TrainingJobs


class TrainingLog:
    """The logs of one account and region."""

    def __init__(
        self,
        jobs: TrainingJobs,
        logs: LogWriter,
        measured: Callable[[TrainingJob, Sequence[Measured]], None],
    ) -> None:
        """`measured` is told each value of a job."""
        self._jobs, self._logs, self._measured = jobs, logs, measured

    def write(self, name: str, lines: Sequence[str]) -> None:
        """Write lines that a job prints, and the metrics in them; nothing if the job was deleted
        meanwhile."""
        with contextlib.suppress(ApiError):
            job = self._jobs.get(name)
            self._logs.write(TRAINING_LOGS, training_log_stream(job), lines)
            if values := metrics.measured(job, lines, time.time()):
                self.measure(name, values)

    def measure(self, name: str, values: Sequence[Measured]) -> None:
        """Store metrics of a job, of any time. Raises `ApiError` if the job does not exist."""
        job = self._jobs.change(name, lambda job, _: metrics.with_final_metrics(job, values))
        self._measured(job, values)
        metrics.put(self._jobs.account, self._jobs.region, name, values)
