"""Percentiles of counted values are those of the values, to what is shown."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rules.profiler.distribution import Distribution

PERCENTAGES = st.lists(st.integers(0, 10_000).map(lambda number: number / 100), min_size=1, max_size=200)
RATES = st.lists(st.floats(0, 1e12, allow_subnormal=False), min_size=1, max_size=200)
SHARES = (0.05, 0.5, 0.95)


def counted(values: list[float], *, percent: bool) -> Distribution:
    counts = Distribution(percent=percent)
    for begin in range(0, len(values), 7):
        counts.add(np.array(values[begin : begin + 7]))
    return counts


@given(PERCENTAGES)
def test_percentages_are_exact_to_a_hundredth(values: list[float]) -> None:
    found = counted(values, percent=True).quantiles(SHARES)
    np.testing.assert_allclose(found, np.quantile(values, SHARES), rtol=0, atol=1e-9)


@given(RATES)
def test_other_numbers_are_exact_to_four_digits(values: list[float]) -> None:
    counts = counted(values, percent=False)
    np.testing.assert_allclose(counts.quantiles(SHARES), np.quantile(values, SHARES), rtol=5.1e-4, atol=1e-99)
    assert (counts.least, counts.greatest, counts.count) == (min(values), max(values), len(values))


@given(RATES)
def test_a_restored_one_goes_on(values: list[float]) -> None:
    counts = counted(values, percent=False)
    restored = Distribution(percent=False).restore(json.loads(json.dumps(counts.state())))
    more = np.array([1.0, 3e7])
    counts.add(more)
    restored.add(more)
    assert restored.quantiles(SHARES) == counts.quantiles(SHARES)


def test_a_histogram_counts_each_value_once() -> None:
    counts = counted([0.0, 1.99, 2.0, 99.9, 100.0], percent=True)
    assert counts.histogram(np.arange(0, 102, 2.0))[[0, 1, -1]].tolist() == [2, 1, 2]
