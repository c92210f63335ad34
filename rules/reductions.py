"""The reductions that smdebug saves of a tensor, in addition to the tensor or instead of it.

Their names are those of `smdebug.core.reductions`: `smdebug/reductions/abs_mean/gradient/fc.weight` is the
mean of the absolute values of `gradient/fc.weight`. A job's collections and regexes name the tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from rules.base import Value
from rules.left_out import LeftOut
from rules.selection import Selection
from rules.values import numbers

_PREFIX = "smdebug/reductions/"


class Reduction(NamedTuple):
    name: str
    """`min`, `mean`, `l2` …; with the prefix `abs_` if it is of the absolute values."""
    tensor: str


def reduction(saved: str) -> Reduction | None:
    """The reduction with this name, and its tensor; None for a name of a tensor itself."""
    if not saved.startswith(_PREFIX):
        return None
    name, _, tensor = saved.removeprefix(_PREFIX).partition("/")
    return Reduction(name, tensor)


class WithReductions(Selection):
    """Selects a tensor together with its reductions."""

    def __contains__(self, tensor: str) -> bool:
        reduced = reduction(tensor)
        return super().__contains__(reduced.tensor if reduced else tensor)


def arrays(
    selection: WithReductions, tensors: Mapping[str, Value], left_out: LeftOut
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The selected tensors that hold numbers, by name, for a rule that needs all of them. Leaves out empty
    ones, and tensors of which only reductions were saved."""
    for tensor, value in sorted(selection.of(tensors), key=lambda item: item[0]):
        if reduced := reduction(tensor):
            if reduced.tensor not in tensors:
                left_out.add(reduced.tensor, "only_reductions", "only reductions of them were saved")
            continue
        array = numbers(value)
        if array is None or array.size == 0:
            left_out.add(tensor, "no_numbers", "they hold no numbers")
        else:
            yield tensor, array
