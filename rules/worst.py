"""Of many breaches at one step, those that a person has to see."""

from __future__ import annotations

from collections.abc import Iterable

from rules.base import Breach


def worst(breaches: Iterable[Breach], most: int = 5) -> list[Breach]:
    """The `most` that missed their threshold by most, the worst first; the last tells how many more."""
    ranked = sorted(breaches, key=lambda breach: -(breach.evidence.missed_by or 0.0))
    more = len(ranked) - most
    if more > 0:
        last = ranked[most - 1]
        ranked[most - 1 :] = [last._replace(explanation=f"{last.explanation}; and {more} more like these")]
    return ranked
