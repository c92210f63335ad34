"""Reads botocore's model of SageMaker: the members of a structure, and the constraints on a request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from watcher.sandbox.sagemaker.api_errors import invalid

if TYPE_CHECKING:
    from botocore.model import ServiceModel, Shape


_UNCHECKED = frozenset({"artifactName"})
"""Members whose pattern is not checked: the SDKs name an artifact after its file, such as `model.tar.gz`."""


@cache
def service_model() -> ServiceModel:
    import botocore.session

    return botocore.session.get_session().get_service_model("sagemaker")


@cache
def members(structure: str) -> frozenset[str]:
    return frozenset(service_model().shape_for(structure).members)  # type: ignore[attr-defined]


@cache
def value_type(structure: str, path: tuple[str, ...]) -> str | None:
    """The type of the values at a path of members, such as `string` or `timestamp`; for a list, that of its
    items. None if the structure has no such member."""
    shape = service_model().shape_for(structure)
    for part in path:
        shape = _item(shape)
        if shape.type_name == "map":
            shape = shape.value  # type: ignore[attr-defined]
        elif shape.type_name == "structure" and part in shape.members:  # type: ignore[attr-defined]
            shape = shape.members[part]  # type: ignore[attr-defined]
        else:
            return None
    return str(_item(shape).type_name)


def _item(shape: Shape) -> Shape:
    while shape.type_name == "list":
        shape = shape.member  # type: ignore[attr-defined]
    return shape


def validate(operation: str, request: Mapping[str, Any]) -> None:
    """Raise the `ApiError` with which SageMaker refuses an invalid request. The client's botocore checks only
    types and minima."""
    shape = service_model().operation_model(operation).input_shape
    faults = list(_faults(shape, request, "")) if shape else []
    if faults:
        plural = "s" if len(faults) > 1 else ""
        raise invalid(f"{len(faults)} validation error{plural} detected: {'; '.join(faults)}")


def _faults(shape: Shape, value: Any, at: str) -> Iterator[str]:
    for constraint in _broken_constraints(shape, value, pattern=at not in _UNCHECKED):
        yield f"Value '{value}' at '{at}' failed to satisfy constraint: Member must {constraint}"
    kind = shape.type_name
    if kind == "structure":
        for name in shape.required_members:
            if value.get(name) is None:
                where = _inside(at, name)
                yield f"Value at '{where}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():  # type: ignore[attr-defined]
            if value.get(name) is not None:
                yield from _faults(member, value[name], _inside(at, name))
    elif kind == "list":
        for number, item in enumerate(value, start=1):
            yield from _faults(shape.member, item, f"{at}.{number}.member")  # type: ignore[attr-defined]
    elif kind == "map":
        for key, item in value.items():
            yield from _faults(shape.value, item, f"{at}.{key}")  # type: ignore[attr-defined]


def _inside(at: str, member: str) -> str:
    name = member[0].lower() + member[1:]
    return f"{at}.{name}" if at else name


def _broken_constraints(shape: Shape, value: Any, *, pattern: bool) -> Iterator[str]:
    allowed = shape.metadata.get("enum")
    if allowed and value not in allowed:
        yield f"satisfy enum value set: [{', '.join(allowed)}]"
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if shape.type_name in {"integer", "long", "float", "double"}:
        if least is not None and value < least:
            yield f"have value greater than or equal to {least}"
        if most is not None and value > most:
            yield f"have value less than or equal to {most}"
    elif shape.type_name in {"string", "list", "map"}:
        if least is not None and len(value) < least:
            yield f"have length greater than or equal to {least}"
        if most is not None and len(value) > most:
            yield f"have length less than or equal to {most}"
    regex = _pattern(shape.metadata.get("pattern", "")) if pattern else None
    if regex and shape.type_name == "string" and not regex.fullmatch(value):
        yield f"satisfy regular expression pattern: {regex.pattern}"


@cache
def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error:  # a few are in Java's dialect, such as \p{L}
        return None
