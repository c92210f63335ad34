"""Picks the worst of many breaches at one step, so that an alert stays readable."""

from __future__ import annotations

from collections.abc import Iterable

from rules.base import Breach

MAX_BREACHES_SHOWN = 5
"""At one step."""


def worst(breaches: Iterable[Breach]) -> list[Breach]:
    """The breaches that miss their threshold the furthest, worst first. The last one says how many more there
    are."""
    ranked = sorted(breaches, key=lambda breach: -(breach.evidence.missed_by or 0.0))
    more = len(ranked) - MAX_BREACHES_SHOWN
    if more > 0:
        last = ranked[MAX_BREACHES_SHOWN - 1]
        ranked[MAX_BREACHES_SHOWN - 1 :] = [
            last._replace(explanation=f"{last.explanation}; and {more} more like these")
        ]
    return ranked
