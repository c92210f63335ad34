"""The profiler rules written down again, naively, from the table of what each decides: one value at a time,
everything kept. Nothing here is imported from the rules.

A run is a list of metrics and steps; an oracle says in which minute the rule fires, or None.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

MINUTE = 60.0


class Metric(NamedTuple):
    time: float
    node: str
    name: str
    dimension: str
    value: float


class Work(NamedTuple):
    """A span: of a step, or of a loading process."""

    start: float
    end: float
    node: str
    phase: str
    name: str
    pid: int = 0


class Run(NamedTuple):
    metrics: list[Metric]
    work: list[Work]


Oracle = Callable[[Run], int | None]


def minutes(run: Run) -> Iterator[tuple[int, list[Metric], list[Work]]]:
    """The run minute by minute. A snapshot that begins less than 20 ms before the end of a minute is part of
    the next one."""
    metrics: defaultdict[int, list[Metric]] = defaultdict(list)
    for snapshot in snapshots(run.metrics):
        metrics[math.floor((snapshot[0].time + 0.02) / MINUTE)] += snapshot
    work: defaultdict[int, list[Work]] = defaultdict(list)
    for one in run.work:
        work[math.floor(one.end / MINUTE)].append(one)
    for minute in sorted({*metrics, *work}):
        yield minute, metrics[minute], work[minute]


def snapshots(metrics: Iterable[Metric]) -> list[list[Metric]]:
    found: list[list[Metric]] = []
    for metric in sorted(metrics):
        if not found or metric.time - found[-1][0].time > 0.02:
            found.append([])
        found[-1].append(metric)
    return found


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def bottleneck(
    dimension: str, *, threshold: float, gpu_threshold: float, core_threshold: float, patience: int
) -> Oracle:
    def fires(run: Run) -> int | None:
        seen = bad = 0
        for minute, metrics, _ in minutes(run):
            for snapshot in snapshots(metrics):
                seen += 1
                gpus = [one.value for one in snapshot if one.dimension == "GPUUtilization"]
                cores = [one.value for one in snapshot if one.dimension == dimension]
                bad += min(gpus, default=100) < gpu_threshold and max(cores, default=0) > core_threshold
            if seen > patience and bad / seen * 100 > threshold:
                return minute
        return None

    return fires


def low_gpu(*, threshold_p95: float, threshold_p5: float, patience: int, window: int) -> Oracle:
    def fires(run: Run) -> int | None:
        values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for minute, metrics, _ in minutes(run):
            changed = set()
            for one in sorted(metrics):
                if one.dimension == "GPUUtilization":
                    values[one.node, one.name].append(one.value)
                    changed.add((one.node, one.name))
            for gpu in changed:
                if len(values[gpu]) > patience:
                    last = values[gpu][-window:]
                    p95, p5 = quantile(last, 0.95), quantile(last, 0.05)
                    if p95 < threshold_p95 or (p95 > threshold_p95 and p5 < threshold_p5):
                        return minute
        return None

    return fires


def batch_size(*, cpu: float, gpu: float, memory: float, patience: int, window: int) -> Oracle:
    def fires(run: Run) -> int | None:
        values: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
        for minute, metrics, _ in minutes(run):
            for snapshot in snapshots(metrics):
                cores: defaultdict[str, list[float]] = defaultdict(list)
                for one in snapshot:
                    if one.dimension == "CPUUtilization":
                        cores[one.node].append(one.value)
                    elif one.dimension.startswith("GPU"):
                        values[one.node, one.name, one.dimension].append(one.value)
                for node, of_cores in cores.items():
                    values[node, "", "CPUUtilization"].append(sum(of_cores) / len(of_cores))
            for node, name, dimension in list(values):
                if dimension != "GPUUtilization":
                    continue
                three = [
                    values[node, "", "CPUUtilization"],
                    values[node, name, "GPUUtilization"],
                    values[node, name, "GPUMemoryUtilization"],
                ]
                if all(len(one) > patience for one in three) and all(
                    quantile(one[-window:], 0.95) < limit
                    for one, limit in zip(three, (cpu, gpu, memory), strict=True)
                ):
                    return minute
        return None

    return fires


def memory_increase(*, increase: float, patience: int, window: int) -> Oracle:
    def fires(run: Run) -> int | None:
        values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for minute, metrics, _ in minutes(run):
            for one in sorted(metrics):
                if one.dimension != "GPUMemoryUtilization":
                    continue
                own = values[one.node, one.name]
                own.append(one.value)
                if len(own) > patience and len(own) >= 2 * window:
                    after = statistics.fmean(own[-window:])
                    before = statistics.fmean(own[-2 * window : -window])
                    if after - before > increase:
                        return minute
        return None

    return fires


def load_balancing(*, threshold: float, patience: int) -> Oracle:
    def distance(first: list[float], other: list[float]) -> float:
        def shares(values: list[float]) -> list[float]:
            counts = [0] * 50
            for value in values:
                counts[min(int(value // 2), 49)] += 1
            return [count / len(values) for count in counts]

        total = 0.0
        for p, q in zip(shares(first), shares(other), strict=True):
            mean = (p + q) / 2
            total += (p * math.log(p / mean) if p else 0) + (q * math.log(q / mean) if q else 0)
        return math.sqrt(max(total, 0) / 2)

    def fires(run: Run) -> int | None:
        values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for minute, metrics, _ in minutes(run):
            for one in metrics:
                if one.dimension == "GPUUtilization":
                    values[one.node, one.name].append(one.value)
            ready = {gpu: own for gpu, own in values.items() if len(own) > patience}
            nodes: defaultdict[str, list[float]] = defaultdict(list)
            for (node, _), own in ready.items():
                nodes[node] += own
            pairs = [(ready[a], ready[b]) for a in ready for b in ready if a < b and a[0] == b[0]] + [
                (nodes[a], nodes[b]) for a in nodes for b in nodes if a < b
            ]
            if any(distance(first, other) > threshold for first, other in pairs):
                return minute
        return None

    return fires


def step_outlier(*, stddev: float, n_outliers: int, mode: str | None = None) -> Oracle:
    def fires(run: Run) -> int | None:
        durations: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for minute, _, work in minutes(run):
            for one in work:
                if "Step:ModeKeys" in one.name and (mode is None or one.name.endswith(mode)):
                    durations[one.node, one.name].append(round((one.end - one.start) * 1e6))
            for own in durations.values():
                if len(own) > 100:
                    limit = statistics.fmean(own) + stddev * statistics.pstdev(own)
                    if sum(one > limit for one in own) > n_outliers and len(set(own)) > 1:
                        return minute
        return None

    return fires


def initialization(*, threshold: float) -> Oracle:
    def fires(run: Run) -> int | None:
        beginning: float | None = None
        newest = -math.inf
        framework = False
        for minute, metrics, work in minutes(run):
            times = [group[0].time for group in snapshots(metrics)]
            if beginning is None:
                beginning = min([*times, *(one.start for one in work)])
            newest = max([newest, *times, *(one.end for one in work)])
            framework = framework or bool(work)
            steps = [one.start for one in work if "Step:ModeKeys" in one.name]
            if framework and (min(steps) if steps else newest) - beginning > threshold * 60:
                return minute
            if steps:
                return None
        return None

    return fires


def dataloader(*, minimum: float, maximum: float) -> Oracle:
    def fires(run: Run) -> int | None:
        cores: defaultdict[str, set[str]] = defaultdict(set)
        parallel: defaultdict[str, list[int]] = defaultdict(list)
        for minute, metrics, work in minutes(run):
            for one in metrics:
                if one.dimension == "CPUUtilization":
                    cores[one.node].add(one.name)
            seconds: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
            for span in work:
                if span.phase in ("DataLoaderWorker", "DataLoaderIter"):
                    seconds[span.node, int(span.start)].add(span.pid)
            for (node, _), processes in seconds.items():
                parallel[node].append(len(processes))
            for node, counts in parallel.items():
                if len(counts) > 10 and cores[node]:
                    percent = statistics.median(counts) / len(cores[node]) * 100
                    if percent < minimum or percent > maximum:
                        return minute
        return None

    return fires
