"""Which curves an alert draws, and where on them it marks the decision."""

from __future__ import annotations

import math

import pytest

from watcher.alerts.curves import Compared, compared, curves, decided_at, logarithmic
from watcher.model import AlertEvidence, Reading

LOSS = tuple(Reading("loss", step, 1 / (step + 1)) for step in range(5))


def test_the_compared_values_lie_on_the_curve_with_the_required_value():
    evidence = AlertEvidence(curve=LOSS, deciding=(LOSS[2], LOSS[4]), needed=(Reading("loss", 4, 0.1),))

    assert list(compared(evidence)) == [Compared("loss", [(2, 1 / 3), (4, 0.2)], 0.1)]
    assert decided_at(evidence) == 4


def test_a_number_that_is_not_a_value_of_the_tensor_lies_on_no_curve():
    variance = AlertEvidence(
        curve=LOSS, deciding=(Reading("loss", 4, 7.0),), needed=(Reading("loss", 4, 5.0),)
    )

    assert list(compared(variance)) == []
    assert decided_at(variance) == 4


def test_a_reading_lies_on_the_curve_of_the_mode_that_has_it():
    evidence = AlertEvidence(
        curve=(Reading("loss TRAIN", 4, 0.1), Reading("loss EVAL", 5, 0.3), Reading("losses", 5, 0.3)),
        deciding=(Reading("loss", 5, 0.3),),
    )

    assert [each.curve for each in compared(evidence)] == ["loss EVAL"]
    assert list(curves(evidence)) == ["loss TRAIN", "loss EVAL", "losses"]


def test_a_curve_without_a_deciding_value_has_no_deciding_step():
    assert decided_at(AlertEvidence(curve=LOSS)) is None


@pytest.mark.parametrize(
    ("values", "by_powers"),
    [
        ((1.0, 0.001), True),
        ((1.0, 0.002), False),
        ((1e308, 1e-308, math.nan), True),
        ((1000.0, 0.0), False),
        ((1000.0, 0.1, -0.1), False),
        ((math.inf,), False),
        ((), False),
    ],
)
def test_three_powers_of_ten_above_zero_are_drawn_on_a_log_scale(values: tuple[float, ...], by_powers: bool):
    assert logarithmic(values) == by_powers
