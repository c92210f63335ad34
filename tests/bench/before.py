"""Compares this version with an earlier one, in one run: BENCH_BEFORE=COMMIT make bench, or

    python -m tests.bench.before COMMIT [ROUNDS]

The earlier version is taken from git into a temporary folder. Both take turns, so that whatever else the
machine does meanwhile slows down both alike. From a poll to Slack, each version runs its own
`tests.bench.latency`, in one process with its own code. From an event to Slack, the daemons differ, and what
surrounds them is of this version.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.stubbed import PROJECT

ROUNDS = 3
ALERT_COUNT = 40
EVENTS = {"10": "10:100", "50": "50:500"}
"""Events per second, and with their number."""
STORES = ("sqlite", "dynamodb")
VERSIONS = ("before", "now")
DYNAMODB = frozenset(
    {
        "GetItem",
        "BatchGetItem",
        "Query",
        "PutItem",
        "DeleteItem",
        "TransactWriteItems",
        "read units",
        "write units",
    }
)

Runs = dict[str, list[dict[str, Any]]]
"""The answers of each version, by its name."""


@contextmanager
def source_of(commit: str) -> Iterator[Path]:
    """The files of a commit, in a folder of their own."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", commit], cwd=PROJECT, stdout=subprocess.PIPE, check=True
    )
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def compared(commit: str, rounds: int = ROUNDS) -> dict[str, Any]:
    with source_of(commit) as source:
        sources = {"before": source, "now": PROJECT}
        poll = _in_turn(rounds, sources, _own_latency)
        figures: dict[str, Any] = {
            "commit": commit,
            "rounds": rounds,
            "poll": {version: _median(runs, "median") for version, runs in poll.items()},
            "events": {},
        }
        for store in STORES:
            for rate, events in EVENTS.items():
                runs = _in_turn(
                    rounds, sources, lambda folder, store=store, events=events: _events(folder, store, events)
                )
                figures["events"][f"{store} {rate}"] = {
                    version: _of_events([run[rate] for run in of_version])
                    for version, of_version in runs.items()
                }
    return figures


def _in_turn(rounds: int, sources: Mapping[str, Path], measure: Any) -> Runs:
    """Each version as often, and each as often first."""
    runs: Runs = {version: [] for version in VERSIONS}
    for number in range(rounds):
        for version in VERSIONS if number % 2 == 0 else reversed(VERSIONS):
            runs[version].append(measure(sources[version]))
    return runs


def _own_latency(source: Path) -> dict[str, Any]:
    return _answer(source, {"PYTHONPATH": str(source)}, "tests.bench.latency", str(ALERT_COUNT))


def _events(source: Path, store: str, events: str) -> dict[str, Any]:
    return _answer(PROJECT, {"BENCH_SOURCE": str(source)}, "tests.bench.events", "latency", store, events)


def _answer(folder: Path, environment: Mapping[str, str], module: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{module} failed in {folder}:\n{done.stderr}")
    print(folder, *arguments, done.stdout.splitlines()[-1], file=sys.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(float(run.get(key, 0)) for run in runs)


def _of_events(runs: list[dict[str, Any]]) -> dict[str, Any]:
    names = {name for run in runs for name in run["requests_per_finding"]} & DYNAMODB
    return {
        "median": _median(runs, "median"),
        "p99": _median(runs, "p99"),
        "cpu_ms_per_finding": _median(runs, "cpu_ms_per_finding"),
        "dynamodb_per_finding": {
            name: _median([run["requests_per_finding"] for run in runs], name) for name in sorted(names)
        },
    }


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows for the table of `make bench`."""
    commit = figures["commit"][:7]
    poll = figures["poll"]
    yield f"change → Slack: median, at {commit} and now", _both(poll["before"], poll["now"]), "as fast"
    for what, each in figures["events"].items():
        store, rate = what.split()
        before, now = each["before"], each["now"]
        yield (
            f"event → Slack, {rate} per second, {store}: median, at {commit} and now",
            _both(before["median"], now["median"]),
            "as fast",
        )
        yield "  p99", _both(before["p99"], now["p99"]), ""
        cpu = (each[version]["cpu_ms_per_finding"] / 1000 for version in VERSIONS)
        yield "  processor time for each finding", _both(*cpu), ""
        if store == "dynamodb":
            for version in VERSIONS:
                counts = each[version]["dynamodb_per_finding"]
                shown = ", ".join(f"{count:.2f} {name}" for name, count in counts.items())
                yield f"  DynamoDB for each finding, {version}", shown, ""


def _both(before: float, now: float) -> str:
    return f"{1000 * before:.0f} ms and {1000 * now:.0f} ms: {now / before:.2f}"


if __name__ == "__main__":
    found = compared(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS)
    for row in rows(found):
        print(" | ".join(row), file=sys.stderr)
    print(json.dumps(found))
