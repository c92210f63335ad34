"""Where and in which files SageMaker's profiler keeps what a training uses of the machine. Pure.

A minute is a file, named after its end: `system/incremental/2026112710/1795687260.algo-1.json`, with a line
for each value and a line end after the last, without which smdebug's reader fails. The first minute is two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from watcher.sandbox.jobs.system_metrics import NODE, Value, lines

MINUTE_S = 60
DEFAULT_INTERVAL_MS = 500
"""`ProfilingIntervalInMilliseconds` of a job that does not say."""
TOTALS = {
    "CPUUtilization": "CPUUtilization",
    "GPUUtilization": "GPUUtilization",
    "GPUMemoryUtilization": "GPUMemoryUtilization",
    "MemoryUsedPercent": "MemoryUtilization",
}
"""CloudWatch's instance metrics, which are sums over cores and GPUs, by the profiler's metric."""


def place(job: Mapping[str, Any]) -> str:
    """`s3://BUCKET/PATH/JOB/profiler-output`; empty if the job with this record is not profiled."""
    config = job.get("ProfilerConfig") or {}
    if config.get("DisableProfiler") or not config.get("S3OutputPath"):
        return ""
    return f"{config['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/profiler-output"


def interval_s(job: Mapping[str, Any]) -> float:
    config = job.get("ProfilerConfig") or {}
    return float(config.get("ProfilingIntervalInMilliseconds", DEFAULT_INTERVAL_MS)) / 1000


Moment = tuple[float, list[Value]]


class Minutes:
    """Collects values, and gives each file and each minute away when it is over.

    The first file ends within a second. smdebug's `PandasFrame` leaves out what is before its end, so it
    would show nothing of a training that lasts less than a minute.
    """

    def __init__(self) -> None:
        self._first_end = 0
        self._files: defaultdict[int, list[Moment]] = defaultdict(list)
        self._minutes: defaultdict[int, list[Moment]] = defaultdict(list)
        """Both by their ends."""

    def add(self, at: float, found: list[Value]) -> None:
        """`at`: seconds since 1970."""
        minute = int(at // MINUTE_S + 1) * MINUTE_S
        self._first_end = self._first_end or int(at) + 1
        self._files[self._first_end if at < self._first_end else minute].append((at, found))
        self._minutes[minute].append((at, found))

    def files(self, now: float) -> Iterator[tuple[int, str]]:
        """The end of each file that is over, and its text."""
        for end, moments in _over(self._files, now):
            yield end, "".join(f"{line}\n" for at, found in moments for line in lines(at, found))

    def totals(self, now: float) -> Iterator[tuple[int, dict[str, float]]]:
        """The beginning of each minute that is over, and the means of CloudWatch's instance metrics in it."""
        for end, moments in _over(self._minutes, now):
            yield end - MINUTE_S, _totals([found for _, found in moments])


def _over(collected: dict[int, list[Moment]], now: float) -> Iterator[tuple[int, list[Moment]]]:
    """Takes out what ends at `now` or before."""
    for end in [end for end in sorted(collected) if end <= now]:
        yield end, collected.pop(end)


def key(end: int) -> str:
    """Of the file with this end, below `profiler-output`."""
    hour = datetime.fromtimestamp(end, UTC).strftime("%Y%m%d%H")
    return f"system/incremental/{hour}/{end}.{NODE}.json"


def _totals(moments: list[list[Value]]) -> dict[str, float]:
    sums: defaultdict[str, list[float]] = defaultdict(list)
    for found in moments:
        of_moment: defaultdict[str, float] = defaultdict(float)
        for _, name, dimension, value in found:
            if total := TOTALS.get(dimension or name):
                of_moment[total] += value
        for name, value in of_moment.items():
            sums[name].append(value)
    return {name: fmean(each) for name, each in sums.items()}
