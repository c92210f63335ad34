"""How soon `watcher run` is ready, and how much memory it uses when idle.

    python -m tests.bench.daemon

A real `watcher run` against a SageMaker that answers immediately, with a hundred quiet jobs.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from tests.bench.stubbed import daemon, stub

PASSES = 5


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
