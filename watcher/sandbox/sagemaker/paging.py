"""Pages of an ordered list, and the tokens between them. Pure."""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from watcher.sandbox.sagemaker.api_errors import invalid

T = TypeVar("T")

Place = tuple[Any, ...]
"""The sort key of an item. It is unique, and all its parts are values of JSON."""

DEFAULT_PAGE_SIZE = 10


def page(
    found: Mapping[Place, T], *, descending: bool, size: int | None, token: str | None
) -> tuple[list[T], str | None]:
    """One page, and the token of the next one.

    The token holds the sort key at which the page ended, not a number of items. So if an item is deleted
    between two pages, no other one is skipped.
    """
    places: Iterable[Place] = found
    if token:
        end = _decoded(token)
        places = [place for place in found if (place < end if descending else place > end)]
    size = size or DEFAULT_PAGE_SIZE
    first = (heapq.nlargest if descending else heapq.nsmallest)(size + 1, places)
    here = first[:size]
    return [found[place] for place in here], _encoded(here[-1]) if len(first) > size else None


def _encoded(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _decoded(token: str) -> Place:
    try:
        return _tuple(json.loads(base64.urlsafe_b64decode(token)))
    except ValueError as error:
        raise invalid("Invalid NextToken.") from error


def _tuple(value: list[Any]) -> Place:
    return tuple(_tuple(part) if isinstance(part, list) else part for part in value)
