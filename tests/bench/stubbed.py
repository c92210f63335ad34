"""Starts the stub of `tests.bench.stub` in a process of its own, so that its work is not measured."""

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
    """Its address, and a function that reads how often each operation was called."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.stub", str(jobs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    address = process.stdout.readline().strip()

    def calls() -> Counter[str]:
        with urllib.request.urlopen(address) as answer:
            return Counter(json.load(answer))

    try:
        yield address, calls
    finally:
        process.stdin.close()
        process.wait(10)
