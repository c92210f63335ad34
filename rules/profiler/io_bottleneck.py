"""IOBottleneck: GPUs idle while cores wait for input and output. See `rules.profiler.bottleneck`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rules.parameters import between, parameter, parse, whole
from rules.profiler.base import Interval
from rules.profiler.bottleneck import Bottleneck
from rules.profiler.data import IO_WAIT, Source


@dataclass(frozen=True, slots=True)
class Parameters(Interval):
    threshold: float = parameter(50.0, between(0, 100))
    gpu_threshold: float = parameter(10.0, between(0, 100))
    io_threshold: float = parameter(50.0, between(0, 100))
    patience: int = parameter(1000, whole(at_least=1))


class IOBottleneck(Bottleneck):
    name = "IOBottleneck"
    complaint = "GPUs wait for input and output"
    advice = (
        "Read the data faster: fewer and larger files, FastFile mode or FSx for Lustre, local NVMe, or "
        "prefetching."
    )
    dimension = IO_WAIT
    reason = "io_bottleneck"
    cores_are = "a core waited for I/O"

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self.parameters: Parameters = parse(Parameters, parameters, self.name)
        self._patience = self._count("patience")

    @property
    def limits(self) -> tuple[float, float, float]:
        return self.parameters.threshold, self.parameters.gpu_threshold, self.parameters.io_threshold
