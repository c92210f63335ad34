"""The names under which smdebug saves reductions, and how a rule selects them."""

from __future__ import annotations

import numpy as np
import pytest
from smdebug.core.reduction_config import ALLOWED_NORMS, ALLOWED_REDUCTIONS
from smdebug.core.reductions import get_reduction_tensor_name

from rules.left_out import LeftOut
from rules.reductions import Reduction, WithReductions, arrays, reduction
from tests.rules.frameworks import PYTORCH

ABS_MEAN = "smdebug/reductions/abs_mean/gradient/fc.weight"


@pytest.mark.parametrize("name", [*ALLOWED_REDUCTIONS, *ALLOWED_NORMS])
@pytest.mark.parametrize("absolute", [False, True])
def test_every_reduction_name_of_smdebug_is_recognised(name: str, absolute: bool) -> None:
    saved = get_reduction_tensor_name("gradient/fc.weight", name, absolute)
    assert reduction(saved) == Reduction(f"abs_{name}" if absolute else name, "gradient/fc.weight")


def test_a_tensor_name_is_not_a_reduction() -> None:
    assert reduction("gradient/fc.weight") is None


def test_a_reduction_is_selected_exactly_when_its_tensor_is() -> None:
    gradients, weights = WithReductions(["gradients"]), WithReductions(["weights"])
    for selection in (gradients, weights):
        selection.learn(PYTORCH)
    assert ABS_MEAN in gradients
    assert ABS_MEAN not in weights


def test_arrays_are_returned_by_name_without_those_that_are_none() -> None:
    left_out = LeftOut()
    saved = {
        "b": np.ones(2),
        "a": 1.0,
        "text": np.array("a tree"),
        "empty": np.empty(0),
        "smdebug/reductions/mean/a": 1.0,
        "smdebug/reductions/mean/c": 1.0,
    }
    found = list(arrays(WithReductions(regexes=[".*"]), saved, left_out))
    assert [(tensor, array.tolist()) for tensor, array in found] == [("a", 1.0), ("b", [1.0, 1.0])]
    assert left_out.notes() == (
        "left out, because they hold no numbers: empty, text",
        "left out, because only reductions of them were saved: c",
    )
