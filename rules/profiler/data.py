"""What a profiler rule reads: system metrics as columns, and the framework's events as spans.

Names are those of SageMaker's profiler files:

| type | name | dimension | unit |
|---|---|---|---|
| cpu | cpu0, cpu1 … | CPUUtilization, I/OWaitPercentage | percent of the core |
| gpu | gpu0, gpu1 … | GPUUtilization, GPUMemoryUtilization | percent of the GPU |
| memory | MemoryUsedPercent | (empty) | percent |
| i/o | IOPS, ReadThroughputInBytesPerSecond … | (empty) | a second |
| network | ReceiveBytesPerSecond, TransmitBytesPerSecond | Algorithm, Platform | bytes a second |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CPU = "CPUUtilization"
IO_WAIT = "I/OWaitPercentage"
GPU = "GPUUtilization"
GPU_MEMORY = "GPUMemoryUtilization"
MEMORY = "MemoryUsedPercent"
"""A name; this metric has no dimension."""
NETWORK = "Algorithm"
"""The dimension of the traffic of the training itself; `Platform` is SageMaker's own."""

STEP = "Step:ModeKeys"
"""Part of the name of each span that is a step, such as `Step:ModeKeys.TRAIN`."""


class Source(StrEnum):
    PROFILER = "profiler"
    """SageMaker's profiler: a value every 500 ms, of each core and each GPU."""
    INSTANCE_METRICS = "instance_metrics"
    """SageMaker's instance metrics in CloudWatch: a value a minute, of each instance. See `of_instance`."""


SECONDS_PER_VALUE = {Source.PROFILER: 0.5, Source.INSTANCE_METRICS: 60.0}


class SeriesKey(NamedTuple):
    node: str
    """The instance, such as `algo-1`."""
    type: str
    name: str
    dimension: str = ""


class Series(NamedTuple):
    """Two columns of the same length, in ascending order of time."""

    times: Floats
    """In seconds since the epoch."""
    values: Floats
    """Finite numbers."""


class Span(NamedTuple):
    """An event of the framework's timeline that has a beginning and an end. Times are whole microseconds."""

    node: str
    process: str
    """The process that wrote it, as in the file's name: the pid, or empty."""
    phase: str
    """The name of the timeline's row, such as `Step:ModeKeys.TRAIN` or `DataLoaderWorker`."""
    name: str
    start_us: int
    """Since the epoch."""
    duration_us: int
    step: int | None = None
    """The number of the training step, where the event has one."""
    pid: int | None = None
    """The id of the process that did the work, where the event has one."""
    timeline: str = ""
    """Which file: `pythontimeline`, `model_timeline`, `horovod_timeline`, `smdataparallel_timeline`."""

    @property
    def end_us(self) -> int:
        return self.start_us + self.duration_us

    @property
    def is_step(self) -> bool:
        return STEP in self.name


@dataclass(frozen=True)
class Batch:
    """Everything of a job between two times. Batches come in the order of time, of all nodes together; how
    the data are divided into batches changes no verdict."""

    until: float
    """Seconds since the epoch. No later batch has a value from before this time, or a span that ended before
    it. What does come later is left out, and the verdict says so."""
    series: Mapping[SeriesKey, Series] = field(default_factory=dict)
    spans: Sequence[Span] = ()

    @cached_property
    def times(self) -> Floats:
        """The times of all values, ascending."""
        columns = [series.times for series in self.series.values()]
        # Stable: that sort is three times as fast on columns that are in order themselves.
        return np.sort(np.concatenate(columns), kind="stable") if columns else np.empty(0)

    @cached_property
    def snapshots(self) -> Floats:
        """When each snapshot begins, if none began in an earlier batch."""
        return snapshot_starts(self.times)


SNAPSHOT_S = 0.02
"""Values within 20 ms, counted from the first of them, are one snapshot: the profiler reads each metric in a
thread of its own, and these do not wake up at exactly the same time."""


def snapshot_starts(times: Floats) -> Floats:
    """When each snapshot begins. `times` are ascending."""
    if not len(times):
        return times
    firsts = np.concatenate(([0], np.flatnonzero(np.diff(times) > SNAPSHOT_S) + 1))
    lasts = np.concatenate((firsts[1:], [len(times)])) - 1
    long = times[lasts] - times[firsts] > SNAPSHOT_S
    if not long.any():  # usual: there is silence between two snapshots
        begins: Floats = times[firsts]
        return begins
    starts = [times[firsts[~long]]]
    for first, last in zip(firsts[long], lasts[long], strict=True):
        while first <= last:
            starts.append(times[first : first + 1])
            first = int(np.searchsorted(times, times[first] + SNAPSHOT_S, side="right"))  # noqa: PLW2901
            # The sum may round down to a value that is still part of the snapshot.
            while first <= last and times[first] - starts[-1][0] <= SNAPSHOT_S:
                first += 1  # noqa: PLW2901
    ordered: Floats = np.sort(np.concatenate(starts))
    return ordered


def of_instance(
    node: str, metric: str, times: Floats, values: Floats, *, cores: int, gpus: int
) -> tuple[SeriesKey, Series] | None:
    """A series of CloudWatch's instance metrics as the rules read it; None if no rule reads the metric, or if
    the number of cores or GPUs that it has to be divided by is not known (0).

    CloudWatch adds the cores, or the GPUs, up: `CPUUtilization` of 8 cores goes to 800. Divided by their
    number, it is the mean of the cores, which the rules take as one core (`cpu`) or one GPU (`gpu`).
    """
    match metric:
        case "CPUUtilization" if cores:
            return SeriesKey(node, "cpu", "cpu", CPU), Series(times, values / cores)
        case "GPUUtilization" if gpus:
            return SeriesKey(node, "gpu", "gpu", GPU), Series(times, values / gpus)
        case "GPUMemoryUtilization" if gpus:
            return SeriesKey(node, "gpu", "gpu", GPU_MEMORY), Series(times, values / gpus)
        case "MemoryUtilization":
            return SeriesKey(node, "memory", MEMORY), Series(times, values)
        case "DiskUtilization":
            return SeriesKey(node, "disk", "DiskUtilization"), Series(times, values)
        case _:
            return None
