"""The last values of a series, and how many there were in all."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from rules.profiler.data import Floats
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
