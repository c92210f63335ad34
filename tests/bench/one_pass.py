"""One reconcile pass over many known jobs, in its own process. Prints the figures as JSON.

    python -m tests.bench.one_pass STUB_ADDRESS FOLDER

The first pass makes all jobs known. The second pass, in which nothing has changed, is measured.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import urllib.request
from collections import Counter

from watcher.config.settings import Config, StoreSettings
from watcher.daemon.app import App
from watcher.store.base import Look


def main(stub: str, folder: str) -> None:
    os.environ.update(AWS_ENDPOINT_URL=stub, AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench")
    app = App(Config(region="us-east-1", store=StoreSettings(url=f"sqlite:///{folder}/watcher.db")))
    first = measure(app, stub)
    # The state after the first Describe, which found no profiler rules: nothing is due.
    app.store.commit(
        [
            Look(record.snapshot, job.fingerprint, record.changed_at, watching=True, describe_at=None)
            for job in app.store.watching()
            if (record := app.store.job(job.run))
        ]
    )
    known = measure(app, stub)
    app.close()
    print(json.dumps({"first": first, "known": known}))


def measure(app: App, stub: str) -> dict[str, object]:
    before, waiting = calls(stub), app.work.waiting()
    cpu, wall = time.process_time(), time.monotonic()
    app.reconciler.run()
    return {
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.monotonic() - wall,
        "calls": dict(calls(stub) - before),
        "waiting_for_describe": app.work.waiting() - waiting,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def calls(stub: str) -> Counter[str]:
    with urllib.request.urlopen(stub) as answer:
        return Counter(json.load(answer))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
