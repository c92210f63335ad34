"""Answers `QueryLineage`: the entities that lead to others, or come from them. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from watcher.sandbox.sagemaker.job_lineage import Pair
from watcher.sandbox.sagemaker.training_job import Record

MAX_DEPTH = 10
"""Associations from the start, as the API allows."""


@dataclass(frozen=True)
class Vertex:
    arn: str
    type: str
    """Such as DataSet, Model, TrainingJob; empty for a component without a job."""
    lineage_type: str
    created: float = 0.0
    modified: float = 0.0
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def record(self) -> Record:
        record = {"Arn": self.arn, "LineageType": self.lineage_type}
        return record | {"Type": self.type} if self.type else record


def query(
    request: Mapping[str, Any], vertices: Mapping[str, Vertex], associations: Mapping[Pair, Record]
) -> tuple[list[Vertex], list[Record]]:
    """The vertices that match the request's filters, nearest first, and the edges.

    With IncludeEdges, the answer also has the start, and what is on the ways to the matches. Both directions
    are followed each by itself, so what an image has in common with other jobs does not lead to these.
    """
    wanted = request.get("Filters", {})
    direction = request.get("Direction", "Both")
    depth = request.get("MaxDepth", MAX_DEPTH)
    found: dict[str, None] = {}
    on_the_way: dict[str, None] = {}
    edges: dict[Pair, None] = {}
    for start in request.get("StartArns", ()):
        on_the_way[start] = None
        for upwards in (True, False):
            if direction == ("Descendants" if upwards else "Ascendants"):
                continue
            into = _reached(start, associations, depth, upwards=upwards)
            matches = [arn for arn in into if arn in vertices and _matches(vertices[arn], wanted)]
            found |= dict.fromkeys(matches)
            for arn in matches:
                _trace(arn, into, on_the_way, edges)
    if not request.get("IncludeEdges"):
        return [vertices[arn] for arn in found], []
    shown = [vertices[arn] for arn in {**found, **on_the_way} if arn in vertices]
    return shown, [
        {
            "SourceArn": pair.source,
            "DestinationArn": pair.destination,
            "AssociationType": associations[pair]["AssociationType"],
        }
        for pair in edges
    ]


def _reached(
    start: str, associations: Iterable[Pair], depth: int, *, upwards: bool
) -> Mapping[str, Sequence[Pair]]:
    """What is reached in at most `depth` steps, nearest first, with the associations that lead to it."""
    leading: defaultdict[str, list[tuple[str, Pair]]] = defaultdict(list)
    for pair in associations:
        here, there = (pair.destination, pair.source) if upwards else (pair.source, pair.destination)
        leading[here].append((there, pair))
    into: dict[str, list[Pair]] = {}
    ring, seen = [start], {start}
    for _ in range(depth):
        following = []
        for here in ring:
            for there, pair in leading[here]:
                if there != start:
                    into.setdefault(there, []).append(pair)
                if there not in seen:
                    seen.add(there)
                    following.append(there)
        ring = following
    return into


def _trace(
    arn: str, into: Mapping[str, Sequence[Pair]], nodes: dict[str, None], edges: dict[Pair, None]
) -> None:
    """Add the ways from the start to this entity."""
    left = [arn]
    while left:
        here = left.pop()
        for pair in into.get(here, ()):
            if pair not in edges:
                edges[pair] = None
                before = pair.source if pair.destination == here else pair.destination
                nodes[before] = None
                left.append(before)


def _matches(vertex: Vertex, wanted: Mapping[str, Any]) -> bool:
    properties = wanted.get("Properties", {})
    return (
        (not wanted.get("Types") or vertex.type in wanted["Types"])
        and (not wanted.get("LineageTypes") or vertex.lineage_type in wanted["LineageTypes"])
        and wanted.get("CreatedAfter", -math.inf) <= vertex.created <= wanted.get("CreatedBefore", math.inf)
        and wanted.get("ModifiedAfter", -math.inf)
        <= vertex.modified
        <= wanted.get("ModifiedBefore", math.inf)
        and (not properties or any(vertex.properties.get(key) == value for key, value in properties.items()))
    )
