"""How far the profiler output of a job has been read, and what is settled enough to be read now.

Each node uploads a file a minute, and uploads may overtake one another. A minute is settled when every node
has its file, with no minute missing since the last one that was read; or, whatever is missing, when there is
a file
from three minutes later (smdebug looks three minutes around a time as well); or when the job has ended.

Framework files have no fixed pace, so in a job that has any, everything waits for these three minutes. What
comes later still is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from watcher.profiler_output.files import ProfilerFile

SETTLE_S = 180.0
MAX_PACE_S = 90.0
"""Seconds between two files of a node that follow one another: a minute, and some patience."""
MAX_NODES = 1000
"""Further nodes are not waited for."""


@dataclass(slots=True)
class Position:
    until: float = 0.0
    """Everything that ended up to this time has been read or given up. Seconds since the epoch."""
    nodes: dict[str, float] = field(default_factory=dict)
    """The newest system file of each node that was read."""

    def settled(
        self, system: Sequence[ProfilerFile], framework: Sequence[ProfilerFile], *, ended: bool
    ) -> float:
        """The time until which the listed files can be read; not before `until`."""
        newest = max((file.end for file in (*system, *framework)), default=self.until)
        if ended:
            return max(newest, self.until)
        overdue = max(newest - SETTLE_S, self.until)
        if framework or not system:
            return overdue
        reached = {node: max(end, overdue) for node, end in self.nodes.items()}
        for file in sorted(system):
            if file.node not in reached:
                if len(reached) < MAX_NODES:
                    # Where its first file is, only the others can tell.
                    reached[file.node] = file.end
            elif file.end - reached[file.node] <= MAX_PACE_S:
                reached[file.node] = max(file.end, reached[file.node])
        return max(overdue, min(reached.values()))

    def read(self, files: Sequence[ProfilerFile], until: float) -> None:
        for file in files:
            if not file.timeline and (file.node in self.nodes or len(self.nodes) < MAX_NODES):
                self.nodes[file.node] = max(file.end, self.nodes.get(file.node, 0.0))
        self.until = max(self.until, until)

    def to_json(self) -> dict[str, Any]:
        """For the cursor: some bytes, and a few more for each node."""
        return {"until": self.until, "nodes": dict(self.nodes)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(document["until"], dict(document["nodes"]))
