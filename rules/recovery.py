"""Follows what a rule found until it counts as recovered."""

from __future__ import annotations

from collections.abc import KeysView, Sequence
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

_MAX_NUMBERS_SHOWN = 5
"""Tensors in one sentence."""


class Recovered(NamedTuple):
    """What a rule found is well again."""

    step: int | None
    """The global step of the check that decided."""
    explanation: str
    """A sentence for people, with the numbers: those at which it fired, and the newest."""


@dataclass(slots=True)
class _Followed:
    fired_at: int | None
    """The global step at which the rule fired; None if nothing had been saved."""
    then: float
    """The value at that step."""
    well: int = 0
    """The number of checks in a row that found nothing."""
    step: int | None = None
    """The global step of the newest check."""
    now: float = 0.0
    """The value at that step."""


class Recovery:
    """The numbers for which a rule fired, by name, each with the checks since. Empty for a rule that has not
    fired, or has recovered."""

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}

    def __bool__(self) -> bool:
        return bool(self._followed)

    @property
    def names(self) -> KeysView[str]:
        return self._followed.keys()

    def again(self) -> Recovery:
        """The same numbers, with every check still to be made: the rule has fired again."""
        fresh = Recovery()
        for name, one in self._followed.items():
            fresh.follow(name, one.fired_at, one.then)
        return fresh

    def follow(self, name: str, fired_at: int | None, then: float) -> None:
        """Follow this number too. One that is followed already keeps the step at which it fired first."""
        self._followed.setdefault(name, _Followed(fired_at, then))

    def check(self, name: str, step: int | None, now: float, *, well: bool) -> None:
        """Take in a check of this number. A check that is not well makes the count start again."""
        if followed := self._followed.get(name):
            followed.well = followed.well + 1 if well else 0
            followed.step, followed.now = step, now

    def recovered(self, checks: int, relief: str, unit: str) -> Recovered | None:
        """None until each number was well in so many checks in a row.

        `relief` begins the sentence, and `unit` follows each number in it.
        """
        if not self._followed or any(one.well < checks for one in self._followed.values()):
            return None
        said = sorted(self._followed.items())[:_MAX_NUMBERS_SHOWN]
        numbers = [
            f"{name} {one.then:.4g}{unit} {_at(one.fired_at)}, {one.now:.4g}{unit} {_at(one.step)}"
            for name, one in said
        ]
        if more := len(self._followed) - len(said):
            numbers.append(f"and {more} more like these")
        steps = [one.step for one in self._followed.values() if one.step is not None]
        return Recovered(max(steps, default=None), f"{relief}: {'; '.join(numbers)}")

    def state(self) -> list[list[Any]]:
        return [[name, *astuple(one)] for name, one in self._followed.items()]

    def restore(self, state: Sequence[Sequence[Any]]) -> None:
        self._followed = {name: _Followed(*fields) for name, *fields in state}


def _at(step: int | None) -> str:
    return "before the first saved step" if step is None else f"at step {step}"
