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
    """`optional` collections are read if the job has them, and are not `missing` if it does not."""

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
        self._known: dict[str, bool] = {}

    def learn(self, collections: Mapping[str, Collection]) -> None:
        self.missing = tuple(name for name in self.collections if name not in collections)
        named = [collections[name] for name in self.collections + self.optional if name in collections]
        self._names = frozenset().union(*(collection.tensor_names for collection in named))
        self._regexes = self._own + tuple(
            re.compile(regex) for collection in named for regex in collection.include_regex
        )
        self._known.clear()

    def __contains__(self, tensor: str) -> bool:
        known = self._known.get(tensor)
        if known is None:  # names repeat at every step, and regexes are slow
            known = tensor in self._names or any(regex.search(tensor) for regex in self._regexes)
            self._known[tensor] = known
        return known

    def of(self, tensors: Mapping[str, T]) -> Iterator[tuple[str, T]]:
        """Those of these tensors that are selected, in their order."""
        return (item for item in tensors.items() if item[0] in self)
