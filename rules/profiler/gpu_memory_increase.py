"""GPUMemoryIncrease: the memory that a GPU uses rises.

For each GPU, at each of its values after more than `patience`: the mean of the last `window` values is more
than `increase` points above the mean of the `window` values before them. On instance metrics, the mean of an
instance's GPUs is judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rules.parameters import number, parameter, parse, whole
from rules.profiler import last_values
from rules.profiler.base import Breach, Evidence, Interval, Need, Piece, ProfilerRule, clock, gpu_name, where
from rules.profiler.data import GPU_MEMORY, Series, SeriesKey, Source
from rules.profiler.last_values import LastValues


@dataclass(frozen=True, slots=True)
class Parameters(Interval):
    increase: float = parameter(5.0, number(above=0))
    patience: int = parameter(1000, whole(at_least=1))
    window: int = parameter(10, whole(at_least=1))


class GPUMemoryIncrease(ProfilerRule):
    name = "GPUMemoryIncrease"
    complaint = "GPU memory rises"
    advice = (
        "Look for tensors that are kept from step to step, such as losses that are summed up with their "
        "graph; otherwise the job will run out of memory."
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
        return key.dimension == GPU_MEMORY

    def _judge(self, piece: Piece) -> Sequence[Breach]:
        breaches = []
        for key, series in piece.series.items():
            last = self._gpus.setdefault(key, LastValues(2 * self._window))
            if breach := self._rise(key, series, last):
                breaches.append(breach)
            last.add(series.values)
            self._checked += len(series.values)
        return breaches

    def _rise(self, key: SeriesKey, series: Series, last: LastValues) -> Breach | None:
        """The first value of these at which the rule fires."""
        window = self._window
        values = np.concatenate((last.values, series.values))
        if len(values) < 2 * window or values.max() - values.min() <= self.parameters.increase:
            return None
        means = sliding_window_view(values, window).mean(axis=1)
        rises = means[window:] - means[:-window]
        # The rise at index i is at the value of index i + 2 * window - 1 of `values`.
        at_value = np.arange(len(rises)) + 2 * window - 1 - len(last.values)
        judged = (at_value >= 0) & (last.count + at_value + 1 > self._patience)
        [found] = np.nonzero(judged & (rises > self.parameters.increase))
        if not len(found):
            return None
        rise, index = float(rises[found[0]]), int(at_value[found[0]])
        before, after = float(means[found[0]]), float(means[found[0] + window])
        at, gpu = float(series.times[index]), gpu_name(key)
        sentence = (
            f"the memory used on {where(key.node, gpu)} rose from {before:.3g} % to {after:.3g} % (means of "
            f"{window:,} values) by {clock(at)}; the rule allows {self.parameters.increase:g} points"
        )
        evidence = Evidence(
            "increase of GPUMemoryUtilization", rise, self.parameters.increase, "points", key.node, gpu, at
        )
        return Breach("gpu_memory_increase", sentence, (evidence,))

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        most = max((one.count for one in self._gpus.values()), default=0)
        needed = max(self._patience, 2 * self._window - 1)
        yield not self._gpus, "no_gpu_memory", "the metrics do not have the use of the GPUs' memory"
        yield (
            most <= needed,
            "too_few_values",
            f"{most:,} values of a GPU's memory were saved; the rule judges after more than {needed:,}",
        )

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = {}
        for key, last in sorted(self._gpus.items()):
            half = last.values[-self._window :]
            details.setdefault(key.node, {})[key.name] = {"mean_of_last_window": float(half.mean())}
        return details

    def _state(self) -> dict[str, Any]:
        return {"gpus": last_values.stored(self._gpus)}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._gpus = last_values.restored(2 * self._window, state["gpus"])
