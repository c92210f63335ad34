"""Decides which columns of a table a terminal of some width shows, and how wide. Pure.

Names are never cut, because people copy them into the next command. The other columns give way: the widest is
cut first, prose moves below its row, and what still does not fit is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

SEPARATOR = "  "

MIN_CELLS = 16
"""Terminal cells. A longer column is not cut below this; it is left out instead."""
MIN_LAST_CELLS = 8
"""For the last column of the row, so that a narrow terminal shows the beginning of it."""
MIN_PROSE_CELLS = 24
"""For prose, which is folded. Narrower, it is easier to read below the row."""


@dataclass(frozen=True, slots=True)
class Layout:
    widths: Mapping[int, int]
    """The width of each column that stands in the row, by its index, in the order of the columns."""
    below: tuple[int, ...]
    """Prose that is shown below the row."""
    hidden: tuple[int, ...]


def layout(
    natural: Sequence[int],
    available: int,
    *,
    names: frozenset[int] = frozenset(),
    prose: frozenset[int] = frozenset(),
    optional: Sequence[int] = (),
) -> Layout:
    """Fit columns into `available` terminal cells.

    `natural` is the width of each column's longest cell. `names` are never cut, even if they alone are wider
    than the terminal. `prose` is never left out, only folded or moved below. `optional` columns are left out
    first, in this order, then those on the right.
    """
    in_row = list(range(len(natural)))
    below: list[int] = []
    hidden: list[int] = []
    widths = _fit(natural, in_row, available, names, prose)
    for index in _least_important_first(len(natural), names, prose, optional):
        if widths is not None:
            break
        in_row.remove(index)
        (below if index in prose else hidden).append(index)
        widths = _fit(natural, in_row, available, names, prose)
    if widths is None:  # only names are left, and the terminal is too narrow for them
        widths = {index: natural[index] for index in in_row}
    return Layout(widths, tuple(sorted(below)), tuple(sorted(hidden)))


def _least_important_first(
    count: int, names: frozenset[int], prose: frozenset[int], optional: Sequence[int]
) -> Iterator[int]:
    from_the_right = range(count - 1, -1, -1)
    yield from (index for index in from_the_right if index in prose)
    yield from optional
    yield from (index for index in from_the_right if index not in {*names, *prose, *optional})


def _fit(
    natural: Sequence[int],
    in_row: Sequence[int],
    available: int,
    names: frozenset[int],
    prose: frozenset[int],
) -> dict[int, int] | None:
    """The widths of these columns; None if they do not fit even when cut. The widest is cut first."""
    room = available - len(SEPARATOR) * (len(in_row) - 1)

    def least(index: int) -> int:
        if index in names:
            return natural[index]
        if index in prose:
            return min(natural[index], MIN_PROSE_CELLS)
        return min(natural[index], MIN_LAST_CELLS if index == in_row[-1] else MIN_CELLS)

    minimum = {index: least(index) for index in in_row}
    if sum(minimum.values()) > room:
        return None
    widths = {index: max(minimum[index], min(natural[index], room)) for index in in_row}
    excess = sum(widths.values()) - room
    while excess > 0:
        widest = max((i for i in in_row if widths[i] > minimum[i]), key=widths.__getitem__)
        widths[widest] -= 1
        excess -= 1
    return widths
