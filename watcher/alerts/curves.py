"""Finds the curves that an alert shows, and the points on them that decided, for pictures and for text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from watcher.model import AlertEvidence

Point = tuple[int, float]
"""A global step, and the value there."""
LOG_SCALE_DECADES = 3
"""A curve that spans this many powers of ten is drawn on a logarithmic scale."""


class Compared(NamedTuple):
    """Points of a curve that the rule compared with each other, or with a bound."""

    curve: str
    points: list[Point]
    needed: float | None
    """The value of the last point that would have satisfied the rule."""


def curves(evidence: AlertEvidence) -> dict[str, list[Point]]:
    """By tensor name."""
    found: dict[str, list[Point]] = {}
    for reading in evidence.curve:
        found.setdefault(reading.tensor, []).append((reading.step, reading.value))
    return found


def compared(evidence: AlertEvidence) -> Iterator[Compared]:
    """The values that the rule compared, if they are on a curve. Numbers derived from a tensor, such as its
    variance, are not."""
    needed = {reading.tensor: reading.value for reading in evidence.needed}
    deciding: dict[str, list[Point]] = {}
    for reading in evidence.deciding:
        deciding.setdefault(reading.tensor, []).append((reading.step, reading.value))
    for tensor, points in deciding.items():
        for name, curve in curves(evidence).items():
            if (name == tensor or name.startswith(f"{tensor} ")) and holds(curve, points):
                yield Compared(name, points, needed.get(tensor))
                break


def holds(curve: Iterable[Point], points: Sequence[Point]) -> bool:
    """Whether all these points are on the curve, and finite."""
    values = dict(curve)
    return all(
        math.isfinite(value) and math.isclose(values.get(step, math.nan), value) for step, value in points
    )


def decided_at(evidence: AlertEvidence) -> int | None:
    """The step that decided, as the curve counts steps. None if the curve is not what decided. The step of
    the finding cannot be used then, because it may be counted differently (Debugger's steps, CloudWatch's
    minutes)."""
    return max((reading.step for reading in evidence.deciding), default=None)


def logarithmic(values: Iterable[float]) -> bool:
    """Whether to draw these values on a logarithmic scale."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and 0 < min(finite) <= max(finite) / 10**LOG_SCALE_DECADES
