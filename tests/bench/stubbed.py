"""Starts the stand-ins for AWS, and daemons that take them for AWS, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PYTHON = os.environ.get("BENCH_PYTHON", sys.executable)
"""Runs the daemons: of this one's minor version, so that it can load the packages of this environment."""
PROJECT = Path(__file__).parents[2]


@contextmanager
def stub(jobs: int) -> Iterator[tuple[str, Callable[[], Counter[str]]]]:
    """The address of `tests.bench.stub`, and a function that reads how often each operation was called."""
    with _started("stub", str(jobs)) as address:
        yield address, lambda: calls(address)


@contextmanager
def cloud(jobs: int, delay: float = 0.0) -> Iterator[str]:
    """The address of `tests.bench.cloud`; each of its answers takes `delay` seconds more."""
    with _started("cloud", str(jobs), str(delay)) as address:
        yield address


@contextmanager
def daemon(folder: Path, address: str) -> Iterator[subprocess.Popen[str]]:
    """A `watcher run` with the `watcher.toml` of a folder, once it is ready."""
    process = subprocess.Popen(
        [PYTHON, "-m", "watcher", "run"],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(PROJECT), sysconfig.get_path("purelib")]),
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    log = process.stderr
    try:
        while '"ready"' not in (line := log.readline()):
            if not line:
                sys.exit("watcher run ended before it was ready")
        threading.Thread(target=lambda: [None for _ in log], daemon=True).start()  # a full pipe would stop it
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
