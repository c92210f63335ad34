"""How soon `watcher run` is ready, and what it weighs when nothing happens.

    python -m tests.bench.daemon

A real `watcher run` against a SageMaker that answers at once, with a hundred quiet jobs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.stubbed import stub

PASSES = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, stub(100) as (address, calls):
        Path(folder, "watcher.toml").write_text("[watch]\npoll_interval = 1\n")
        begin = time.monotonic()
        daemon = subprocess.Popen(
            [sys.executable, "-m", "watcher", "run"],
            cwd=folder,
            env={
                **os.environ,
                "AWS_ENDPOINT_URL": address,
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench",
                "AWS_DEFAULT_REGION": "us-east-1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        assert daemon.stderr is not None
        while '"ready"' not in daemon.stderr.readline():
            pass
        ready = time.monotonic() - begin
        while calls()["Search"] < PASSES or calls()["DescribeTrainingJob"] < 100:
            time.sleep(0.1)
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        memory = {line.split()[0]: int(line.split()[1]) for line in status.splitlines() if " kB" in line}
        stopping = time.monotonic()
        daemon.terminate()
        code = daemon.wait()
        print(
            json.dumps(
                {
                    "ready_seconds": ready,
                    "idle_memory_mb": memory["VmRSS:"] / 1024,
                    "exit_code_after_sigterm": code,
                    "seconds_to_exit": time.monotonic() - stopping,
                }
            )
        )


if __name__ == "__main__":
    main()
