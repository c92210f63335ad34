"""Counts the incidents for the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from watcher.instruments import Instruments
from watcher.model import IncidentState
from watcher.store.base import Store

MIN_INTERVAL_S = 60.0
MAX_SHARE = 1 / 200
"""Of the time, for counting. A count reads all incidents, and in DynamoDB the whole table."""


@dataclass(slots=True)
class IncidentCount:
    store: Store
    instruments: Instruments
    monotonic: Callable[[], float]
    _counts: Mapping[IncidentState, int] = field(default_factory=dict)
    _due_at: float = float("-inf")

    def update(self) -> None:
        """Report the last count, or a new one if it is due. Raises `StoreError`."""
        begun = self.monotonic()
        if begun >= self._due_at:
            found = Counter(incident.state for incident in self.store.incidents())
            self._counts = {state: found[state] for state in IncidentState}
            took = self.monotonic() - begun
            self._due_at = begun + took + max(MIN_INTERVAL_S, took / MAX_SHARE)
        self.instruments.incidents(self._counts)

    def leave(self) -> None:
        """Another process reports them."""
        self.instruments.incidents({})
