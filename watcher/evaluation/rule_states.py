"""Bounds what the rules of a job remember from look to look."""

from __future__ import annotations

from collections.abc import Mapping

MAX_CHARS = 2_000_000
"""Characters of JSON that the states of all rules of one evaluation may have together. All of it is read and
written at every look."""


def within_bounds(states: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The states that can be kept, and how large each of the others is, in words; both by the names of their
    rules. While they are too large together, the largest goes."""
    kept, dropped = dict(states), dict[str, str]()
    while sum(map(len, kept.values())) > MAX_CHARS:
        name = max(kept, key=lambda name: len(kept[name]))
        dropped[name] = f"{len(kept.pop(name)) / 1e6:.1f} MB"
    return kept, dropped
