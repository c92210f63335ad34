"""A curve in a few lines of text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.alerts.text_plot import HEIGHT, text_plot
from watcher.model import AlertEvidence, Reading


def curve(*values: float, tensor: str = "train-error") -> tuple[Reading, ...]:
    return tuple(Reading(tensor, 2 * index, value) for index, value in enumerate(values))


PLATEAU = AlertEvidence(
    curve=curve(1, 0.5, 0.3, 0.25),
    deciding=(Reading("train-error", 4, 0.3), Reading("train-error", 6, 0.25)),
    needed=(Reading("train-error", 6, 0.19),),
)


def test_it_shows_the_curve_the_step_and_what_the_rule_requires():
    text = text_plot(PLATEAU, colour=False)

    assert "train-error" in text
    assert "─ the rule wants 0.19" in text
    assert "│ fired at step 6" in text
    assert all(row.count("│") == 3 for row in text.splitlines()[1:10])
    assert "\x1b" not in text
    labels = [float(text.splitlines()[row].rpartition("│ ")[2]) for row in (1, 4, 7, 10)]
    assert labels == sorted(labels, reverse=True)
    assert labels[0] == pytest.approx(1.0, abs=0.05)
    assert labels[-1] == pytest.approx(0.19, abs=0.05)
    assert max(map(len, text.splitlines())) <= 76


def test_two_curves_have_different_colours_where_colour_is_available():
    evidence = AlertEvidence(curve=(*curve(1, 0.5, 0.3), *curve(1, 0.8, 0.9, tensor="validation-error")))

    assert "\x1b[" in text_plot(evidence, colour=True)
    assert "\x1b[" not in text_plot(evidence, colour=False)


def test_without_two_numbers_there_is_no_plot():
    assert text_plot(AlertEvidence(), colour=True) == ""
    assert text_plot(AlertEvidence(curve=curve(1.0)), colour=True) == ""
    assert text_plot(AlertEvidence(curve=curve(math.nan, math.inf, 1.0)), colour=True) == ""


def test_a_curve_across_many_powers_of_ten_uses_a_log_scale():
    text = text_plot(AlertEvidence(curve=curve(1, 1e-2, 1e-4, 1e-6)), colour=False)

    first, *_, last = (float(text.splitlines()[row].rpartition("│ ")[2]) for row in (1, 4, 7, 10))
    assert first == pytest.approx(1.0, rel=0.5)
    assert last == pytest.approx(1e-6, rel=0.5)
    assert "powers of ten" in text


def test_the_step_of_a_value_that_is_not_a_number_is_shown_beside_the_curve():
    broken = AlertEvidence(curve=curve(3, 2, 1, math.nan), deciding=(Reading("train-error", 6, math.nan),))

    text = text_plot(broken, colour=False)

    assert "│ fired at step 6" in text
    assert all(row.count("│") == 3 for row in text.splitlines()[1:11])


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(min_value=-10, max_value=10)


@given(st.lists(numbers, max_size=40), st.none() | st.integers(0, 10**9), st.none() | numbers)
def test_the_plot_of_any_numbers_is_small_or_empty(
    values: list[float], step: int | None, wanted: float | None
):
    readings = curve(*values)
    deciding = readings[-1:] if step is None else (Reading("train-error", step, 0.0), *readings[-1:])
    needed = () if wanted is None else (Reading("train-error", 0, wanted),)

    text = text_plot(AlertEvidence(curve=readings, deciding=deciding, needed=needed), colour=False)

    assert len(text.splitlines()) <= HEIGHT + 6
    assert max(map(len, text.splitlines()), default=0) <= 76
