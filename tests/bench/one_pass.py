"""One reconcile pass over many known jobs, compared with a bare client. Prints the figures as JSON.

    python -m tests.bench.one_pass JOBS

The first pass makes all jobs known. The second pass, in which nothing has changed, is measured. The bare
client requests the same pages over one connection, without a signature, and parses their JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

from tests.bench.stub import PAGE
from tests.bench.stubbed import stub
from watcher.config.settings import Config, StoreSettings
from watcher.daemon.app import App
from watcher.store.base import Look


def main(jobs: int) -> None:
    with stub(jobs) as (address, calls), tempfile.TemporaryDirectory() as folder:
        print(json.dumps(one_pass(jobs, address, calls, folder)))


def one_pass(jobs: int, stub: str, calls: Callable[[], Any], folder: str) -> dict[str, Any]:
    os.environ.update(AWS_ENDPOINT_URL=stub, AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench")
    app = App(Config(region="us-east-1", store=StoreSettings(url=f"sqlite:///{folder}/watcher.db")))

    def measure() -> dict[str, Any]:
        before, waiting, cpu = calls(), app.work.waiting(), time.process_time()
        app.reconciler.run()
        return {
            "cpu_seconds": time.process_time() - cpu,
            "calls": dict(calls() - before),
            "waiting_for_describe": app.work.waiting() - waiting,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }

    first = measure()
    # The state after the first Describe, which found no profiler rules: nothing is due.
    app.store.commit(
        [
            Look(record.snapshot, job.fingerprint, record.changed_at, watching=True, describe_at=None)
            for job in app.store.watching()
            if (record := app.store.job(job.run))
        ]
    )
    known = measure()
    app.close()
    bare = bare_cpu_seconds(jobs, stub)
    return {
        "first": first,
        "known": known,
        "bare_cpu_seconds": bare,
        "to_bare": known["cpu_seconds"] / bare,
    }


def bare_cpu_seconds(jobs: int, stub: str) -> float:
    status = {"Name": "TrainingJobStatus", "Operator": "Equals", "Value": "InProgress"}
    search: dict[str, Any] = {"SearchExpression": {"Filters": [status]}, "MaxResults": PAGE}
    connection, found = HTTPConnection(stub.removeprefix("http://")), 0
    cpu, more = time.process_time(), True
    while more:
        connection.request("POST", "/", json.dumps(search), {"X-Amz-Target": "SageMaker.Search"})
        page = json.load(connection.getresponse())
        found += len(page["Results"])
        search["NextToken"] = page.get("NextToken")
        more = search["NextToken"] is not None
    assert found == jobs
    connection.close()
    return time.process_time() - cpu


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows for the table of `make bench`."""
    for jobs, figure in figures.items():
        known, many = figure["known"], int(jobs) == 10_000
        calls = ", ".join(f"{count} {operation}" for operation, count in known["calls"].items())
        yield f"a pass over {int(jobs):,} known jobs: AWS calls", calls, f"{int(jobs) // PAGE + 1} Search"
        yield "  Describe calls due", str(known["waiting_for_describe"]), "0"
        yield "  CPU", f"{known['cpu_seconds']:.2f} s", "< 10 s" if many else ""
        yield "  ÷ a bare client that reads the same pages", f"{figure['to_bare']:.1f}", ""
        yield "  peak memory", f"{known['peak_memory_mb']:.0f} MB", "< 250 MB" if many else ""
        yield "  CPU of the first pass, with all jobs new", f"{figure['first']['cpu_seconds']:.2f} s", ""
    few, many_jobs = (figure["known"]["cpu_seconds"] for figure in figures.values())
    yield "CPU at 10,000 jobs ÷ CPU at 1,000", f"{many_jobs / few:.1f}", "about 10: linear"


if __name__ == "__main__":
    main(int(sys.argv[1]))
