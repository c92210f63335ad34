"""The cost of one day in AWS requests and in money, compared with a simple self-written poller.

    python -m tests.bench.cost JOBS

One replica as `deploy/ecs.yaml` runs it, with a queue and with its state in DynamoDB. The daemon's own code
does each of its activities once against `tests.bench.cloud`, which counts requests and DynamoDB's request
units. The counts are multiplied by how often a day has each activity, from the intervals in the code.
Assumptions:

- JOBS jobs are always in progress; each runs for `JOB_HOURS` and is then replaced by another,
- each has one Debugger rule, and `EVENTS_PER_JOB` events of the job and of the rule's processing job arrive,
- each saves tensors, one step every `SAVE_INTERVAL_S` seconds, which Watcher also evaluates,
- one in `JOBS_PER_FINDING` has a finding, which goes to one channel.

A job that saves no tensors is evaluated on its metrics, for which CloudWatch charges. This is shown
separately. Every event counts as arriving alone, although a busy queue delivers up to ten per request.

Not counted: Fargate, and CloudWatch Logs, where reading is free and limited to a few requests per second.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.bench.stubbed import calls, cloud
from tests.doubles.slack import SlackDouble
from watcher.aws.queue import LONG_POLL_S
from watcher.aws.sagemaker import TrainingJobs
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.daemon.evaluation_worker import MAX_IDLE_S
from watcher.delivery.outbox import MAX_CLAIM_INTERVAL_S
from watcher.evaluation.pace import MAX_LOOK_INTERVAL_S, METRIC_INTERVAL_S
from watcher.jobs.pipeline import fingerprint
from watcher.model import Evaluation
from watcher.store.base import Look

DAY_S = 86_400
JOB_HOURS = 6
EVENTS_PER_JOB = 12
SAVE_INTERVAL_S = 60
JOBS_PER_FINDING = 20
METRICS_PER_JOB = 2
SELF_WRITTEN_INTERVAL_S = 10
"""How often a self-written poller typically describes each job."""

DOLLARS = {
    "SQS": 0.40e-6,
    "S3 LIST": 0.005e-3,
    "S3 GET": 0.0004e-3,
    "DynamoDB write units": 0.625e-6,
    "DynamoDB read units": 0.125e-6,
    "GetMetricData metrics": 0.01e-3,
}
"""US dollars per request or unit: list prices of us-east-1 in November 2025, with DynamoDB on demand and
without free tiers. SageMaker's Describe and Search are free but have quotas."""

_BILLED_AS = {
    "ReceiveMessage": "SQS",
    "DeleteMessageBatch": "SQS",
    "SendMessageBatch": "SQS",
    "ChangeMessageVisibilityBatch": "SQS",
    "ListObjectsV2": "S3 LIST",
    "GetObject": "S3 GET",
    "write units": "DynamoDB write units",
    "read units": "DynamoDB read units",
}


def main(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as folder, cloud(jobs) as address, SlackDouble() as slack:
        os.chdir(folder)
        os.environ |= {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
        config = Config.model_validate(
            {
                "watch": {"queue_url": f"{address}/111122223333/watcher"},
                "store": {"url": "dynamodb://watcher"},
                "slack": {"bot_token": slack.token, "channel": "#alerts", "api_url": slack.api_url},
            }
        )
        app = App(config)
        once = Counts(app, address).everything()
        app.close()
    day = requests_per_day(jobs, config.watch.reconcile_every, once)
    describes = jobs * DAY_S // SELF_WRITTEN_INTERVAL_S
    print(
        json.dumps(
            {
                "jobs": jobs,
                "once": once,
                "requests": day,
                "dollars": dollars(day),
                "dollars_for_metrics": dollars_for_metrics(jobs),
                "self_written": {"DescribeTrainingJob": describes, "a_second": describes / DAY_S},
            }
        )
    )


def requests_per_day(jobs: int, reconcile_every: float, once: dict[str, Counter[str]]) -> dict[str, int]:
    job_runs = jobs * 24 / JOB_HOURS
    times = {
        "pass": DAY_S / reconcile_every,
        "long poll": DAY_S / LONG_POLL_S,
        "idle outbox": DAY_S / MAX_CLAIM_INTERVAL_S,
        "idle evaluators": DAY_S / MAX_IDLE_S,
        "event": job_runs * EVENTS_PER_JOB,
        "finding": job_runs / JOBS_PER_FINDING,
        "evaluation of a job": jobs * DAY_S / MAX_LOOK_INTERVAL_S,
    }
    total = Counter[str]({"GetObject": round(jobs * DAY_S / SAVE_INTERVAL_S)})
    for what, often in times.items():
        for operation, count in once[what].items():
            total[operation] += round(count * often)
    return dict(sorted(total.items()))


def dollars(requests: dict[str, int]) -> dict[str, float]:
    """US dollars by billed item."""
    bill = dict.fromkeys(_BILLED_AS.values(), 0.0)
    for operation, count in requests.items():
        if billed_as := _BILLED_AS.get(operation):
            bill[billed_as] += count * DOLLARS[billed_as]
    return bill


def dollars_for_metrics(jobs: int) -> float:
    """CloudWatch's price for a day on which no job saves tensors and all are evaluated on their metrics."""
    return jobs * METRICS_PER_JOB * DAY_S / METRIC_INTERVAL_S * DOLLARS["GetMetricData metrics"]


class Counts:
    """The daemon's AWS requests for each of its activities."""

    def __init__(self, app: App, address: str) -> None:
        assert app.queued
        self._app, self._queued, self._address = app, app.queued, address

    def everything(self) -> dict[str, Counter[str]]:
        app, now = self._app, datetime.now(UTC)
        snapshots = [job for page in TrainingJobs(app.accounts.home).in_progress({}) for job in page]
        for start in range(0, len(snapshots), 100):
            batch = snapshots[start : start + 100]
            app.store.commit([Look(job, fingerprint(job), now, True, None) for job in batch])
        counted = {
            "pass": self._of(app.reconciler.run),
            "long poll": self._of(lambda: self._queued.receive(wait=0)),
            "idle outbox": self._of(lambda: app.store.claim("cost", now, 1, 1)),
            "idle evaluators": self._of(self._no_evaluation_due),
            "event": self._of(lambda: self._event(fires=False)),
        }
        counted["finding"] = self._of(lambda: self._event(fires=True)) - counted["event"]
        job = snapshots[-1]
        due = Evaluation(due_at=now - timedelta(seconds=1))
        app.store.commit([Look(job, fingerprint(job), now, True, None, evaluations=(due,))])
        counted["evaluation of a job"] = self._of(app.evaluations.evaluate_due)
        return counted

    def _no_evaluation_due(self) -> None:
        self._app.evaluations.evaluate_due()
        self._app.store.next_evaluation()

    def _event(self, *, fires: bool) -> None:
        body = json.dumps({"first": 0, "count": 1, "rate": 0, "fires": fires}).encode()
        urllib.request.urlopen(f"{self._address}/events", body).close()
        self._queued.receive()
        arn = self._queued.take()
        assert arn
        self._app.pipeline.look_again(arn)
        self._queued.done(arn)
        self._queued.settle()
        if fires:
            assert self._app.outbox.run_until_empty(10)

    def _of(self, what: Callable[[], object]) -> Counter[str]:
        before = calls(self._address)
        what()
        return calls(self._address) - before


def rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows for the table of `make bench`."""
    found = []
    for jobs, figure in figures.items():
        requests, bill, own = figure["requests"], figure["dollars"], figure["self_written"]
        shown = ", ".join(f"{count:,} {name}" for name, count in requests.items() if "units" not in name)
        bought = ", ".join(f"{dollars:.2f} {name}" for name, dollars in bill.items())
        passed = ", ".join(f"{count} {name}" for name, count in figure["once"]["pass"].items())
        found += [
            (
                f"a pass over {int(jobs):,} known jobs, with a queue: AWS requests",
                passed,
                f"{math.ceil(int(jobs) / 100) + 1} Search",
            ),
            (f"a day with {int(jobs):,} jobs in progress: AWS requests", shown, ""),
            ("  US dollars", f"{sum(bill.values()):.2f}: {bought}", ""),
            (
                "  US dollars for metrics if no job saves tensors",
                f"{figure['dollars_for_metrics']:.2f}",
                "",
            ),
            (
                "  for comparison: DescribeTrainingJob for each job every 10 s",
                f"{own['DescribeTrainingJob']:,}, or {own['a_second']:,.0f} per second",
                "",
            ),
        ]
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]))
