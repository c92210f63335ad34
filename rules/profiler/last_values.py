"""The last values of a series, and how many there were in all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from rules.profiler.data import Floats, SeriesKey
from rules.profiler.stored import pack, unpack


class LastValues:
    def __init__(self, window: int) -> None:
        self._window = window
        self.count = 0
        self.values: Floats = np.empty(0)
        """At most `window`, the newest last."""

    def add(self, values: Floats) -> None:
        self.count += len(values)
        self.values = np.concatenate((self.values, values))[-self._window :]

    def state(self) -> list[Any]:
        return [self.count, pack(self.values)]

    @classmethod
    def restored(cls, window: int, state: list[Any]) -> Self:
        one = cls(window)
        one.count, one.values = state[0], unpack(state[1])
        return one


Stored = list[list[Any]]
"""For each series its key, how many values there were, and the last of them."""


def stored(values: Mapping[SeriesKey, LastValues]) -> Stored:
    return [[*key, *last.state()] for key, last in values.items()]


def restored(window: int, rows: Stored) -> dict[SeriesKey, LastValues]:
    return {SeriesKey(*key): LastValues.restored(window, [count, values]) for *key, count, values in rows}
