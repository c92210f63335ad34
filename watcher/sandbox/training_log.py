"""The log of training jobs, in which SageMaker reads their metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from watcher.sandbox import metrics
from watcher.sandbox.api_errors import ApiError
from watcher.sandbox.logs import LogWriter
from watcher.sandbox.metrics import Measured
from watcher.sandbox.rule_jobs import TRAINING_LOGS, training_log_stream
from watcher.sandbox.training_jobs import TrainingJobs


class TrainingLog:
    """Of one account and region."""

    def __init__(self, jobs: TrainingJobs, logs: LogWriter) -> None:
        self._jobs, self._logs = jobs, logs

    def write(self, name: str, lines: Sequence[str]) -> None:
        """What a job prints, with all that follows. A job that was deleted meanwhile leaves nothing."""
        with contextlib.suppress(ApiError):
            job = self._jobs.get(name)
            self._logs.write(TRAINING_LOGS, training_log_stream(job), lines)
            if values := metrics.measured(job, lines, time.time()):
                self.measure(name, values)

    def measure(self, name: str, values: Sequence[Measured]) -> None:
        """Metrics of a job, at whatever time. Raises `ApiError` where there is no such job."""
        self._jobs.change(name, lambda job, _: metrics.with_final_metrics(job, values))
        metrics.put(self._jobs.account, self._jobs.region, name, values)
