"""Answers SageMaker's `Search`: filters, order and pages. Pure.

Follows the API reference of `Search`, `SearchExpression`, `Filter` and `NestedFilters`. What it forbids is
refused with a ValidationException; the reference gives the words of few refusals, and the others are the
sandbox's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from watcher.sandbox.sagemaker.api_errors import invalid
from watcher.sandbox.sagemaker.comparison import comparison
from watcher.sandbox.sagemaker.paging import Place, page
from watcher.sandbox.sagemaker.properties import RESOURCES, Path, Resource, property_of, values
from watcher.sandbox.sagemaker.training_job import Record

Predicate = Callable[[Mapping[str, Any]], bool]


class Searchable(Protocol):
    @property
    def searchable(self) -> Record:
        """The record that `Search` returns."""


S = TypeVar("S", bound=Searchable)


def search(request: Mapping[str, Any], items: Iterable[S]) -> tuple[list[S], str | None]:
    """One page of the items, which are of the request's Resource, and the token of the next page."""
    resource = RESOURCES[request["Resource"]]
    expression = request.get("SearchExpression", {})
    if sum(condition.get("Operator") == "Contains" for condition in _conditions(expression)) > 1:
        raise invalid("'CONTAINS' operator usage limit of 1 exceeded.")
    matches = _expression(resource, expression)
    path = property_of(resource, request.get("SortBy", "LastModifiedTime")).path

    def place(record: Record) -> Place:
        """Whether it has the property, the property's value, and the name."""
        found, name = values(record, path), record[resource.name]
        return (True, isinstance(found[0], str), found[0], name) if found else (False, name)

    return page(
        {place(item.searchable): item for item in items if matches(item.searchable)},
        descending=request.get("SortOrder", "Descending") == "Descending",
        size=request.get("MaxResults"),
        token=request.get("NextToken"),
    )


def _conditions(expression: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All filters of the expression, at any depth."""
    yield from expression.get("Filters", ())
    for inner in (*expression.get("NestedFilters", ()), *expression.get("SubExpressions", ())):
        yield from _conditions(inner)


def _expression(resource: Resource, expression: Mapping[str, Any]) -> Predicate:
    parts = [
        *(_filter(resource, entry, inside=()) for entry in expression.get("Filters", ())),
        *(_nested(resource, entry) for entry in expression.get("NestedFilters", ())),
        *(_expression(resource, entry) for entry in expression.get("SubExpressions", ())),
    ]
    if len(parts) == 1:
        return parts[0]
    combine = any if parts and expression.get("Operator", "And") == "Or" else all
    return lambda record: combine(part(record) for part in parts)


def _nested(resource: Resource, entry: Mapping[str, Any]) -> Predicate:
    """All filters must match the same item of the list."""
    outer = property_of(resource, entry["NestedPropertyName"]).path
    inner = [_filter(resource, condition, inside=outer) for condition in entry["Filters"]]
    return lambda record: any(all(holds(item) for holds in inner) for item in values(record, outer))


def _filter(resource: Resource, entry: Mapping[str, Any], *, inside: Path) -> Predicate:
    """`inside`: the path of the item to which the predicate is applied; empty for a whole record."""
    name, compared, wanted = entry["Name"], entry.get("Operator", "Equals"), entry.get("Value")
    whole = property_of(resource, name)
    if whole.path[: len(inside)] != inside:
        raise invalid(f"{name} is not a property of {'.'.join(map(str, inside))}.")
    path = whole.path[len(inside) :]
    if compared == "Exists":
        return lambda record: bool(values(record, path))
    if compared == "NotExists":
        return lambda record: not values(record, path)
    if wanted is None:
        raise invalid(f"Operator {compared} on {name} needs a Value.")
    holds = comparison(name, whole.kind, compared, wanted)
    if compared == "NotEquals":
        return lambda record: not any(holds(value) for value in values(record, path))
    return lambda record: any(holds(value) for value in values(record, path))
