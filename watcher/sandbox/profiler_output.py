"""Where and in which files SageMaker's profiler keeps what a training uses of the machine. Pure.

A minute is a file, named after its end: `system/incremental/2026112710/1795687260.algo-1.json`, with a line
for each value and a line end after the last, without which smdebug's reader fails.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from watcher.sandbox.system_metrics import NODE, Value, lines

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


class Minutes:
    """Collects values, and gives each minute away when it is over."""

    def __init__(self) -> None:
        self._values: defaultdict[int, list[tuple[float, list[Value]]]] = defaultdict(list)

    def add(self, at: float, found: list[Value]) -> None:
        """`at`: seconds since 1970."""
        self._values[int(at // MINUTE_S + 1) * MINUTE_S].append((at, found))

    def over(self, now: float) -> Iterator[tuple[int, str, dict[str, float]]]:
        """The end of each minute that is over, its file, and the means of CloudWatch's instance metrics."""
        for end in [end for end in sorted(self._values) if end <= now]:
            moments = self._values.pop(end)
            text = "".join(f"{line}\n" for at, found in moments for line in lines(at, found))
            yield end, text, _totals([found for _, found in moments])


def key(end: int) -> str:
    """Of the file of the minute with this end, below `profiler-output`."""
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
