"""A curve in a few lines of text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.model import Evidence, Reading
from watcher.text_plot import HEIGHT, text_plot


def curve(*values: float, tensor: str = "train-error") -> tuple[Reading, ...]:
    return tuple(Reading(tensor, 2 * index, value) for index, value in enumerate(values))


def test_it_shows_the_curve_the_step_and_what_the_rule_wants():
    evidence = Evidence(curve=curve(1, 0.5, 0.3, 0.25), needed=(Reading("train-error", 6, 0.19),))

    text = text_plot(evidence, 6, colour=False)

    assert "train-error" in text
    assert "what the rule wants: 0.19" in text
    assert "step 6: the rule fires" in text
    assert "\x1b" not in text
    labels = [float(text.splitlines()[row].rpartition("│ ")[2]) for row in (1, 4, 7, 10)]
    assert labels == sorted(labels, reverse=True)
    assert labels[0] == pytest.approx(1.0, abs=0.05)
    assert labels[-1] == pytest.approx(0.19, abs=0.05)
    assert max(map(len, text.splitlines())) <= 76


def test_two_curves_are_told_apart_by_colour_where_there_is_any():
    evidence = Evidence(curve=(*curve(1, 0.5, 0.3), *curve(1, 0.8, 0.9, tensor="validation-error")))

    assert "\x1b[" in text_plot(evidence, None, colour=True)
    assert "\x1b[" not in text_plot(evidence, None, colour=False)


def test_without_two_numbers_there_is_no_plot():
    assert text_plot(Evidence(), 3, colour=True) == ""
    assert text_plot(Evidence(curve=curve(1.0)), 3, colour=True) == ""
    assert text_plot(Evidence(curve=curve(math.nan, math.inf, 1.0)), 3, colour=True) == ""


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(min_value=-10, max_value=10)


@given(st.lists(numbers, max_size=40), st.none() | st.integers(0, 10**9), st.none() | numbers)
def test_whatever_the_numbers_are_the_plot_is_small_or_empty(
    values: list[float], step: int | None, wanted: float | None
):
    needed = () if wanted is None else (Reading("train-error", 0, wanted),)

    text = text_plot(Evidence(curve=curve(*values), needed=needed), step, colour=False)

    assert len(text.splitlines()) <= HEIGHT + 6
