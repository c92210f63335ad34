"""BatchSize: CPU, GPU and GPU memory are all used little, so that a larger batch would fit.

For each node with more than `patience` values: the 95th percentiles over the last `window` values of the CPU
(the mean of the cores in each snapshot), of a GPU and of that GPU's memory are all below their thresholds. It
does not fit frameworks that allocate much more memory than they use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rules.parameters import between, parameter, parse, whole
from rules.profiler import last_values, snapshot_means
from rules.profiler.base import Breach, Evidence, Interval, Need, Piece, ProfilerRule, gpu_name, where
from rules.profiler.data import CPU, GPU, GPU_MEMORY, SeriesKey, Source
from rules.profiler.last_values import LastValues


@dataclass(frozen=True, slots=True)
class Parameters(Interval):
    cpu_threshold_p95: float = parameter(70.0, between(0, 100))
    gpu_threshold_p95: float = parameter(70.0, between(0, 100))
    gpu_memory_threshold_p95: float = parameter(70.0, between(0, 100))
    patience: int = parameter(1000, whole(at_least=1))
    window: int = parameter(500, whole(at_least=1))


class BatchSize(ProfilerRule):
    name = "BatchSize"
    complaint = "Batch is too small for the instance"
    advice = "Enlarge the batch, or take a smaller instance."
    needs = frozenset({Need.GPU, Need.CPU})
    judges_instance_metrics = True
    instance_metrics_reading = "values are means of an instance's cores and GPUs over a minute"

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self.parameters: Parameters = parse(Parameters, parameters, self.name)
        self._window, self._patience = self._count("window"), self._count("patience")
        self._cpus: dict[str, LastValues] = {}
        self._gpus: dict[SeriesKey, LastValues] = {}

    def wants(self, key: SeriesKey) -> bool:
        return key.dimension in (CPU, GPU, GPU_MEMORY)

    def _judge(self, piece: Piece) -> Sequence[Breach]:
        for node, total, count in snapshot_means.of_nodes(piece, dict(piece.of(CPU))):
            self._cpus.setdefault(node, LastValues(self._window)).add(total / count)
            self._checked += len(total)
        for key, series in piece.series.items():
            if key.dimension != CPU:
                self._gpus.setdefault(key, LastValues(self._window)).add(series.values)
        at = float(piece.snapshots[-1]) if len(piece.snapshots) else None
        return list(self._breached(at))

    def _breached(self, at: float | None) -> Iterator[Breach]:
        thresholds = self.parameters
        for key, gpu in sorted(self._gpus.items()):
            cpu = self._cpus.get(key.node)
            memory = self._gpus.get(key._replace(dimension=GPU_MEMORY))
            if key.dimension != GPU or cpu is None or memory is None:
                continue
            if min(cpu.count, gpu.count, memory.count) <= self._patience:
                continue
            name = gpu_name(key)
            measured = (
                Evidence(f"p95 of {CPU}", _p95(cpu), thresholds.cpu_threshold_p95, node=key.node, at=at),
                Evidence(f"p95 of {GPU}", _p95(gpu), thresholds.gpu_threshold_p95, "%", key.node, name, at),
                Evidence(
                    f"p95 of {GPU_MEMORY}",
                    _p95(memory),
                    thresholds.gpu_memory_threshold_p95,
                    "%",
                    key.node,
                    name,
                    at,
                ),
            )
            if all(one.threshold is not None and one.value < one.threshold for one in measured):
                numbers = ", ".join(f"{one.measure} {one.value:.3g} %" for one in measured)
                wanted = ", ".join(f"{one.threshold:g}" for one in measured)
                sentence = f"{where(key.node, name)}: {numbers}; the rule wants one of them at {wanted} %"
                yield Breach("batch_too_small", sentence, measured)

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        most = max((one.count for one in self._cpus.values()), default=0)
        yield (
            most <= self._patience,
            "too_few_values",
            f"{most:,} values of a node's CPU were saved; the rule judges after more than {self._patience:,}",
        )
        memory = any(key.dimension == GPU_MEMORY for key in self._gpus)
        yield not memory, "no_gpu_memory", "the metrics do not have the use of the GPUs' memory"

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = {}
        for node, cpu in sorted(self._cpus.items()):
            details.setdefault(node, {})["cpu"] = {"p95": _p95(cpu)}
        for key, one in sorted(self._gpus.items()):
            name = f"{key.name}_memory" if key.dimension == GPU_MEMORY else key.name
            details.setdefault(key.node, {})[name] = {"p95": _p95(one)}
        return details

    def _state(self) -> dict[str, Any]:
        return {
            "cpus": [[node, *last.state()] for node, last in self._cpus.items()],
            "gpus": last_values.stored(self._gpus),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._cpus = {node: LastValues.restored(self._window, last) for node, *last in state["cpus"]}
        self._gpus = last_values.restored(self._window, state["gpus"])


def _p95(last: LastValues) -> float:
    return float(np.quantile(last.values, 0.95))
