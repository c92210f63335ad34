"""Answers SageMaker's `Search` for training jobs: filters, order and pages. Pure.

Follows the API reference of `Search`, `SearchExpression`, `Filter` and `NestedFilters`. What it forbids is
refused with a ValidationException; the reference gives the words of few refusals, and the others are the
sandbox's own.
"""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from watcher.sandbox import shapes
from watcher.sandbox.api_errors import invalid
from watcher.sandbox.comparison import comparison
from watcher.sandbox.training_job import Record, TrainingJob

Predicate = Callable[[Mapping[str, Any]], bool]
Place = tuple[Any, ...]
"""A job's sort key: whether it has the property, the property's value, and the job's name."""

DEFAULT_PAGE_SIZE = 10


def search(request: Mapping[str, Any], jobs: Iterable[TrainingJob]) -> tuple[list[TrainingJob], str | None]:
    """One page, and the token of the next one.

    The token holds the sort key at which the page ended, not a number of jobs. So if a job leaves the result
    between two pages, no other job is skipped.
    """
    expression = request.get("SearchExpression", {})
    if sum(condition.get("Operator") == "Contains" for condition in _conditions(expression)) > 1:
        raise invalid("'CONTAINS' operator usage limit of 1 exceeded.")
    matches = _expression(expression)
    path = _path(request.get("SortBy", "LastModifiedTime"))
    descending = request.get("SortOrder", "Descending") == "Descending"

    def place(record: Record) -> Place:
        values = _values(record, path)
        return (True, values[0], record["TrainingJobName"]) if values else (False, record["TrainingJobName"])

    found = {place(job.searchable): job for job in jobs if matches(job.searchable)}
    places: Iterable[Place] = found
    if token := request.get("NextToken"):
        end = _decoded(token)
        places = [place for place in found if (place < end if descending else place > end)]
    size = request.get("MaxResults", DEFAULT_PAGE_SIZE)
    first = (heapq.nlargest if descending else heapq.nsmallest)(size + 1, places)
    page = first[:size]
    return [found[place] for place in page], _encoded(page[-1]) if len(first) > size else None


def _encoded(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _decoded(token: str) -> Place:
    try:
        return tuple(json.loads(base64.urlsafe_b64decode(token)))
    except ValueError as error:
        raise invalid("Invalid NextToken.") from error


def _conditions(expression: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All filters of the expression, at any depth."""
    yield from expression.get("Filters", ())
    for inner in (*expression.get("NestedFilters", ()), *expression.get("SubExpressions", ())):
        yield from _conditions(inner)


def _expression(expression: Mapping[str, Any]) -> Predicate:
    parts = [
        *(_filter(entry, inside=()) for entry in expression.get("Filters", ())),
        *(_nested(entry) for entry in expression.get("NestedFilters", ())),
        *(_expression(entry) for entry in expression.get("SubExpressions", ())),
    ]
    if len(parts) == 1:
        return parts[0]
    combine = any if parts and expression.get("Operator", "And") == "Or" else all
    return lambda record: combine(part(record) for part in parts)


def _nested(entry: Mapping[str, Any]) -> Predicate:
    """All filters must match the same item of the list."""
    outer = _path(entry["NestedPropertyName"])
    inner = [_filter(condition, inside=outer) for condition in entry["Filters"]]
    return lambda record: any(all(holds(item) for holds in inner) for item in _values(record, outer))


def _filter(entry: Mapping[str, Any], *, inside: tuple[str, ...]) -> Predicate:
    """`inside`: the path of the item to which the predicate is applied; empty for a whole record."""
    name, compared, wanted = entry["Name"], entry.get("Operator", "Equals"), entry.get("Value")
    whole = _path(name)
    if whole[: len(inside)] != inside:
        raise invalid(f"{name} is not a property of {'.'.join(inside)}.")
    path = whole[len(inside) :]
    if compared == "Exists":
        return lambda record: bool(_values(record, path))
    if compared == "NotExists":
        return lambda record: not _values(record, path)
    if wanted is None:
        raise invalid(f"Operator {compared} on {name} needs a Value.")
    holds = comparison(name, whole, compared, wanted)
    if compared == "NotEquals":
        return lambda record: not any(holds(value) for value in _values(record, path))
    return lambda record: any(holds(value) for value in _values(record, path))


@cache
def _path(name: str) -> tuple[str, ...]:
    """The name's parts. The key after `Tags.` may itself contain dots, as may a hyperparameter's name."""
    head, _, rest = name.partition(".")
    parts = (rest,) if head in {"Tags", "HyperParameters", "Environment"} else tuple(rest.split("."))
    path = (head, *parts) if rest else (head,)
    if shapes.value_type("TrainingJob", path[:1] if head == "Tags" else path) is None:
        raise invalid(f"Unknown property name: {name}")
    return path


def _values(value: Any, path: tuple[str, ...]) -> Sequence[Any]:
    """The values at the path: none, one, or several if the path leads through lists."""
    if not path:
        return value if isinstance(value, list) else (value,)
    if path[0] == "Tags":
        if len(path) == 1:
            return [tag["Key"] for tag in value["Tags"]]
        return [tag["Value"] for tag in value["Tags"] if tag["Key"] == path[1]]
    if isinstance(value, list):
        return [found for item in value for found in _values(item, path)]
    if isinstance(value, dict) and path[0] in value:
        return _values(value[path[0]], path[1:])
    return ()
