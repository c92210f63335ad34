"""Sums up the metrics of a job for people: percentiles, histograms and how they went over time. Pure.

Values are counted, not kept: percentages in hundredths, anything else to four significant digits. Percentiles
are exact to that, and a day of millions of values takes some megabytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.profiler.data import CPU, GPU, GPU_MEMORY, IO_WAIT, MEMORY, Batch, Floats, SeriesKey
from rules.profiler.distribution import Distribution

PERCENTAGES = {CPU, IO_WAIT, GPU, GPU_MEMORY, MEMORY, "DiskUtilization"}
BIN_POINTS = 2.0
"""The width of a histogram's bin, as in smdebug's `MetricsHistogram`."""
COLUMNS = 240
"""How finely time is divided. What is drawn has a whole fraction of it."""
_SHARES = (0.05, 0.5, 0.95)


def metric_name(key: SeriesKey) -> str:
    """How people call the metric, whichever device it is of: `CPUUtilization`, `ReceiveBytesPerSecond
    Platform`."""
    if key.type in ("cpu", "gpu"):
        return key.dimension
    return f"{key.name} {key.dimension}".strip()


def device(key: SeriesKey) -> str:
    """The core or the GPU that the series is of; empty for a metric of the whole instance."""
    return key.name if key.type in ("cpu", "gpu") else ""


def lane_label(key: SeriesKey) -> str:
    """What a line of a heat map is called."""
    return " ".join(filter(None, (key.node, device(key), metric_name(key))))


def is_percentage(key: SeriesKey) -> bool:
    return metric_name(key) in PERCENTAGES


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one device."""

    key: SeriesKey
    p5: float
    p50: float
    p95: float
    greatest: float
    count: int


@dataclass(slots=True)
class _Track:
    counts: Distribution
    sums: Floats = field(default_factory=lambda: np.zeros(COLUMNS))
    seen: Floats = field(default_factory=lambda: np.zeros(COLUMNS))


class Usage:
    """Collects batches of a job whose metrics lie between `begin` and `end` (seconds since the epoch).
    A value from outside counts as one at the edge."""

    def __init__(self, begin: float, end: float) -> None:
        self.begin, self.end = begin, max(end, begin + 1.0)
        self._tracks: dict[SeriesKey, _Track] = {}

    def add(self, batch: Batch) -> None:
        width = (self.end - self.begin) / COLUMNS
        for key, series in batch.series.items():
            track = self._tracks.get(key)
            if track is None:
                track = self._tracks[key] = _Track(Distribution(percent=is_percentage(key)))
            track.counts.add(series.values)
            places = np.clip((series.times - self.begin) / width, 0, COLUMNS - 1).astype(np.intp)
            track.sums += np.bincount(places, series.values, COLUMNS)
            track.seen += np.bincount(places, minlength=COLUMNS)

    @property
    def values(self) -> int:
        return sum(track.counts.count for track in self._tracks.values())

    def nodes(self) -> list[str]:
        return sorted({key.node for key in self._tracks}, key=_natural)

    def all_keys(self) -> list[SeriesKey]:
        """By node, metric and device."""
        return sorted(
            self._tracks,
            key=lambda key: (_natural(key.node), _ORDER.get(metric_name(key), 9), _natural(key.name)),
        )

    def rows(self) -> list[Row]:
        rows = []
        for key in self.all_keys():
            counts = self._tracks[key].counts
            p5, p50, p95 = counts.quantiles(_SHARES)
            rows.append(Row(key, p5, p50, p95, counts.greatest, counts.count))
        return rows

    def histogram(self, node: str, metric: str) -> NDArray[np.int64]:
        """How many values of all devices of the node lie in each bin of two points, from 0 to 100."""
        edges = np.arange(0, 100 + BIN_POINTS, BIN_POINTS).astype(np.float64)
        total = np.zeros(len(edges) - 1, dtype=np.int64)
        for key in self._tracks:
            if key.node == node and metric_name(key) == metric:
                total += self._tracks[key].counts.histogram(edges)
        return total

    def columns(self, most: int) -> int:
        """Into how many columns to divide the time, at most `most`, so that values are not further apart than
        columns."""
        values = max((track.counts.count for track in self._tracks.values()), default=1)
        enough = max(1, min(most, values * 2 // 3))
        return next(columns for columns in range(enough, 0, -1) if COLUMNS % columns == 0)

    def over_time(self, keys: Iterable[SeriesKey], columns: int) -> Floats:
        """The mean of these series in each of the columns; NaN where there is no value. `columns` divides
        `COLUMNS`."""
        sums, seen = np.zeros(COLUMNS), np.zeros(COLUMNS)
        for key in keys:
            sums += self._tracks[key].sums
            seen += self._tracks[key].seen
        sums, seen = sums.reshape(columns, -1).sum(axis=1), seen.reshape(columns, -1).sum(axis=1)
        means: Floats = np.where(seen > 0, sums / np.maximum(seen, 1), np.nan)
        return means


_ORDER = {GPU: 0, GPU_MEMORY: 1, CPU: 2, IO_WAIT: 3, MEMORY: 4, "DiskUtilization": 5}


def _natural(name: str) -> tuple[str, int, str]:
    """`gpu10` after `gpu9`."""
    stem = name.rstrip("0123456789")
    number = name[len(stem) :][:18]
    return stem, int(number or 0), name


def document(usage: Usage) -> dict[str, Any]:
    """`{NODE: {METRIC: {DEVICE: {"p5", "p50", "p95", "max", "values"}}}}`."""
    nodes: dict[str, Any] = {}
    for row in usage.rows():
        metric = nodes.setdefault(row.key.node, {}).setdefault(metric_name(row.key), {})
        metric[row.key.name] = {
            "p5": row.p5,
            "p50": row.p50,
            "p95": row.p95,
            "max": row.greatest,
            "values": row.count,
        }
    return nodes
