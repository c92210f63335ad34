"""Runs measurements in processes of their own within a time limit, and tells how busy the machine was."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotMeasured(Exception):
    """A measurement failed or took too long."""


@dataclass(frozen=True)
class Bench:
    """Measures with modules of `tests.bench` until its time is over."""

    deadline: float
    """On the monotonic clock, in seconds."""

    def measure(self, module: str, *arguments: str) -> dict[str, Any]:
        """The last line that a module prints.

        Raises:
            NotMeasured: it failed or took too long. No process of it is left.
        """
        called = " ".join((f"tests.bench.{module}", *arguments))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            process = subprocess.Popen(
                [sys.executable, "-m", f"tests.bench.{module}", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "TMPDIR": folder},
                start_new_session=True,
            )
            try:
                printed, errors = process.communicate(timeout=max(self.deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                raise NotMeasured(f"{called} was not finished in time") from None
            finally:
                _kill(process)
        if process.returncode:
            raise NotMeasured(f"{called} failed:\n{errors}")
        answer: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return answer


def _kill(process: subprocess.Popen[str]) -> None:
    """End it, if it is running, with the processes that it started. A sandbox has a session of its own, and
    ends because its standard input closes."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@dataclass
class Usage:
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of this process and of its children that have ended."""
    others: float = 0.0
    """The share of the machine's processor time that went to processes other than this one and its children;
    0 where the system does not tell."""


@contextmanager
def usage() -> Iterator[Usage]:
    """What the block used, filled in at its end."""
    used, begin, busy, own = Usage(), time.monotonic(), _busy(), _own()
    try:
        yield used
    finally:
        used.seconds = time.monotonic() - begin
        used.cpu_seconds = _own() - own
        others = _busy() - busy - used.cpu_seconds
        used.others = max(0.0, others / (used.seconds * (os.cpu_count() or 1)))


def _own() -> float:
    """Processor seconds of this process and of the children that have ended."""
    return sum(
        each.ru_utime + each.ru_stime
        for each in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _busy() -> float:
    """Processor seconds of all processes since the start of the machine, with what the hypervisor took."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    first = stat.read_text().splitlines()[0]
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, first.split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
