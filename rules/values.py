"""Reads a saved value as numbers, if it is not text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import Value


def numbers(value: Value) -> NDArray[Any] | None:
    """The value as an array; None if it holds text or complex numbers."""
    array = np.asarray(value)
    return array if array.dtype.kind in "biuf" else None
