"""LowGPUUtilization: a GPU is used little, or its use fluctuates.

For each GPU with more than `patience` values: the 95th percentile of its last `window` values is below
`threshold_p95` (low); or it is above that, and the 5th is below `threshold_p5` (fluctuating). Percentiles are
interpolated linearly. On instance metrics, the mean of an instance's GPUs is judged: if one of eight idles,
that does not show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rules.parameters import between, parameter, parse, whole
from rules.profiler import last_values
from rules.profiler.base import Breach, Evidence, Interval, Need, Piece, ProfilerRule, gpu_name, where
from rules.profiler.data import GPU, SeriesKey, Source
from rules.profiler.last_values import LastValues


@dataclass(frozen=True, slots=True)
class Parameters(Interval):
    threshold_p95: float = parameter(70.0, between(0, 100))
    threshold_p5: float = parameter(10.0, between(0, 100))
    window: int = parameter(500, whole(at_least=1))
    patience: int = parameter(1000, whole(at_least=1))


class LowGPUUtilization(ProfilerRule):
    name = "LowGPUUtilization"
    complaint = "GPU is used little"
    advice = (
        "Enlarge the batch, remove what the GPU waits for (see CPUBottleneck and IOBottleneck), or take a "
        "smaller or cheaper instance."
    )
    needs = frozenset({Need.GPU})
    judges_instance_metrics = True
    instance_metrics_reading = "a value is the mean of an instance's GPUs over a minute"

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self.parameters: Parameters = parse(Parameters, parameters, self.name)
        self._window, self._patience = self._count("window"), self._count("patience")
        self._gpus: dict[SeriesKey, LastValues] = {}

    def wants(self, key: SeriesKey) -> bool:
        return key.dimension == GPU

    def _judge(self, piece: Piece) -> Sequence[Breach]:
        breaches: list[Breach] = []
        for key, series in piece.series.items():
            last = self._gpus.setdefault(key, LastValues(self._window))
            last.add(series.values)
            self._checked += len(series.values)
            if last.count > self._patience:
                breaches += self._of(key, last, float(series.times[-1]))
        return breaches

    def _of(self, key: SeriesKey, last: LastValues, at: float) -> Iterator[Breach]:
        low, high = self.parameters.threshold_p5, self.parameters.threshold_p95
        p5, p95 = (float(one) for one in np.quantile(last.values, (0.05, 0.95)))
        gpu = gpu_name(key)
        of_high = Evidence("p95 of GPUUtilization", p95, high, node=key.node, gpu=gpu, at=at)
        of_low = Evidence("p5 of GPUUtilization", p5, low, node=key.node, gpu=gpu, at=at)
        subject = f"of the last {len(last.values):,} values of {where(key.node, gpu)}, 95 %"
        if p95 < high:
            sentence = f"{subject} are at or below {p95:.3g} %; the rule wants at least {high:g} %"
            yield Breach("low_gpu_utilization", sentence, (of_high,))
        elif p95 > high and p5 < low:
            sentence = (
                f"{subject} are at or below {p95:.3g} %, but 5 % are at or below {p5:.3g} %; the rule wants "
                f"at least {low:g} %"
            )
            yield Breach("fluctuating_gpu_utilization", sentence, (of_low, of_high))

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        most = max((one.count for one in self._gpus.values()), default=0)
        yield (
            most <= self._patience,
            "too_few_values",
            f"{most:,} values of a GPU were saved; the rule judges after more than {self._patience:,}",
        )

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = {}
        for key, last in sorted(self._gpus.items()):
            p5, p50, p95 = (float(one) for one in np.quantile(last.values, (0.05, 0.5, 0.95)))
            details.setdefault(key.node, {})[key.name] = {"gpu_5": p5, "gpu_50": p50, "gpu_95": p95}
        return details

    def _state(self) -> dict[str, Any]:
        return {"gpus": last_values.stored(self._gpus)}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._gpus = last_values.restored(self._window, state["gpus"])
