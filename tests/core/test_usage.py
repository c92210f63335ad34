"""What a heat map of profiler output shows."""

from __future__ import annotations

import numpy as np
import pytest

from rules.profiler.data import Batch, Series, SeriesKey
from watcher.profiler_output.usage import COLUMNS, Usage, lane_label

KEY = SeriesKey("algo-1", "cpu", "cpu0", "CPUUtilization")


def every(seconds: float, count: int) -> Usage:
    usage = Usage(0.0, seconds * count)
    usage.add(Batch(usage.end, {KEY: Series(np.arange(count) * seconds, np.full(count, 50.0))}))
    return usage


@pytest.mark.parametrize(("seconds", "count"), [(60.0, 1), (60.0, 10), (0.5, 97), (0.5, 5000)])
def test_time_is_divided_so_that_each_column_has_a_value(seconds: float, count: int):
    usage = every(seconds, count)

    for most in (40, COLUMNS):
        columns = usage.columns(most)
        assert columns <= most
        assert not np.isnan(usage.over_time([KEY], columns)).any()


def test_enough_values_fill_all_columns():
    assert every(0.5, 5000).columns(60) == 60


def test_a_metric_of_the_whole_instance_is_named_once():
    assert lane_label(SeriesKey("algo-1", "sagemaker", "MemoryUsedPercent")) == "algo-1 MemoryUsedPercent"
    assert lane_label(KEY) == "algo-1 cpu0 CPUUtilization"
