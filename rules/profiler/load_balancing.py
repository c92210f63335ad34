"""LoadBalancing: the GPUs of a node, or the nodes, do not share the work.

The utilisation of each GPU with more than `patience` values is a distribution over bins of 2 points, from 0
to 100. Each GPU of a node is compared with each other one, and so are the nodes, each with all of its GPUs
together. Fires when a Jensen-Shannon distance (natural logarithm, so at most 0.83) is above `threshold`.

AWS's code of 2020 compares in a way by which it never fires, and drops values above 98 %; this rule does not.
On instance metrics, only the nodes can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from rules.parameters import between, parameter, parse, whole
from rules.profiler.base import Breach, Evidence, Interval, Need, Piece, ProfilerRule
from rules.profiler.data import GPU, Floats, SeriesKey, Source

BINS, BIN_POINTS = 50, 2.0


@dataclass(frozen=True, slots=True)
class Parameters(Interval):
    threshold: float = parameter(0.5, between(0, 100))
    patience: int = parameter(1000, whole(at_least=1))


class LoadBalancing(ProfilerRule):
    name = "LoadBalancing"
    complaint = "GPUs do not share the work"
    advice = "Divide the batches evenly among the GPUs, and check that each process uses a GPU of its own."
    needs = frozenset({Need.GPU})
    judges_instance_metrics = True
    instance_metrics_reading = "only the nodes are compared, by the means of their GPUs over a minute"

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self.parameters: Parameters = parse(Parameters, parameters, self.name)
        self._patience = self._count("patience")
        self._counts: dict[SeriesKey, Floats] = {}

    def wants(self, key: SeriesKey) -> bool:
        return key.dimension == GPU

    def _judge(self, piece: Piece) -> Sequence[Breach]:
        for key, series in piece.series.items():
            bins = np.clip(series.values // BIN_POINTS, 0, BINS - 1).astype(np.intp)
            counts = np.bincount(bins, minlength=BINS).astype(np.float64)
            self._counts[key] = self._counts[key] + counts if key in self._counts else counts
            self._checked += len(series.values)
        at = max((float(series.times[-1]) for series in piece.series.values()), default=None)
        breaches = []
        for node, gpu, first, other, distance in self._distances():
            if distance > self.parameters.threshold:
                sentence = (
                    f"the use of {first} and of {other} differ by {distance:.2g} (Jensen-Shannon distance); "
                    f"the rule allows {self.parameters.threshold:g}"
                )
                evidence = Evidence(
                    f"distance between {first} and {other}",
                    distance,
                    self.parameters.threshold,
                    unit="",
                    node=node,
                    gpu=gpu,
                    at=at,
                )
                breaches.append(Breach("unbalanced_gpus", sentence, (evidence,)))
        return breaches

    def _ready(self) -> dict[str, dict[str, Floats]]:
        """By node and GPU: the counts of those that have enough values."""
        nodes: dict[str, dict[str, Floats]] = {}
        for key, counts in sorted(self._counts.items()):
            if counts.sum() > self._patience:
                nodes.setdefault(key.node, {})[key.name] = counts
        return nodes

    def _distances(self) -> Iterator[tuple[str, str, str, str, float]]:
        """Node, GPU (empty for whole nodes), the names of both, and their distance."""
        nodes = self._ready()
        pairs: list[tuple[str, str, str, str, Floats, Floats]] = []
        for node, gpus in nodes.items():
            for (name, counts), (other, others) in combinations(gpus.items(), 2):
                pairs.append((node, name, f"{name} of {node}", f"{other} of {node}", counts, others))
        whole_nodes = {node: np.sum(list(gpus.values()), axis=0) for node, gpus in nodes.items()}
        for (node, counts), (other, others) in combinations(whole_nodes.items(), 2):
            pairs.append((node, "", node, other, counts, others))
        if pairs:
            apart = distances(np.array([one[4] for one in pairs]), np.array([one[5] for one in pairs]))
            yield from ((*one[:4], float(far)) for one, far in zip(pairs, apart, strict=True))

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        most = int(max((one.sum() for one in self._counts.values()), default=0))
        yield (
            len(self._counts) == 1,
            "single_gpu",
            "the metrics are of one GPU, or of one instance's mean: there is nothing to compare it with",
        )
        yield (
            most <= self._patience,
            "too_few_values",
            f"{most:,} values of a GPU were saved; the rule judges after more than {self._patience:,}",
        )

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = {}
        for node, _, first, other, apart in self._distances():
            details.setdefault(node, {}).setdefault("distances", {})[f"{first} and {other}"] = apart
        return details

    def _state(self) -> dict[str, Any]:
        return {"counts": [[*key, counts.astype(int).tolist()] for key, counts in self._counts.items()]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._counts = {
            SeriesKey(*key): np.array(counts, dtype=np.float64) for *key, counts in state["counts"]
        }


def distances(first: Floats, second: Floats) -> Floats:
    """The Jensen-Shannon distances of distributions, given as counts: each row of the one and of the
    other."""
    p = first / first.sum(axis=1, keepdims=True)
    q = second / second.sum(axis=1, keepdims=True)
    mean = (p + q) / 2
    halves = (_divergences(p, mean) + _divergences(q, mean)) / 2
    found: Floats = np.sqrt(np.maximum(halves, 0.0))
    return found


def _divergences(p: Floats, mean: Floats) -> Floats:
    ratios = np.divide(p, mean, out=np.ones_like(p), where=p > 0)
    total: Floats = np.sum(p * np.log(ratios), axis=1)
    return total
