"""Adds up the series of a node, snapshot by snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from rules.profiler.base import Piece
from rules.profiler.data import Floats, Series, SeriesKey


def of_nodes(piece: Piece, series_of: Mapping[SeriesKey, Series]) -> Iterator[tuple[str, Floats, Floats]]:
    """For each node: the sums of these series of the piece in each snapshot that has a value of one of them,
    and how many values each is the sum of."""
    nodes: dict[str, list[Series]] = {}
    for key, series in series_of.items():
        nodes.setdefault(key.node, []).append(series)
    for node, of_node in nodes.items():
        snapshots = piece.snapshot_of(np.concatenate([one.times for one in of_node]))
        values = np.concatenate([one.values for one in of_node])
        total: Floats = np.bincount(snapshots, values, len(piece.snapshots)).astype(np.float64)
        count = np.bincount(snapshots, minlength=len(piece.snapshots))
        seen = count > 0
        yield node, total[seen], count[seen].astype(np.float64)
