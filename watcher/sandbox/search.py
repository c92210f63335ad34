"""Answers SageMaker's `Search` for training jobs: filters, order and pages. Pure.

Follows the API reference of `Search`, `SearchExpression`, `Filter` and `NestedFilters`.
"""

from __future__ import annotations

import base64
import heapq
import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from watcher.sandbox import shapes
from watcher.sandbox.api_errors import invalid
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
    matches = _expression(request.get("SearchExpression", {}))
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


def _expression(expression: Mapping[str, Any]) -> Predicate:
    parts = [
        *(_filter(entry, _path(entry["Name"])) for entry in expression.get("Filters", ())),
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
    inner = []
    for condition in entry["Filters"]:
        path = _path(condition["Name"])
        if path[: len(outer)] != outer:
            raise invalid(f"{condition['Name']} is not a property of {entry['NestedPropertyName']}.")
        inner.append(_filter(condition, path[len(outer) :]))
    return lambda record: any(all(holds(item) for holds in inner) for item in _values(record, outer))


def _filter(entry: Mapping[str, Any], path: tuple[str, ...]) -> Predicate:
    compared, wanted = entry.get("Operator", "Equals"), entry.get("Value")
    if compared == "Exists":
        return lambda record: bool(_values(record, path))
    if compared == "NotExists":
        return lambda record: not _values(record, path)
    if wanted is None:
        raise invalid(f"Operator {compared} on {entry['Name']} needs a Value.")
    if compared == "NotEquals":
        return lambda record: not any(_equals(value, wanted) for value in _values(record, path))
    holds = _OPERATORS[compared]
    return lambda record: any(holds(value, wanted) for value in _values(record, path))


def _equals(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return str(value).lower() == wanted.lower()
    return bool(value == (wanted if isinstance(value, str) else _number(wanted)))


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, str], bool]:
    """Compares hyperparameters, which are text, as numbers if both sides are numbers."""

    def holds(value: Any, wanted: str) -> bool:
        if not isinstance(value, str):
            return compare(value, _number(wanted))
        try:
            return compare(float(value), float(wanted))
        except ValueError:
            return compare(value, wanted)

    return holds


_OPERATORS: Mapping[str, Callable[[Any, str], bool]] = {
    "Equals": _equals,
    "GreaterThan": _ordered(operator.gt),
    "GreaterThanOrEqualTo": _ordered(operator.ge),
    "LessThan": _ordered(operator.lt),
    "LessThanOrEqualTo": _ordered(operator.le),
    "Contains": lambda value, wanted: wanted in str(value),
    "In": lambda value, wanted: str(value) in [part.strip() for part in wanted.split(",")],
}


@cache
def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(f"{text!r} is neither a number nor a time such as 2026-01-31T10:00:00Z.") from error
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


@cache
def _path(name: str) -> tuple[str, ...]:
    """The name's parts. The key after `Tags.` may itself contain dots, as may a hyperparameter's name."""
    head, _, rest = name.partition(".")
    if head not in shapes.members("TrainingJob"):
        raise invalid(f"Unknown property name: {name}")
    if not rest:
        return (head,)
    return (head, rest) if head in {"Tags", "HyperParameters", "Environment"} else (head, *rest.split("."))


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
