"""Compares a property of a record with the Value of a filter of `Search`. Pure.

The type of the property decides which operators it supports and how the Value is read, as the API reference
of `Filter` describes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from operator import eq, ge, gt, le, lt
from typing import Any

from watcher.sandbox.sagemaker.api_errors import invalid
from watcher.sandbox.sagemaker.properties import Kind

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?")
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": gt,
    "GreaterThanOrEqualTo": ge,
    "LessThan": lt,
    "LessThanOrEqualTo": le,
}
_EQUAL = frozenset({"Equals", "NotEquals"})
_SUPPORTED: Mapping[Kind, frozenset[str]] = {
    "text": _EQUAL | {"Contains", "In"},
    "hyperparameter": _EQUAL | {"Contains", "In"} | _ORDERS.keys(),
    "numeric": _EQUAL | _ORDERS.keys(),
    "timestamp": _EQUAL | _ORDERS.keys(),
    "Boolean": _EQUAL,
    "structured": frozenset(),
}


def comparison(name: str, kind: Kind, operator: str, wanted: str) -> Callable[[Any], bool]:
    """A function that compares one value of the property `name` with `wanted`. For `NotEquals` it is that of
    `Equals`, because a property can have several values.

    Raises `ApiError` if the property does not support the operator, or if `wanted` is no value of its type.
    """
    if operator not in _SUPPORTED[kind]:
        raise invalid(f"Operator {operator} is not supported for the {kind} property {name}.")
    match operator:
        case "Contains":
            return lambda value: wanted in str(value)
        case "In":
            parts = [part.strip() for part in wanted.split(",")]
            return lambda value: str(value) in parts
    compare: Callable[[Any, Any], bool] = _ORDERS.get(operator, eq)
    if kind == "hyperparameter":
        return lambda value: compare(*_comparable(value, wanted, numbers=operator in _ORDERS))
    parsed = _PARSERS[kind](name, wanted)
    return lambda value: bool(compare(value, parsed))


def _comparable(value: str | float, wanted: str, *, numbers: bool) -> tuple[float, float] | tuple[str, str]:
    """Hyperparameters are text, but are ordered as numbers if both sides are numbers."""
    if numbers or not isinstance(value, str):
        try:
            return float(value), float(wanted)
        except ValueError:
            pass
    return str(value), wanted


def _text(_: str, text: str) -> str:
    return text


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise invalid(f"The value {text!r} of {name} is not a number.") from error


def _time(name: str, text: str) -> float:
    """Seconds since 1970. The reference documents `2026-01-31T10:00:00`. A fraction and an offset are
    accepted as well; without an offset the time is in UTC."""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(
            f"The value {text!r} of {name} is not a time in the format YYYY-mm-dd'T'HH:MM:SS."
        ) from error
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise invalid(f"The value {text!r} of {name} is neither true nor false.")
    return text.lower() == "true"


_PARSERS: Mapping[Kind, Callable[[str, str], Any]] = {
    "text": _text,
    "hyperparameter": _text,
    "numeric": _number,
    "timestamp": _time,
    "Boolean": _boolean,
}
