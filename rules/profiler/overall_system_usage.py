"""OverallSystemUsage: sums up how much of each node was used. It never fires: its content is the report.

CPU, I/O wait, GPU and GPU memory are means over a node's cores or GPUs in each snapshot; the network is the
sum of what the training receives and sends, in bytes a second. Percentages are exact to a tenth, bytes to
three digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rules.parameters import parse
from rules.profiler import snapshot_means
from rules.profiler.base import Breach, Interval, Piece, ProfilerRule
from rules.profiler.data import CPU, GPU, GPU_MEMORY, IO_WAIT, MEMORY, NETWORK, Series, SeriesKey, Source
from rules.profiler.distribution import Distribution

_RESOURCES = {CPU: "CPU", IO_WAIT: "I/O", GPU: "GPU", GPU_MEMORY: "GPU memory", NETWORK: "Network"}
"""By dimension, with the names of SageMaker's report."""
_MEMORY = "CPU memory"


def resource(key: SeriesKey) -> str:
    """What it is in the report; empty if it is not in it."""
    return _MEMORY if key.name == MEMORY else _RESOURCES.get(key.dimension, "")


class OverallSystemUsage(ProfilerRule):
    name = "OverallSystemUsage"
    complaint = "Sums up how the system was used"
    never_fires = True
    judges_instance_metrics = True
    instance_metrics_reading = "values are means of an instance's cores and GPUs over a minute"

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self.parameters = parse(Interval, parameters, self.name)
        self._usage: dict[tuple[str, str], Distribution] = {}
        """By resource and node."""

    def wants(self, key: SeriesKey) -> bool:
        return bool(resource(key))

    def _judge(self, piece: Piece) -> Sequence[Breach]:
        by_resource: dict[str, dict[SeriesKey, Series]] = {}
        for key, series in piece.series.items():
            by_resource.setdefault(resource(key), {})[key] = series
        for name, of_it in by_resource.items():
            for node, total, count in snapshot_means.of_nodes(piece, of_it):
                usage = self._usage.setdefault((name, node), _empty(name))
                usage.add(total if name == "Network" else total / count)
                self._checked += len(total)
        return ()

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = {}
        for (name, node), usage in sorted(self._usage.items()):
            p50, p95, p99 = usage.quantiles((0.5, 0.95, 0.99))
            details.setdefault(name, {})[node] = {
                "max": usage.greatest,
                "p99": p99,
                "p95": p95,
                "p50": p50,
                "min": usage.least,
            }
        return details

    def _state(self) -> dict[str, Any]:
        return {"usage": [[*key, usage.state()] for key, usage in self._usage.items()]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._usage = {(name, node): _empty(name).restore(usage) for name, node, usage in state["usage"]}


def _empty(name: str) -> Distribution:
    return Distribution(percent=name != "Network", decimals=1, digits=3)
