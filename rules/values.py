"""What a saved value is: the numbers of a tensor, text, or a reduction that smdebug took of a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import Value


def numbers(value: Value) -> NDArray[Any] | None:
    """The value as an array; None where it holds text or complex numbers."""
    array = np.asarray(value)
    return array if array.dtype.kind in "biuf" else None


def is_reduction(tensor: str) -> bool:
    """Whether a name is that of a reduction, as `smdebug.core.reductions` names it. A regex for a tensor
    finds its reductions too."""
    return tensor.startswith("smdebug/reductions/")
