"""When values count as the same: as numpy says, also on the fast path for single numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rules.closeness import close, nearest_to_differing

floats = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1.0, 1.00001, 1.00002, 1e-8, 2e-8, 1e300, -1e300]),
)
tolerances = st.sampled_from([0.0, 1e-8, 1e-5, 0.5])


@given(floats, floats, tolerances, tolerances, st.booleans())
@example(math.inf, -math.inf, 0.5, 0.5, False)
@example(math.nan, math.nan, 0.0, 0.0, True)
def test_single_numbers_are_close_exactly_when_numpy_says_so(
    value: float, reference: float, rtol: float, atol: float, equal_nan: bool
) -> None:
    with np.errstate(all="ignore"):
        expected = np.allclose(value, reference, rtol, atol, equal_nan)
    assert close(value, reference, rtol, atol, equal_nan=equal_nan) is expected


@given(st.lists(st.tuples(floats, floats), min_size=2, max_size=5), tolerances, tolerances, st.booleans())
def test_arrays_are_close_when_all_their_elements_are(
    pairs: list[tuple[float, float]], rtol: float, atol: float, equal_nan: bool
) -> None:
    value, reference = (np.array(side) for side in zip(*pairs, strict=True))
    expected = all(close(a, b, rtol, atol, equal_nan=equal_nan) for a, b in pairs)
    assert close(value, reference, rtol, atol, equal_nan=equal_nan) is expected


@pytest.mark.parametrize("other", [1.0, np.ones(3), np.ones((2, 1)), np.ones((1, 2))])
def test_a_different_shape_is_never_close(other: float) -> None:
    assert close(np.ones(2), np.ones(2), 0, 0, equal_nan=False)
    assert not close(np.ones(2), other, 0, 0, equal_nan=False)
    assert not close(other, np.ones(2), 0, 0, equal_nan=False)


def test_the_element_closest_to_differing_uses_the_largest_share_of_its_tolerance() -> None:
    value, reference = np.array([[1.0, 10.5], [0.25, 2.0]]), np.array([[1.0, 10.0], [0.0, 2.0]])
    element = nearest_to_differing(value, reference, rtol=0.5, atol=0.5)
    assert element == (0.25, 0.0, 0.5)
    assert (element.difference, element.margin) == (0.25, 0.25)


finite = st.floats(-1e6, 1e6)
used_up = st.floats(-1, 1)
"""The share of the tolerance by which an element differs."""


@given(st.lists(st.tuples(finite, used_up), min_size=1, max_size=5), tolerances)
def test_the_margin_of_close_values_is_never_negative(
    elements: list[tuple[float, float]], rtol: float
) -> None:
    reference = np.array([element for element, _ in elements])
    value = reference + np.array([share for _, share in elements]) * (1e-8 + rtol * np.abs(reference))
    assume(
        close(value, reference, rtol, 1e-8, equal_nan=False)
    )  # rounding may have moved it beyond the tolerance
    assert nearest_to_differing(value, reference, rtol, 1e-8).margin >= 0


@pytest.mark.parametrize("value", [math.nan, math.inf, np.array([math.nan, math.inf])])
def test_without_finite_values_there_is_no_margin(value: float) -> None:
    element = nearest_to_differing(value, value, 1e-5, 1e-8)
    evidence = element.evidence("w", 3)
    assert element.difference == 0
    assert (evidence.threshold, evidence.missed_by) == (None, None)
