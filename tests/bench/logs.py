"""`watcher logs` compared with awslogs, as whole processes on one sandbox. Prints the figures as JSON.

python -m tests.bench.logs              reading 5,000, 20,000 and 200,000 lines; following 300 streams
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
RUNS_BY_LINES = {5_000: 9, 20_000: 3, 200_000: 1}
"""Number of lines, and of runs. With few lines most of the time is Python's startup, which varies."""
FOLLOWED_STREAMS, WRITERS, FOLLOW_S = 300, 100, 60
AWSLOGS_MAX_STREAMS = 100
"""More streams are an error in awslogs."""
MEMORY_STREAMS, MEMORY_MINUTES = 1_000, 10
WRITE_S_PER_MINUTE = 52
"""Shorter than a minute, so that the last writer has noticed the end when the minute is over."""


def main(what: str = "") -> None:
    # As in an installation: with bytecode, which a checkout may be configured not to write, and buffered.
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as bytecode:
        os.environ["PYTHONPYCACHEPREFIX"] = bytecode
        print(json.dumps({"memory": memory()} if what == "memory" else reading_and_following()))


def reading_and_following() -> dict[str, Any]:
    get(min(RUNS_BY_LINES), runs=1)  # compiles the imports of both
    return {
        "get": {str(lines): get(lines, runs) for lines, runs in RUNS_BY_LINES.items()},
        "follow": {
            "watcher": _complete(follow([*WATCHER, "--follow", "--json"], FOLLOWED_STREAMS)),
            "awslogs": follow([*AWSLOGS, "--watch"], AWSLOGS_MAX_STREAMS),
        },
    }


def streams(count: int) -> list[str]:
    """The stream names of the instances of a training job."""
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
    """Read the same stream with both commands in turn, and return the medians."""
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
        sys.exit(
            f"the commands did not print the same {lines} lines: {len(ours)} and {len(texts['awslogs'])}"
        )
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
    started_at = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **sandbox.env}
    )
    seconds = time.monotonic() - started_at
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    requests = sandbox.control.calls().get("logs:FilterLogEvents", 0)
    return {"seconds": seconds, "cpu_seconds": cpu, "requests": requests}, done.stdout.splitlines()


# -- following ------------------------------------------------------------------------------------


def follow(command: Sequence[str], count: int) -> dict[str, Any]:
    """Writers append to all streams while the command follows them. Each line contains its time."""
    names = streams(count)
    with sandbox_with(names) as sandbox, _following(sandbox, command) as reader:
        time.sleep(5)  # it has started
        sandbox.control.forget_calls()
        started_at = time.monotonic()
        put = _write(sandbox, names, FOLLOW_S)
        requests = sandbox.control.calls().get("logs:FilterLogEvents", 0)
        minutes = (time.monotonic() - started_at) / 60
        reader.wait_for(put, timeout_s=60)
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
    """Each writer writes a line every few seconds. Returns the written lines."""
    put: list[str] = []
    until = time.monotonic() + seconds

    def writer(number: int) -> None:
        client, rng = sandbox.client("logs"), random.Random(number)
        while time.monotonic() < until:
            time.sleep(rng.uniform(2, 8))
            text = f"{number} {time.time():.6f}"
            client.put_log_events(
                logGroupName=TRAINING_LOGS,
                logStreamName=rng.choice(names),
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
    """Records when the command prints each line."""

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

    def wait_for(self, put: set[str], timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while put - self.seen.keys() and time.monotonic() < until and self.process.poll() is None:
            time.sleep(0.1)

    def error(self) -> str:
        """The last line of the command's stderr if it ended early."""
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


def _complete(figures: dict[str, Any]) -> dict[str, Any]:
    if figures["lost"] or figures["doubled"] or figures["error"]:
        sys.exit(f"lines were lost or repeated: {figures}")
    return figures


# -- memory ---------------------------------------------------------------------------------------


def memory() -> dict[str, Any]:
    """Resident memory in MB at the end of each minute."""
    names = streams(MEMORY_STREAMS)
    with (
        sandbox_with(names) as sandbox,
        _following(sandbox, [*WATCHER, "--follow", "--json"]) as reader,
    ):
        time.sleep(10)  # it has started
        put: set[str] = set()
        resident = []
        for _ in range(MEMORY_MINUTES):
            put |= _write(sandbox, names, WRITE_S_PER_MINUTE)
            resident.append(_resident_mb(reader.process.pid))
        reader.wait_for(put, timeout_s=60)
        figures = {
            "streams": len(names),
            "lines": len(put),
            "lost": len(put - reader.seen.keys()),
            "doubled": sum(times - 1 for times in reader.seen.values()),
            "error": reader.error(),
        }
    return {**_complete(figures), "resident_mb_each_minute": resident}


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows for the table of `make bench`."""
    for lines, read in figures["get"].items():
        ours, theirs = read["watcher"], read["awslogs"]
        yield (
            f"watcher logs, {int(lines):,} lines in one stream",
            f"{ours['seconds']:.2f} s, {ours['lines_per_second']:,.0f} lines/s, "
            f"{ours['requests']:.0f} requests",
            "",
        )
        yield "  its CPU time", f"{ours['cpu_seconds']:.2f} s", ""
        yield (
            "  awslogs get on the same lines",
            f"{theirs['seconds']:.2f} s, {theirs['requests']:.0f} requests",
            "",
        )
        yield "  awslogs ÷ watcher logs", f"{read['awslogs_by_watcher']:.2f}", "≥ 1"
    commands = {
        "watcher": "watcher logs --follow (polls every 2 s)",
        "awslogs": "awslogs get --watch (polls every second)",
    }
    for name, called in commands.items():
        followed = figures["follow"][name]
        yield (
            f"{called}, {WRITERS} writers to {followed['streams']} streams: write → print",
            _lag(followed),
            "",
        )
        yield (
            f"  lost and repeated of {followed['lines']:,} lines",
            f"{followed['lost']} and {followed['doubled']}",
            "none" if name == "watcher" else "",
        )
        yield "  requests per minute", f"{followed['requests_a_minute']:.0f}", ""


def _lag(followed: dict[str, Any]) -> str:
    if followed["median_lag"] is None:
        return f"no line: {followed['error']}"
    return f"median {followed['median_lag']:.1f} s, p99 {followed['p99_lag']:.1f} s"


if __name__ == "__main__":
    main(*sys.argv[1:])
