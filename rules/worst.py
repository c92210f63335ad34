"""Picks the breaches that a person should see, of many at one step."""

from __future__ import annotations

from collections.abc import Iterable

from rules.base import Breach


def worst(breaches: Iterable[Breach], most: int = 5) -> list[Breach]:
    """The `most` breaches that miss their threshold by most, worst first. The last one says how many more
    there are."""
    ranked = sorted(breaches, key=lambda breach: -(breach.evidence.missed_by or 0.0))
    more = len(ranked) - most
    if more > 0:
        last = ranked[most - 1]
        ranked[most - 1 :] = [last._replace(explanation=f"{last.explanation}; and {more} more like these")]
    return ranked
