"""Makes runs for the profiler rules, and batches of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from rules.profiler import Batch, ProfilerRule, Series, SeriesKey, Span, Verdict
from tests.rules.profiler.oracles import Metric, Run, Work

BEGIN = 1_700_000_040.0
"""A whole minute."""
TYPES = {"CPUUtilization": "cpu", "I/OWaitPercentage": "cpu"}


def batches(run: Run, cuts: Iterable[float] = ()) -> Iterator[Batch]:
    """The run, cut at these times."""
    edges = [-np.inf, *sorted(cuts), np.inf]
    for begin, end in pairwise(edges):
        columns: defaultdict[SeriesKey, list[tuple[float, float]]] = defaultdict(list)
        for one in sorted(run.metrics):
            if begin <= one.time < end:
                key = SeriesKey(one.node, TYPES.get(one.dimension, "gpu"), one.name, one.dimension)
                columns[key].append((one.time, one.value))
        series = {
            key: Series(*(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)))
            for key, rows in columns.items()
        }
        spans = [as_span(one) for one in run.work if begin <= one.end < end]
        yield Batch(end, series, spans)


def as_span(one: Work) -> Span:
    start, end = round(one.start * 1e6), round(one.end * 1e6)
    return Span(one.node, "", one.phase, one.name, start, end - start, None, one.pid)


def judged(rule: ProfilerRule, several: Iterable[Batch]) -> Verdict:
    for batch in several:
        if verdict := rule.observe(batch):
            return verdict
    return rule.verdict(ended=True)


def metrics(
    dimension: str,
    name: str,
    values: Sequence[float],
    *,
    node: str = "algo-1",
    begin: float = BEGIN,
    every: float = 0.5,
) -> list[Metric]:
    return [Metric(begin + every * index, node, name, dimension, value) for index, value in enumerate(values)]


def steps(
    durations: Sequence[float], *, node: str = "algo-1", mode: str = "TRAIN", begin: float = BEGIN
) -> list[Work]:
    work, at = [], begin
    for duration in durations:
        work.append(Work(at, at + duration, node, f"Step:ModeKeys.{mode}", f"Step:ModeKeys.{mode}"))
        at += duration
    return work
