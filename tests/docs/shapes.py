from __future__ import annotations

from typing import Any


def shape(value: Any) -> Any:
    """The keys in order and the types of the values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}, list(value)
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)
