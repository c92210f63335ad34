"""The time from an event on the queue to the request at Slack, and the findings per second of replicas.

    python -m tests.bench.events latency sqlite|dynamodb|bare RATE:COUNT …
    python -m tests.bench.events replicas COUNT FINDINGS

Uses real `watcher run` processes and Slack's double. AWS is `tests.bench.cloud`, because moto answers only
some 300 requests per second and would be the bottleneck. Each event is about a known job whose rule has just
found an issue; the alert has a log excerpt. There are enough channels for a hundred alerts per second,
because Slack allows one per second and channel. Watcher's own evaluation is off, because it reads tensors and
not events.

For latencies the daemon has one processor, as `deploy/ecs.yaml` starts it, and its counterparts have the
others. It has already found the logs of the rules in progress, as it has some minutes after its start. The
same is measured of the bare client `tests.bench.relay`, which only describes the job and posts a line.

Time is measured from the event's arrival on the queue to the arrival of the request at Slack.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.bench.stubbed import calls, cloud, daemon, relay
from tests.doubles.slack import Conversation, SlackDouble, Workspace

CHANNEL_COUNT = 100
NETWORK_DELAY_S = 0.005
"""AWS's response time for replicas. Without it two processes would only compete for two cores."""
WARM_UP_EVENTS = 16
"""Events sent in advance, because the first finding triggers late imports."""
TIMEOUT_S = 120.0
WAIT_TIMEOUT_S = 120.0
IDLE_REQUESTS = frozenset({"ReceiveMessage", "Query", "read units"})
"""What an idle daemon requests: long polls, and every few seconds what is due. Four of them together never
pause for two seconds."""
QUIET_S = 2.0
"""Time without any other request, after which the first pass and its results are complete."""

_JOB = re.compile(r"bench-xgb-2026-11-20-12-00-\d{5}")


def main() -> None:
    match sys.argv[1:]:
        case ["latency", store, *rates]:
            answer = latency(store, [(int(rate), int(count)) for rate, _, count in map(_split, rates)])
        case ["replicas", count, findings]:
            answer = replicas(int(count), int(findings))
        case _:
            sys.exit(__doc__)
    print(json.dumps(answer))


def latency(store: str, rates: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Latencies in seconds, processor time, and requests to AWS with DynamoDB's request units; by events per
    second."""
    answer = {}
    jobs = WARM_UP_EVENTS + sum(count for _, count in rates)
    with _running(1, store, jobs, apart=True) as bench:
        if store != "bare":
            bench.wait_until_logs_are_found(jobs)
        for rate, count in rates:
            before, cpu = calls(bench.address), bench.cpu()
            seconds = sorted(arrived - put for put, arrived in bench.send(count, rate))
            bench.wait_until_quiet()  # what is written after the last alert belongs to it
            made, used = calls(bench.address) - before, bench.cpu() - cpu
            answer[str(rate)] = {
                "events": count,
                "median": statistics.median(seconds),
                "p99": seconds[min(int(0.99 * count), count - 1)],
                "worst": seconds[-1],
                "cpu_ms_per_finding": 1000 * used / count,
                "requests_per_finding": {name: made[name] / count for name in sorted(made)},
            }
    return answer


def replicas(count: int, findings: int) -> dict[str, Any]:
    """Send all events at once, and measure the time until the last alert."""
    with _running(count, "dynamodb", WARM_UP_EVENTS * count + findings, NETWORK_DELAY_S) as bench:
        bench.reset_cpu()
        arrived = bench.send(findings, 0)
        seconds = max(at for _, at in arrived) - min(put for put, _ in arrived)
        return {"replicas": count, "findings_per_second": findings / seconds, "cpu_seconds": bench.cpu()}


class Bench:
    """Daemons that know all jobs and wait for events."""

    def __init__(self, address: str, slack: SlackDouble, daemons: Sequence[subprocess.Popen[str]]) -> None:
        self.address, self._slack, self._daemons = address, slack, daemons
        self._sent = 0
        self._cpu = 0.0

    def send(self, count: int, rate: float) -> list[tuple[float, float]]:
        """Send events, and return for each when it was sent and when its alert reached Slack."""
        body = json.dumps({"first": self._sent, "count": count, "rate": rate}).encode()
        urllib.request.urlopen(f"{self.address}/events", body).close()
        self._sent += count
        until = time.monotonic() + count / (rate or count) + TIMEOUT_S
        while self._slack.calls["chat.postMessage"] < self._sent or len(self._slack.messages) < self._sent:
            if time.monotonic() > until:
                sys.exit(f"only {len(self._slack.messages)} of {self._sent} alerts arrived in time")
            time.sleep(0.2)
        with urllib.request.urlopen(f"{self.address}/put") as answer:
            put = json.load(answer)
        arrived = {_job(message): float(message["ts"]) for message in self._slack.messages}
        return [(put[job], arrived[job]) for job in list(put)[-count:]]

    def wait_until_quiet(self) -> None:
        before, since = calls(self.address), time.monotonic()
        until = since + WAIT_TIMEOUT_S
        while time.monotonic() - since < QUIET_S or not before["DescribeTrainingJob"]:
            _sleep(until, "the daemons did not come to rest")
            now = calls(self.address)
            if (now - before).keys() - IDLE_REQUESTS:
                before, since = now, time.monotonic()

    def wait_until_logs_are_found(self, jobs: int) -> None:
        until = time.monotonic() + WAIT_TIMEOUT_S
        while calls(self.address)["DescribeLogStreams"] < jobs:
            _sleep(until, "not all logs of the rules were looked for")

    def reset_cpu(self) -> None:
        """Count processor time from now on."""
        self._cpu -= self.cpu()

    def cpu(self) -> float:
        """Processor seconds of all daemons."""
        ticks = 0
        for process in self._daemons:
            stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(stat[11]) + int(stat[12])
        return self._cpu + ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def _running(
    replicas: int, store: str, jobs: int, delay: float = 0.0, *, apart: bool = False
) -> Iterator[Bench]:
    workspace = Workspace(
        conversations=[Conversation(f"C{n:010d}", f"team-{n:02d}") for n in range(CHANNEL_COUNT)]
    )
    with ExitStack() as stack:
        theirs, others = _processors(apart)
        stack.enter_context(_on(others))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(cloud(jobs, delay))
        slack = stack.enter_context(SlackDouble(workspace))
        url = "dynamodb://watcher" if store == "dynamodb" else f"sqlite:///{folder}/watcher.db"
        (folder / "watcher.toml").write_text(_configuration(address, slack, url))
        with _on(theirs):
            started = (
                relay(f"{address}/111122223333/watcher", slack.api_url, slack.token)
                if store == "bare"
                else daemon(folder, address)
                for _ in range(replicas)
            )
            daemons = [stack.enter_context(each) for each in started]
        bench = Bench(address, slack, daemons)
        if store != "bare":
            bench.wait_until_quiet()
        bench.send(WARM_UP_EVENTS * replicas, 0)
        bench.wait_until_quiet()
        yield bench


def _sleep(until: float, problem: str) -> None:
    if time.monotonic() > until:
        sys.exit(f"{problem} within {WAIT_TIMEOUT_S:.0f} s")
    time.sleep(0.2)


def _processors(apart: bool) -> tuple[set[int], set[int]]:
    """The processors for the daemons, and those for their counterparts."""
    every = os.sched_getaffinity(0)
    if not apart or len(every) == 1:
        return every, every
    return {max(every)}, every - {max(every)}


@contextmanager
def _on(processors: set[int]) -> Iterator[None]:
    """Threads and processes started inside the block run only on these processors."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _configuration(address: str, slack: SlackDouble, store: str) -> str:
    routes = (f'[[route]]\njob = "*{n:02d}"\nto = ["slack:#team-{n:02d}"]\n' for n in range(CHANNEL_COUNT))
    return f"""
[watch]
queue_url = "{address}/111122223333/watcher"
[rules]
local = "off"
[store]
url = "{store}"
[http]
listen = ""
[slack]
bot_token = "{slack.token}"
channel = "#team-00"
api_url = "{slack.api_url}"
{"".join(routes)}"""


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows for the table of `make bench`."""
    yield "Python of watcher run", figures["python"], "built with PGO"
    for store in ("sqlite", "dynamodb"):
        for rate, figure in figures[store].items():
            expected = "median < 0.15 s, p99 < 1 s" if rate == "50" else ""
            seconds = f"median {figure['median']:.3f} s, p99 {figure['p99']:.3f} s"
            yield f"event → Slack, {rate} per second, {store}", seconds, expected
            bare = figures["bare"][rate]
            median, cpu = (figure[key] / bare[key] for key in ("median", "cpu_ms_per_finding"))
            yield "  ÷ a bare client that only describes and posts", f"{median:.1f}, CPU {cpu:.1f}", ""


def replica_rows(figures: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Rows for the table of `make bench`."""
    one = figures[0]["findings_per_second"]
    for figure in figures:
        throughput = f"{figure['findings_per_second']:.0f} ({figure['cpu_seconds']:.0f} s of CPU)"
        yield f"findings per second, replicas: {figure['replicas']}", throughput, ""
        if figure["replicas"] > 1:
            yield "  ÷ one replica", f"{figure['findings_per_second'] / one:.1f}", ""


def _job(message: dict[str, Any]) -> str:
    found = _JOB.search(json.dumps(message["blocks"]))
    assert found, "an alert names its job"
    return found[0]


def _split(rate: str) -> tuple[str, str, str]:
    return rate.partition(":")


if __name__ == "__main__":
    main()
