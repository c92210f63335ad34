"""Starts the stand-ins for AWS, and daemons that use them, as separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PYTHON = os.environ.get("BENCH_PYTHON", sys.executable)
"""The Python of the daemons. It needs this one's minor version, to load this environment's packages."""
PROJECT = Path(__file__).parents[2]
SOURCE = Path(os.environ.get("BENCH_SOURCE", PROJECT))
"""The folder with the packages `watcher` and `rules` that the daemons run: see `tests.bench.before`."""


@contextmanager
def stub(jobs: int) -> Iterator[tuple[str, Callable[[], Counter[str]]]]:
    """The address of `tests.bench.stub`, and a function that returns the number of calls by operation."""
    with _started("stub", str(jobs)) as address:
        yield address, lambda: calls(address)


@contextmanager
def cloud(jobs: int, delay: float = 0.0) -> Iterator[str]:
    """The address of `tests.bench.cloud`, whose responses are delayed by `delay` seconds."""
    with _started("cloud", str(jobs), str(delay)) as address:
        yield address


@contextmanager
def daemon(folder: Path, address: str) -> Iterator[subprocess.Popen[str]]:
    """A ready `watcher run` with the `watcher.toml` of a folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SOURCE), sysconfig.get_path("purelib")]),
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with _ready([PYTHON, "-m", "watcher", "run"], folder, environment) as process:
        yield process


@contextmanager
def relay(queue_url: str, slack_url: str, token: str) -> Iterator[subprocess.Popen[str]]:
    """A ready `tests.bench.relay`."""
    words = [PYTHON, "-m", "tests.bench.relay", queue_url, slack_url, token]
    with _ready(words, PROJECT, dict(os.environ)) as process:
        yield process


@contextmanager
def _ready(
    words: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    log = process.stderr
    try:
        lines = []
        while '"ready"' not in (line := log.readline()):
            lines.append(line)
            if not line:
                sys.exit(f"{' '.join(words)} ended before it was ready:\n{''.join(lines[-20:])}")
        threading.Thread(
            target=lambda: [None for _ in log], daemon=True
        ).start()  # a full pipe would block it
        yield process
    finally:
        process.terminate()
        process.wait(20)


def calls(address: str) -> Counter[str]:
    with urllib.request.urlopen(f"{address}/calls") as answer:
        return Counter(json.load(answer))


@contextmanager
def _started(module: str, *arguments: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
