"""What CPUBottleneck and IOBottleneck share: a GPU that idles while a core is busy, or waits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from rules.profiler.base import Breach, Evidence, Need, Piece, ProfilerRule
from rules.profiler.data import GPU, SeriesKey, Source


class Bottleneck(ProfilerRule):
    """A snapshot in which any GPU is below `gpu_threshold` and any core above the other threshold is a
    bottleneck. Fires when more than `patience` snapshots were seen, and more than `threshold` percent of them
    are bottlenecks. Snapshots are of all nodes together, and of all metrics."""

    needs = frozenset({Need.GPU, Need.CPU})
    dimension: ClassVar[str]
    reason: ClassVar[str]
    cores_are: ClassVar[str]
    """For the sentence."""

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self._snapshots = self._low = self._bottlenecks = 0
        self._patience = 0

    @property
    @abstractmethod
    def limits(self) -> tuple[float, float, float]:
        """Share of the snapshots, GPU, cores; in percent."""

    def wants(self, key: SeriesKey) -> bool:
        return key.dimension in (GPU, self.dimension)

    def _judge(self, piece: Piece) -> Sequence[Breach]:
        threshold, gpu_threshold, core_threshold = self.limits
        low, high = np.zeros((2, len(piece.snapshots)), dtype=bool)
        times, values = piece.all_of(GPU)
        low[piece.snapshot_of(times[values < gpu_threshold])] = True
        times, values = piece.all_of(self.dimension)
        high[piece.snapshot_of(times[values > core_threshold])] = True
        self._snapshots += len(piece.snapshots)
        self._low += int(low.sum())
        self._bottlenecks += int((low & high).sum())
        self._checked = self._snapshots
        # As a product, because 55 / 100 * 100 is more than 55.
        if self._snapshots <= self._patience or self._bottlenecks * 100 <= threshold * self._snapshots:
            return ()
        share = self._bottlenecks * 100 / self._snapshots
        at = float(piece.snapshots[-1]) if len(piece.snapshots) else None
        return [
            Breach(
                self.reason,
                f"in {self._bottlenecks:,} of {self._snapshots:,} snapshots ({share:.3g} %), a GPU was below "
                f"{gpu_threshold:g} % while {self.cores_are} above {core_threshold:g} %; the rule allows "
                f"{threshold:g} %",
                (Evidence(f"snapshots with {self.reason}", share, threshold, at=at),),
            )
        ]

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        yield (
            self._snapshots <= self._patience,
            "too_few_values",
            f"{self._snapshots:,} snapshots were saved; the rule judges after more than {self._patience:,}",
        )

    def _details(self) -> dict[str, Any]:
        return {"low_gpu_utilization": self._low, "bottlenecks": self._bottlenecks}

    def _state(self) -> dict[str, Any]:
        return {"counts": [self._snapshots, self._low, self._bottlenecks]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._snapshots, self._low, self._bottlenecks = state["counts"]
