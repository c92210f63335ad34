"""Counts values by size, so that percentiles of millions of them need little memory.

A percentage is counted in steps of a power of ten (hundredths with `decimals=2`); any other number to so many
significant `digits`. A percentile is as numpy's, interpolated linearly, and exact to that step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rules.profiler.data import Floats
from rules.profiler.stored import pack, unpack

_SMALLEST_EXPONENT = -100
"""Powers of ten. A smaller number counts as 0."""

MAX_COUNTED = 20_000
"""The largest key for which a count of every key up to it is faster than sorting."""
COUNT_TOGETHER = 4096
"""Values that wait to be counted: it takes about as long for one as for thousands."""


class Distribution:
    def __init__(self, *, percent: bool, decimals: int = 2, digits: int = 4) -> None:
        self._percent, self._decimals, self._digits = percent, decimals, digits
        self._keys: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._counts: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._added: list[Floats] = []
        self._waiting = 0
        self.least, self.greatest = np.inf, -np.inf
        """Exact; infinite as long as there is no value."""

    @property
    def count(self) -> int:
        return int(self._counts.sum()) + self._waiting

    def add(self, values: Floats) -> None:
        """Finite values; negative ones that are no percentages count as 0."""
        if not len(values):
            return
        self.least = min(self.least, float(values.min()))
        self.greatest = max(self.greatest, float(values.max()))
        self._added.append(values)
        self._waiting += len(values)
        if self._waiting >= COUNT_TOGETHER:
            self._count_added()

    def _count_added(self) -> None:
        if not self._added:
            return
        keys, counts = _counted(self._keys_of(np.concatenate(self._added)))
        self._added, self._waiting = [], 0
        merged, places = np.unique(np.concatenate((self._keys, keys)), return_inverse=True)
        total = np.zeros(len(merged), dtype=np.int64)
        np.add.at(total, places, np.concatenate((self._counts, counts)))
        self._keys, self._counts = merged, total

    def quantiles(self, shares: Iterable[float]) -> list[float]:
        """For shares from 0 to 1. There must be a value."""
        self._count_added()
        ends = np.cumsum(self._counts)
        numbers = self._values()
        positions = np.asarray(list(shares)) * (ends[-1] - 1)
        low = numbers[np.searchsorted(ends, np.floor(positions), side="right")]
        high = numbers[np.searchsorted(ends, np.ceil(positions), side="right")]
        found = low + (high - low) * (positions - np.floor(positions))
        return [float(one) for one in np.clip(found, self.least, self.greatest)]

    def histogram(self, edges: Floats) -> NDArray[np.int64]:
        """How many values lie in each bin; the last one includes its upper edge."""
        self._count_added()
        counts: Floats = np.histogram(self._values(), edges, weights=self._counts)[0]
        return counts.astype(np.int64)

    def _keys_of(self, values: Floats) -> NDArray[np.int64]:
        if self._percent:
            rounded: Floats = np.rint(values * 10**self._decimals)
            return rounded.astype(np.int64)
        positive = values >= 10.0**_SMALLEST_EXPONENT
        exponents = np.floor(np.log10(np.where(positive, values, 1.0)))
        leading = np.rint(np.where(positive, values, 1.0) / 10.0 ** (exponents - self._digits + 1))
        carried = leading >= 10**self._digits
        leading = np.where(carried, leading / 10, leading)
        keys: Floats = (exponents + carried - _SMALLEST_EXPONENT) * 10**self._digits + leading
        return np.where(positive, keys, 0).astype(np.int64)

    def _values(self) -> Floats:
        if self._percent:
            percentages: Floats = self._keys / 10**self._decimals
            return percentages
        exponents, leading = np.divmod(self._keys, 10**self._digits)
        powers = exponents + _SMALLEST_EXPONENT - self._digits + 1
        # 10.0 ** -2 is not exact, 10 ** 2 is.
        numbers: Floats = leading * 10.0 ** np.maximum(powers, 0) / 10.0 ** np.maximum(-powers, 0)
        return numbers

    def state(self) -> list[Any]:
        self._count_added()
        return [
            pack(np.diff(self._keys, prepend=0).astype(np.float64)),
            pack(self._counts.astype(np.float64)),
            *((self.least, self.greatest) if len(self._keys) else (0.0, 0.0)),
        ]

    def restore(self, state: list[Any]) -> Self:
        keys, counts, least, greatest = state
        self._keys = np.cumsum(unpack(keys).astype(np.int64))
        self._counts = unpack(counts).astype(np.int64)
        if len(self._keys):
            self.least, self.greatest = least, greatest
        return self


def _counted(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each key, and how often it occurs. Percentages are counted without sorting them."""
    if keys.min() < 0 or keys.max() > MAX_COUNTED:
        found, counts = np.unique(keys, return_counts=True)
        return found, counts.astype(np.int64)
    all_counts = np.bincount(keys)
    found = np.flatnonzero(all_counts)
    return found, all_counts[found]
