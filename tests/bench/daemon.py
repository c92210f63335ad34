"""How soon `watcher run` is ready, and how much memory it uses when idle.

    python -m tests.bench.daemon

A real `watcher run` against a SageMaker that answers immediately, with a hundred quiet jobs. It is compared
with the same Python that has only made botocore's client of SageMaker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.stubbed import PYTHON, daemon, stub

PASSES = 5
BARE = """
from botocore.session import Session
Session().create_client("sagemaker", region_name="us-east-1")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS:")))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, stub(100) as (address, calls):
        Path(folder, "watcher.toml").write_text("[watch]\npoll_interval = 1\n")
        begin = time.monotonic()
        with daemon(Path(folder), address) as process:
            ready = time.monotonic() - begin
            while calls()["Search"] < PASSES or calls()["DescribeTrainingJob"] < 100:
                time.sleep(0.1)
            status = Path(f"/proc/{process.pid}/status").read_text()
            memory = {line.split()[0]: int(line.split()[1]) for line in status.splitlines() if " kB" in line}
            stopping = time.monotonic()
            process.terminate()
            code = process.wait()
            ended = time.monotonic()
        bare_seconds, bare_memory = bare()
        print(
            json.dumps(
                {
                    "ready_seconds": ready,
                    "ready_to_bare": ready / bare_seconds,
                    "idle_memory_mb": memory["VmRSS:"] / 1024,
                    "memory_to_bare": memory["VmRSS:"] / 1024 / bare_memory,
                    "exit_code_after_sigterm": code,
                    "seconds_to_exit": ended - stopping,
                }
            )
        )


def bare() -> tuple[float, float]:
    """Seconds and MB of a Python that makes a client and ends."""
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    begin = time.monotonic()
    done = subprocess.run([PYTHON, "-c", BARE], env=environment, capture_output=True, text=True, check=True)
    return time.monotonic() - begin, int(done.stdout) / 1024


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows for the table of `make bench`."""
    yield "Python of watcher run", figures["python"], "built with PGO"
    yield "watcher run: ready after", f"{figures['ready_seconds']:.2f} s", "< 2 s"
    yield "  ÷ a bare Python with botocore's client", f"{figures['ready_to_bare']:.1f}", ""
    yield "  memory, idle", f"{figures['idle_memory_mb']:.0f} MB", "< 120 MB"
    yield "  ÷ a bare Python with botocore's client", f"{figures['memory_to_bare']:.1f}", ""
    yield "  SIGTERM to exit", f"{figures['seconds_to_exit']:.2f} s", "< 10 s"


if __name__ == "__main__":
    main()
