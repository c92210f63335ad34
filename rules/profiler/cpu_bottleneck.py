"""CPUBottleneck: GPUs idle while cores are busy.

See `rules.profiler.bottleneck`. On instance metrics, a snapshot is a minute, and "any core" is the mean of an
instance's cores: a single busy core does not show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rules.parameters import between, parameter, parse, whole
from rules.profiler.base import Interval
from rules.profiler.bottleneck import Bottleneck
from rules.profiler.data import CPU, Source


@dataclass(frozen=True, slots=True)
class Parameters(Interval):
    threshold: float = parameter(50.0, between(0, 100))
    gpu_threshold: float = parameter(10.0, between(0, 100))
    cpu_threshold: float = parameter(90.0, between(0, 100))
    patience: int = parameter(1000, whole(at_least=1))


class CPUBottleneck(Bottleneck):
    name = "CPUBottleneck"
    complaint = "GPUs wait for the CPU"
    advice = (
        "Give the GPU its data faster: more loader processes, prefetching, cheaper augmentation, or an "
        "instance with more cores for each GPU."
    )
    judges_instance_metrics = True
    instance_metrics_reading = "a snapshot is a minute; the mean of an instance's cores stands for any core"
    dimension = CPU
    reason = "cpu_bottleneck"
    cores_are = "a core was"

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self.parameters: Parameters = parse(Parameters, parameters, self.name)
        self._patience = self._count("patience")

    @property
    def limits(self) -> tuple[float, float, float]:
        return self.parameters.threshold, self.parameters.gpu_threshold, self.parameters.cpu_threshold
