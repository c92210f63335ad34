"""`make bench`: measures Watcher's speed, memory and cost, and prints them next to the expected figures.

Each measurement runs three times in its own process; the table shows the median, and `--json` prints the
same as JSON. With BENCH_BEFORE=COMMIT in the environment, latencies are measured of that version too: see
`tests.bench.before`. Nothing here fails because of a bad figure: these are not tests.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import before, cost, events, logs, profile, rule_speed, tensors
from tests.bench.stubbed import PYTHON, stub

RUNS = 3
ALERT_COUNT = 40
EVENT_RUNS = {"1:20": 1, "10:100": 1, "50:500": RUNS, "100:1000": 1}
"""Runs by `RATE:COUNT` (events per second, and their number). The middle run counts."""
FINDING_COUNT = 400


def measure(module: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{module}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"tests.bench.{module} failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def one_pass(jobs: int) -> dict[str, Any]:
    with stub(jobs) as (address, _), tempfile.TemporaryDirectory() as folder:
        return measure("one_pass", address, folder)


def python_version() -> str:
    done = subprocess.run([PYTHON, "-V"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def median(runs: list[dict[str, Any]], *path: str) -> float:
    def value(run: Any) -> float:
        for key in path:
            run = run[key]
        return float(run)

    return statistics.median(value(run) for run in runs)


def middle_run(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run that was neither the fastest nor the slowest."""
    (rate,) = runs[0]
    return sorted(runs, key=lambda run: float(run[rate]["median"]))[len(runs) // 2]


def main() -> None:
    console = Console(stderr=True)
    figures: dict[str, Any] = {"python": f"{python_version()} ({PYTHON})"}
    with console.status("measuring …") as status:
        for jobs in (1_000, 10_000):
            status.update(f"one pass over {jobs:,} known jobs …")
            runs = [one_pass(jobs) for _ in range(RUNS)]
            figures[f"pass_{jobs}"] = {
                "calls": runs[0]["known"]["calls"],
                "describes_due": runs[0]["known"]["waiting_for_describe"],
                "cpu_seconds": median(runs, "known", "cpu_seconds"),
                "peak_memory_mb": median(runs, "known", "peak_memory_mb"),
                "first_pass_cpu_seconds": median(runs, "first", "cpu_seconds"),
            }
        status.update(f"{ALERT_COUNT} alerts, from the change to Slack …")
        figures["latency"] = measure("latency", str(ALERT_COUNT))
        figures["events"] = {}
        for store in ("sqlite", "dynamodb"):
            status.update(f"events up to 100 a second, {store} …")
            # A new daemon for each rate, because the data of one rate would slow down the next.
            figures["events"][store] = {}
            for rate, times in EVENT_RUNS.items():
                figures["events"][store] |= middle_run(
                    [measure("events", "latency", store, rate) for _ in range(times)]
                )
        status.update("1, 2 and 4 replicas …")
        figures["events"]["replicas"] = [
            measure("events", "replicas", str(count), str(FINDING_COUNT)) for count in (1, 2, 4)
        ]
        if commit := os.environ.get("BENCH_BEFORE"):
            status.update(f"latencies at {commit} and now …")
            figures["before"] = before.compared(commit)
        status.update("the cost of a day …")
        figures["cost"] = {str(jobs): measure("cost", str(jobs)) for jobs in (100, 1_000, 10_000)}
        status.update("start, idle and shutdown …")
        runs = [measure("daemon") for _ in range(RUNS)]
        figures["daemon"] = {key: median(runs, key) for key in runs[0]}
        status.update("rules on scalars …")
        figures["rules"] = measure("rule_speed")
        status.update("tensors of up to 10,000 saved steps (takes minutes) …")
        figures["tensors"] = measure("tensors")
        status.update("profiler output of a day …")
        figures["profile"] = measure("profile")
        status.update("logs of up to 200,000 lines, and following 300 streams (takes minutes) …")
        figures["logs"] = measure("logs")
    if "--json" in sys.argv:
        print(json.dumps(figures, indent=2))
    else:
        Console().print(table(figures))


def table(figures: dict[str, Any]) -> Table:
    rows = Table("what", "measured", "expected", title="Watcher benchmarks", title_justify="left")
    for jobs in (1_000, 10_000):
        figure = figures[f"pass_{jobs}"]
        calls = ", ".join(f"{count} {operation}" for operation, count in figure["calls"].items())
        rows.add_row(f"a pass over {jobs:,} known jobs: AWS calls", calls, f"{jobs // 100 + 1} Search")
        rows.add_row("  Describe calls due", str(figure["describes_due"]), "0")
        rows.add_row("  CPU", f"{figure['cpu_seconds']:.2f} s", "< 10 s" if jobs == 10_000 else "")
        rows.add_row(
            "  peak memory", f"{figure['peak_memory_mb']:.0f} MB", "< 250 MB" if jobs == 10_000 else ""
        )
        rows.add_row(
            "  CPU of the first pass, with all jobs new", f"{figure['first_pass_cpu_seconds']:.2f} s", ""
        )
    growth = figures["pass_10000"]["cpu_seconds"] / figures["pass_1000"]["cpu_seconds"]
    rows.add_row("CPU at 10,000 jobs ÷ CPU at 1,000", f"{growth:.1f}", "about 10: linear")
    latency, daemon = figures["latency"], figures["daemon"]
    rows.add_row("change → Slack, without the poll interval: median", f"{latency['median']:.3f} s", "< 0.3 s")
    rows.add_row("  first alert (with imports)", f"{latency['first']:.3f} s", "")
    rows.add_row("  slowest of the others", f"{latency['worst_but_first']:.3f} s", "")
    rows.add_row("Python of watcher run, here and for events", figures["python"], "built with PGO")
    rows.add_row("watcher run: ready after", f"{daemon['ready_seconds']:.2f} s", "< 2 s")
    rows.add_row("  memory, idle", f"{daemon['idle_memory_mb']:.0f} MB", "< 120 MB")
    rows.add_row("  SIGTERM to exit", f"{daemon['seconds_to_exit']:.2f} s", "< 10 s")
    for measured in (
        before.rows(figures["before"]) if "before" in figures else (),
        events.rows(figures["events"]),
        cost.rows(figures["cost"]),
        rule_speed.rows(figures["rules"]),
        tensors.rows(figures["tensors"]),
        profile.rows(figures["profile"]),
        logs.rows(figures["logs"]),
    ):
        for row in measured:
            rows.add_row(*row)
    return rows


if __name__ == "__main__":
    main()
