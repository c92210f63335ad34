"""Profiles a training while it runs: its files on S3, and its instance metrics in CloudWatch."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from watcher.sandbox.jobs import profiler_output
from watcher.sandbox.jobs.profiler_output import Minutes
from watcher.sandbox.jobs.system_metrics import Gpu, Gpus, Sampler, values
from watcher.sandbox.sagemaker.api_errors import ApiError

UNPROFILED_INTERVAL_S = 5.0
"""CloudWatch's instance metrics need no more, and each job has them."""
FIRST_AFTER_S = 0.05
"""The first values, so that the shortest training has some."""

PutObject = Callable[[str, bytes], None]
"""Takes an `s3://` address and the content."""
PutMetrics = Callable[[str, Mapping[str, float], float], None]
"""Takes the job's name, its instance metrics by name, and the time in seconds since 1970."""


class Profiling(threading.Thread):
    """From its start until `finish`.

    `record` gives the job's record, whose settings of the profiler can change while it trains. It raises
    `ApiError` once the job is deleted. `gpus` gives the GPUs that a test has set for the job; None for those
    of the machine.
    """

    def __init__(
        self,
        job: str,
        pid: int,
        *,
        record: Callable[[], Mapping[str, Any]],
        put_object: PutObject,
        put_metrics: PutMetrics,
        gpus: Callable[[], Sequence[Gpu] | None],
    ) -> None:
        super().__init__(name=f"profiler of {job}", daemon=True)
        self._job, self._record = job, record
        self._place = ""
        self._interval = UNPROFILED_INTERVAL_S
        self._put_object, self._put_metrics, self._set_gpus = put_object, put_metrics, gpus
        self._sampler = Sampler(pid)
        self._minutes = Minutes()
        self._ended = threading.Event()

    def finish(self) -> None:
        """Write the last minute, before the training ends for anybody else."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        memory = psutil.virtual_memory().total
        self._read_settings()
        machine = Gpus(self._interval)
        before = self._sampler.counters(time.monotonic())
        pause = FIRST_AFTER_S
        while True:
            last = self._ended.wait(pause)
            now = time.time()
            self._read_settings()
            after = self._sampler.counters(time.monotonic())
            if after.memory_bytes:  # else its processes are gone, and zeros would be of no training
                set_here = self._set_gpus()
                found = values(before, after, memory, machine.now() if set_here is None else set_here)
                self._minutes.add(now, found)
            before, pause = after, self._interval
            self._write(math.inf if last else now)
            if last:
                machine.close()
                return

    def _read_settings(self) -> None:
        with contextlib.suppress(ApiError):
            record = self._record()
            self._place = profiler_output.place(record)
            self._interval = profiler_output.interval_s(record) if self._place else UNPROFILED_INTERVAL_S

    def _write(self, now: float) -> None:
        for end, text in self._minutes.files(now):
            if self._place:
                self._put_object(f"{self._place}/{profiler_output.key(end)}", text.encode())
        for begin, totals in self._minutes.totals(now):
            disk = psutil.disk_usage("/").percent
            self._put_metrics(self._job, totals | {"DiskUtilization": disk}, begin)
