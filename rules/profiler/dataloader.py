"""Dataloader: too few or too many processes load data at the same time.

Counts, for each node and each second in which a loading event began, the processes that loaded: events of
PyTorch's `DataLoaderWorker` and `DataLoaderIter`. After more than 10 such seconds, the median, as percent of
the node's cores, must not be below `min_threshold` or above `max_threshold`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rules.parameters import number, parameter, parse
from rules.profiler.base import Breach, Evidence, Interval, Need, Piece, ProfilerRule
from rules.profiler.data import CPU, SeriesKey, Source, Span

PHASES = ("DataLoaderWorker", "DataLoaderIter")
MIN_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Parameters(Interval):
    min_threshold: float = parameter(70.0, number(above=0))
    max_threshold: float = parameter(200.0, number(above=0))


class Dataloader(ProfilerRule):
    name = "Dataloader"
    complaint = "Number of data loaders does not fit the cores"
    advice = "Set the loader's num_workers to about the number of cores."
    needs = frozenset({Need.FRAMEWORK, Need.CPU})

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self.parameters: Parameters = parse(Parameters, parameters, self.name)
        self._cores: dict[str, set[str]] = {}
        self._parallel: dict[str, Counter[int]] = {}
        """For each node: in how many seconds so many processes loaded."""

    def wants(self, key: SeriesKey) -> bool:
        return key.dimension == CPU

    def wants_span(self, span: Span) -> bool:
        return span.phase in PHASES

    def _judge(self, piece: Piece) -> Sequence[Breach]:
        for key in piece.series:
            self._cores.setdefault(key.node, set()).add(key.name)
        seconds: dict[tuple[str, int], set[int | None]] = {}
        for span in piece.spans:
            seconds.setdefault((span.node, span.start_us // 1_000_000), set()).add(span.pid)
            self._checked += 1
        for (node, _), processes in seconds.items():
            self._parallel.setdefault(node, Counter())[len(processes)] += 1
        at = max((span.end_us / 1e6 for span in piece.spans), default=None)
        return [breach for node in sorted(self._parallel) for breach in self._of(node, at)]

    def _of(self, node: str, at: float | None) -> Iterator[Breach]:
        cores = len(self._cores.get(node, ()))
        if not cores or self._parallel[node].total() <= MIN_SECONDS:
            return
        median = self._median(node)
        percent = median * 100 / cores
        low, high = self.parameters.min_threshold, self.parameters.max_threshold
        if low <= percent <= high:
            return
        few = percent < low
        sentence = (
            f"the median of the processes that load data on {node} is {median:g}, {percent:.3g} % of its "
            f"{cores} cores; the rule wants {f'at least {low:g}' if few else f'at most {high:g}'} %"
        )
        evidence = Evidence(
            "loading processes, of the cores", percent, low if few else high, node=node, at=at
        )
        yield Breach("too_few_loaders" if few else "too_many_loaders", sentence, (evidence,))

    def _median(self, node: str) -> float:
        counts = self._parallel[node]
        numbers = sorted(counts)
        return float(np.median(np.repeat(numbers, [counts[one] for one in numbers])))

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        yield not self._parallel, "no_loaders", "the framework metrics have no event of a PyTorch data loader"
        most = max((one.total() for one in self._parallel.values()), default=0)
        yield (
            most <= MIN_SECONDS,
            "too_few_values",
            f"data was loaded in {most} seconds; the rule judges after more than {MIN_SECONDS}",
        )

    def _details(self) -> dict[str, Any]:
        return {
            node: {"cores": len(self._cores.get(node, ())), "dataloaders": self._median(node)}
            for node in sorted(self._parallel)
        }

    def _state(self) -> dict[str, Any]:
        return {
            "cores": {node: sorted(names) for node, names in self._cores.items()},
            "parallel": {node: sorted(counts.items()) for node, counts in self._parallel.items()},
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._cores = {node: set(names) for node, names in state["cores"].items()}
        self._parallel = {node: Counter(dict(counts)) for node, counts in state["parallel"].items()}
