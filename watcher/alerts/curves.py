"""What an alert draws: the curves of what decided, and where on them the decision lies.

Each channel draws them in its own way, as a picture or as text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from watcher.model import AlertEvidence

Point = tuple[int, float]
"""A global step, and the value there."""
DECADES = 3
"""From so many powers of ten on, a curve says more on a logarithmic scale."""


class Compared(NamedTuple):
    """Points of a curve that the rule compared, or held against a bound."""

    curve: str
    points: list[Point]
    needed: float | None
    """The value that the last point would have needed."""


def curves(evidence: AlertEvidence) -> dict[str, list[Point]]:
    """By their names."""
    found: dict[str, list[Point]] = {}
    for reading in evidence.curve:
        found.setdefault(reading.tensor, []).append((reading.step, reading.value))
    return found


def compared(evidence: AlertEvidence) -> Iterator[Compared]:
    """A number about a tensor that is none of its values, such as its variance, is on no curve, and what was
    needed of it is not either."""
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
    """Whether all of these are on the curve, and can be drawn."""
    values = dict(curve)
    return all(
        math.isfinite(value) and math.isclose(values.get(step, math.nan), value) for step, value in points
    )


def decided_at(evidence: AlertEvidence) -> int | None:
    """As the curve counts its steps. None where nothing on it decided: the finding's own step may then be
    another count, such as Debugger's beside CloudWatch's minutes."""
    return max((reading.step for reading in evidence.deciding), default=None)


def logarithmic(values: Iterable[float]) -> bool:
    """Whether these are to be drawn by their powers of ten."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and 0 < min(finite) <= max(finite) / 10**DECADES
