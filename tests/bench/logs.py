"""`watcher logs` beside awslogs, as whole processes on one sandbox; prints the figures as JSON.

python -m tests.bench.logs              reading 5,000, 50,000 and 200,000 lines; following 300 streams
python -m tests.bench.logs memory       ten minutes of following 1,000 streams; not part of `make bench`
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from watcher.aws.links import TRAINING_LOGS
from watcher.sandbox.process import Sandbox

BIN = Path(sys.executable).parent
WATCHER = [str(BIN / "watcher"), "logs", "churn", "--training", "--utc"]
AWSLOGS = [
    str(BIN / "awslogs"),
    "get",
    TRAINING_LOGS,
    "churn/.*",
    "--no-group",
    "--no-stream",
    "--start",
    "1d",
]
SIZES = {5_000: 9, 50_000: 3, 200_000: 3}
"""Lines, and how often they are read. Of few lines, most of the time is Python's to begin, which varies."""
FOLLOWED, WRITERS, SECONDS = 300, 100, 60
AWSLOGS_FOLLOWS = 100
"""More streams are an error there."""
MOST_FOLLOWED, MINUTES = 1_000, 10
WRITTEN_A_MINUTE = 52
"""Seconds; by then the last writer has noticed that the minute is over."""


def main(what: str = "") -> None:
    # As where they are installed: with bytecode, which a checkout may be forbidden to keep, and buffered.
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as bytecode:
        os.environ["PYTHONPYCACHEPREFIX"] = bytecode
        print(json.dumps({"memory": memory()} if what == "memory" else reading_and_following()))


def reading_and_following() -> dict[str, Any]:
    get(min(SIZES), runs=1)  # compiles what both import
    return {
        "get": {str(lines): get(lines, runs) for lines, runs in SIZES.items()},
        "follow": {
            "watcher": _all_of(follow([*WATCHER, "--follow", "--json"], FOLLOWED)),
            "awslogs": follow([*AWSLOGS, "--watch"], AWSLOGS_FOLLOWS),
        },
    }


def streams(count: int) -> list[str]:
    """One for each instance of a training job."""
    return [f"churn/algo-{number}-1763458480000" for number in range(1, count + 1)]


@contextmanager
def sandbox_with(names: Sequence[str]) -> Iterator[Sandbox]:
    with Sandbox.start() as sandbox:
        sandbox.control.put_training_job("churn")
        logs = sandbox.client("logs")
        logs.create_log_group(logGroupName=TRAINING_LOGS)
        for name in names:
            logs.create_log_stream(logGroupName=TRAINING_LOGS, logStreamName=name)
        yield sandbox


# -- reading --------------------------------------------------------------------------------------


def get(lines: int, runs: int) -> dict[str, Any]:
    """The same stream by both, in turn; medians."""
    [stream] = streams(1)
    commands = {"watcher": WATCHER, "awslogs": AWSLOGS}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    texts: dict[str, list[str]] = {}
    with sandbox_with([stream]) as sandbox:
        _fill(sandbox, stream, lines)
        for _ in range(runs):
            for name, command in commands.items():
                figures, texts[name] = _run(sandbox, command)
                measured[name].append(figures)
    ours = [line.split(" ", 2)[2] for line in texts["watcher"]]
    if ours != texts["awslogs"] or len(ours) != lines:
        sys.exit(f"not the same {lines} lines: {len(ours)} and {len(texts['awslogs'])}")
    found: dict[str, Any] = {
        name: {key: statistics.median(run[key] for run in each) for key in each[0]}
        for name, each in measured.items()
    }
    for each in found.values():
        each["lines_per_second"] = lines / each["seconds"]
    return {**found, "awslogs_by_watcher": found["awslogs"]["seconds"] / found["watcher"]["seconds"]}


def _fill(sandbox: Sandbox, stream: str, lines: int) -> None:
    logs = sandbox.client("logs")
    begin = int(time.time() * 1000) - 3_600_000
    for start in range(0, lines, 10_000):
        events = [
            {
                "timestamp": begin + number // 2,
                "message": f"[{number}]\ttrain-error:0.{number:06d} {'.' * 60}",
            }
            for number in range(start, min(start + 10_000, lines))
        ]
        logs.put_log_events(logGroupName=TRAINING_LOGS, logStreamName=stream, logEvents=events)


def _run(sandbox: Sandbox, command: Sequence[str]) -> tuple[dict[str, float], list[str]]:
    sandbox.control.forget_calls()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **sandbox.env}
    )
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    requests = sandbox.control.calls().get("logs:FilterLogEvents", 0)
    return {"seconds": seconds, "cpu_seconds": cpu, "requests": requests}, done.stdout.splitlines()


# -- following ------------------------------------------------------------------------------------


def follow(command: Sequence[str], count: int) -> dict[str, Any]:
    """Writers append to all streams while the command follows them; each line says when it was put."""
    names = streams(count)
    with sandbox_with(names) as sandbox, _following(sandbox, command) as reader:
        time.sleep(5)  # it has begun
        sandbox.control.forget_calls()
        began = time.monotonic()
        put = _write(sandbox, names, SECONDS)
        requests = sandbox.control.calls().get("logs:FilterLogEvents", 0)
        minutes = (time.monotonic() - began) / 60
        reader.wait_for(put, patience=60)
        lags = sorted(reader.lags.values())
    return {
        "streams": count,
        "lines": len(put),
        "lost": len(put - reader.seen.keys()),
        "doubled": sum(times - 1 for times in reader.seen.values()),
        "median_lag": statistics.median(lags) if lags else None,
        "p99_lag": lags[int(len(lags) * 0.99)] if lags else None,
        "requests_a_minute": requests / minutes,
        "error": reader.error(),
    }


def _write(sandbox: Sandbox, names: Sequence[str], seconds: float) -> set[str]:
    """Each writer puts a line every few seconds; returns what was put."""
    put: list[str] = []
    until = time.monotonic() + seconds

    def writer(number: int) -> None:
        client, chance = sandbox.client("logs"), random.Random(number)
        while time.monotonic() < until:
            time.sleep(chance.uniform(2, 8))
            text = f"{number} {time.time():.6f}"
            client.put_log_events(
                logGroupName=TRAINING_LOGS,
                logStreamName=chance.choice(names),
                logEvents=[{"timestamp": int(time.time() * 1000), "message": text}],
            )
            put.append(text)

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return set(put)


class _Reader:
    """Notes when each line comes out of the command."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: Counter[str] = Counter()
        self.lags: dict[str, float] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            now = time.time()
            text = json.loads(line)["message"] if line.startswith("{") else line.strip()
            self.seen[text] += 1
            self.lags.setdefault(text, now - float(text.split()[1]))

    def wait_for(self, put: set[str], patience: float) -> None:
        until = time.monotonic() + patience
        while put - self.seen.keys() and time.monotonic() < until and self.process.poll() is None:
            time.sleep(0.1)

    def error(self) -> str:
        """The last line of what it complained of, where it ended before its time."""
        if self.process.poll() is None:
            return ""
        assert self.process.stderr
        return (self.process.stderr.read().strip().splitlines() or [""])[-1]


@contextmanager
def _following(sandbox: Sandbox, command: Sequence[str]) -> Iterator[_Reader]:
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **sandbox.env},
    )
    try:
        yield _Reader(process)
    finally:
        process.terminate()
        process.wait()


def _all_of(figures: dict[str, Any]) -> dict[str, Any]:
    if figures["lost"] or figures["doubled"] or figures["error"]:
        sys.exit(f"lines were lost or doubled: {figures}")
    return figures


# -- memory ---------------------------------------------------------------------------------------


def memory() -> dict[str, Any]:
    """Resident memory at the end of each minute."""
    names = streams(MOST_FOLLOWED)
    with (
        sandbox_with(names) as sandbox,
        _following(sandbox, [*WATCHER, "--follow", "--json"]) as reader,
    ):
        time.sleep(10)  # it has begun
        put: set[str] = set()
        resident = []
        for _ in range(MINUTES):
            put |= _write(sandbox, names, WRITTEN_A_MINUTE)
            resident.append(_resident_mb(reader.process.pid))
        reader.wait_for(put, patience=60)
        figures = {
            "streams": len(names),
            "lines": len(put),
            "lost": len(put - reader.seen.keys()),
            "doubled": sum(times - 1 for times in reader.seen.values()),
            "error": reader.error(),
        }
    return {**_all_of(figures), "resident_mb_each_minute": resident}


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """For the table of `make bench`."""
    for lines, read in figures["get"].items():
        ours, theirs = read["watcher"], read["awslogs"]
        yield (
            f"watcher logs, {int(lines):,} lines in one stream",
            f"{ours['seconds']:.2f} s, {ours['lines_per_second']:,.0f} lines/s, "
            f"{ours['requests']:.0f} requests",
            "",
        )
        yield "  of that, its own CPU", f"{ours['cpu_seconds']:.2f} s", ""
        yield (
            "  awslogs get, the same lines",
            f"{theirs['seconds']:.2f} s, {theirs['requests']:.0f} requests",
            "",
        )
        yield "  awslogs ÷ watcher logs", f"{read['awslogs_by_watcher']:.2f}", "≥ 1"
    commands = {
        "watcher": "watcher logs --follow (looks every 2 s)",
        "awslogs": "awslogs get --watch (looks every second)",
    }
    for name, called in commands.items():
        followed = figures["follow"][name]
        yield f"{called}, {WRITERS} writers to {followed['streams']} streams: put → print", _lag(followed), ""
        yield (
            f"  lost and doubled of {followed['lines']:,} lines",
            f"{followed['lost']} and {followed['doubled']}",
            "none" if name == "watcher" else "",
        )
        yield "  requests a minute", f"{followed['requests_a_minute']:.0f}", ""


def _lag(followed: dict[str, Any]) -> str:
    if followed["median_lag"] is None:
        return f"nothing: {followed['error']}"
    return f"median {followed['median_lag']:.1f} s, p99 {followed['p99_lag']:.1f} s"


if __name__ == "__main__":
    main(*sys.argv[1:])
