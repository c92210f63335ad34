"""Which tensors a rule reads: those of the collections it names and those its regexes find, together.

The union of both, and `re.search` rather than a full match, are Debugger's semantics.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Collection:
    """One entry of smdebug's `worker_N_collections.json`."""

    include_regex: tuple[str, ...] = ()
    tensor_names: frozenset[str] = frozenset()


class Selection:
    """The tensors of some collections, and those whose names a regex finds. `optional` collections are read
    if the job has them, and are not `missing` if it does not."""

    def __init__(
        self,
        collections: Iterable[str] = (),
        regexes: Iterable[str] = (),
        *,
        optional: Iterable[str] = (),
    ) -> None:
        self.collections = tuple(collections)
        self.missing = self.collections
        """The collections that the job does not have, as far as is known."""
        self.optional = tuple(optional)
        self._own = tuple(re.compile(regex) for regex in regexes)
        self._regexes = self._own
        self._names: frozenset[str] = frozenset()
        self._selected: dict[str, bool] = {}
        """Remembers the answer for each tensor."""

    def learn(self, collections: Mapping[str, Collection]) -> None:
        self.missing = tuple(name for name in self.collections if name not in collections)
        selected = [collections[name] for name in self.collections + self.optional if name in collections]
        self._names = frozenset().union(*(collection.tensor_names for collection in selected))
        self._regexes = self._own + tuple(
            re.compile(regex) for collection in selected for regex in collection.include_regex
        )
        self._selected.clear()

    def __contains__(self, tensor: str) -> bool:
        selected = self._selected.get(tensor)
        if selected is None:  # names repeat at every step, and regexes are slow
            selected = tensor in self._names or any(regex.search(tensor) for regex in self._regexes)
            self._selected[tensor] = selected
        return selected

    def of(self, tensors: Mapping[str, T]) -> Iterator[tuple[str, T]]:
        """The selected tensors, in their order."""
        return (item for item in tensors.items() if item[0] in self)
