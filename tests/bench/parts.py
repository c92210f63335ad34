"""The parts of `make bench`: what each measures, in how much time, and its rows in the table."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.bench import before, cost, daemon, events, latency, logs, one_pass, profile, rule_speed, tensors
from tests.bench.measuring import Bench
from tests.bench.stubbed import PYTHON

RUNS = 3
PASS_JOBS = (1_000, 10_000)
ALERT_COUNT = 40
EVENT_RUNS = {"1:20": 1, "10:100": 1, "50:500": RUNS, "100:1000": 1}
"""Runs by `RATE:COUNT` (events per second, and their number). The middle run counts."""
FINDING_COUNT = 400
COST_JOBS = (100, 1_000, 10_000)

Row = tuple[str, str, str]
"""What, measured, expected."""


@dataclass(frozen=True)
class Part:
    name: str
    what: str
    limit_s: float
    """Three times what it takes on two idle cores, or more."""
    figures: Callable[[Bench], Any]
    rows: Callable[[Any], Iterable[Row]]


def _passes(bench: Bench) -> dict[str, Any]:
    return {
        str(jobs): medians([bench.measure("one_pass", str(jobs)) for _ in range(RUNS)]) for jobs in PASS_JOBS
    }


def _latency(bench: Bench) -> dict[str, Any]:
    return bench.measure("latency", str(ALERT_COUNT))


def _events(bench: Bench) -> dict[str, Any]:
    """A new daemon for each rate, because the data of one rate would slow down the next."""
    return {
        "python": _python(),
        **{
            how: {
                rate.partition(":")[0]: _middle_run(
                    [bench.measure("events", "latency", how, rate) for _ in range(times)]
                )
                for rate, times in EVENT_RUNS.items()
            }
            for how in ("bare", "sqlite", "dynamodb")
        },
    }


def _replicas(bench: Bench) -> list[Any]:
    return [bench.measure("events", "replicas", str(count), str(FINDING_COUNT)) for count in (1, 2, 4)]


def _before(bench: Bench) -> dict[str, Any]:
    return bench.measure("before", os.environ["BENCH_BEFORE"])


def _cost(bench: Bench) -> dict[str, Any]:
    return {str(jobs): bench.measure("cost", str(jobs)) for jobs in COST_JOBS}


def _daemon(bench: Bench) -> dict[str, Any]:
    return {"python": _python(), **medians([bench.measure("daemon") for _ in range(RUNS)])}


def _module(name: str) -> Callable[[Bench], dict[str, Any]]:
    return lambda bench: bench.measure(name)


def _middle_run(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of the run that was neither the fastest nor the slowest."""
    figures: list[dict[str, Any]] = [figure for run in runs for figure in run.values()]
    return sorted(figures, key=lambda figure: float(figure["median"]))[len(figures) // 2]


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs as one, with the median of each number. What is not a number is the first run's."""

    def of(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {key: of([value[key] for value in values]) for key in values[0]}
        return statistics.median(values) if isinstance(values[0], float) else values[0]

    found: dict[str, Any] = of(runs)
    return found


def _python() -> str:
    done = subprocess.run([PYTHON, "-V"], capture_output=True, text=True, check=True)
    return f"{done.stdout.strip()} ({PYTHON})"


def parts() -> list[Part]:
    """In their order. Comparing with an earlier version is a part if BENCH_BEFORE names one."""
    compared = [Part("before", "latencies of an earlier version and now", 3600, _before, before.rows)]
    return [
        Part("pass", "a pass over known jobs", 240, _passes, one_pass.rows),
        Part("latency", "alerts, from the change to Slack", 120, _latency, latency.rows),
        Part("events", "alerts, from the event to Slack", 900, _events, events.rows),
        Part("replicas", "findings per second of 1, 2 and 4 replicas", 240, _replicas, events.replica_rows),
        *(compared if os.environ.get("BENCH_BEFORE") else []),
        Part("cost", "the cost of a day", 240, _cost, cost.rows),
        Part("daemon", "start, idle and shutdown", 120, _daemon, daemon.rows),
        Part("rules", "rules on scalars", 90, _module("rule_speed"), rule_speed.rows),
        Part("tensors", "tensors of up to 10,000 saved steps", 900, _module("tensors"), tensors.rows),
        Part("profile", "profiler output of a day", 600, _module("profile"), profile.rows),
        Part("logs", "logs of up to 200,000 lines, and 300 streams", 900, _module("logs"), logs.rows),
    ]
