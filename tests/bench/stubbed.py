"""Starts the stand-ins for AWS in processes of their own, so that their work is not measured."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
