"""Adds up the series of a node, snapshot by snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from rules.profiler.base import Piece
from rules.profiler.data import Floats, Series, SeriesKey


def of_nodes(piece: Piece, series_of: Mapping[SeriesKey, Series]) -> Iterator[tuple[str, Floats, Floats]]:
    """For each node: the sums of these series of the piece in each snapshot that has a value of one of them,
    and how many values each is the sum of."""
    nodes: dict[str, tuple[Floats, Floats]] = {}
    for key, series in series_of.items():
        if key.node not in nodes:
            nodes[key.node] = np.zeros(len(piece.snapshots)), np.zeros(len(piece.snapshots))
        total, count = nodes[key.node]
        snapshots = piece.snapshot_of(series.times)
        total += np.bincount(snapshots, series.values, len(total))
        count += np.bincount(snapshots, minlength=len(count))
    for node, (total, count) in nodes.items():
        seen = count > 0
        yield node, total[seen], count[seen]
