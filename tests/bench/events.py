"""From an event on the queue to the request at Slack, and how many findings a second replicas manage.

    python -m tests.bench.events latency sqlite|dynamodb RATE:COUNT …
    python -m tests.bench.events replicas COUNT FINDINGS

Real `watcher run`s and Slack's double; AWS is `tests.bench.cloud`, since moto answers some 300 requests a
second whoever asks, and would be what is measured. Each event is about a job that is known and whose rule has
just found an issue; the alert carries a log excerpt. There are as many channels as Slack wants at a hundred
alerts a second, one a second in each. Watcher's own evaluation is off: it reads tensors, not events.

Of a latency, the daemon keeps to one processor, as `deploy/ecs.yaml` starts it, and what it talks to has the
others; and it has found the logs of the rules in progress, as it has some minutes after its start.

The clock runs from the event's arrival on the queue to Slack's taking the request.
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

from tests.bench.stubbed import calls, cloud, daemon
from tests.doubles.slack import Conversation, SlackDouble, Workspace

CHANNELS = 100
NETWORK = 0.005
"""Seconds that AWS takes to answer replicas: without them two processes would only share two cores."""
WARM_UP = 16
"""Events in advance: with the first finding comes what is imported late."""
PATIENCE = 120.0
QUIET = 2.0
"""Seconds without a request but long polls: the first pass, and what follows from it, is over."""

_JOB = re.compile(r"bench-xgb-2026-11-20-12-00-\d{5}")


def main() -> None:
    match sys.argv[1:]:
        case ["latency", store, *rates]:
            answer = latency(store, [(int(rate), int(count)) for rate, _, count in map(_parted, rates)])
        case ["replicas", count, findings]:
            answer = replicas(int(count), int(findings))
        case _:
            sys.exit(__doc__)
    print(json.dumps(answer))


def latency(store: str, rates: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Seconds, by the events a second."""
    answer = {}
    jobs = WARM_UP + sum(count for _, count in rates)
    with _running(1, store, jobs, apart=True) as bench:
        bench.wait_until_logs_are_found(jobs)
        for rate, count in rates:
            seconds = sorted(arrived - put for put, arrived in bench.tell(count, rate))
            answer[str(rate)] = {
                "events": count,
                "median": statistics.median(seconds),
                "p99": seconds[min(int(0.99 * count), count - 1)],
                "worst": seconds[-1],
            }
    return answer


def replicas(count: int, findings: int) -> dict[str, Any]:
    """All events are put at once; from the first to the last alert."""
    with _running(count, "dynamodb", WARM_UP * count + findings, NETWORK) as bench:
        bench.forget()
        arrived = bench.tell(findings, 0)
        seconds = max(at for _, at in arrived) - min(put for put, _ in arrived)
        return {"replicas": count, "findings_per_second": findings / seconds, "cpu_seconds": bench.cpu()}


class Bench:
    """Daemons that know all jobs, and wait for events."""

    def __init__(self, address: str, slack: SlackDouble, daemons: Sequence[subprocess.Popen[str]]) -> None:
        self._address, self._slack, self._daemons = address, slack, daemons
        self._told = 0
        self._cpu = 0.0

    def tell(self, count: int, rate: float) -> list[tuple[float, float]]:
        """Put so many events; of each, when it was put and when Slack had its alert."""
        asked = json.dumps({"first": self._told, "count": count, "rate": rate}).encode()
        urllib.request.urlopen(f"{self._address}/events", asked).close()
        self._told += count
        until = time.monotonic() + count / (rate or count) + PATIENCE
        while self._slack.calls["chat.postMessage"] < self._told or len(self._slack.messages) < self._told:
            if time.monotonic() > until:
                sys.exit(f"only {len(self._slack.messages)} of {self._told} alerts arrived in time")
            time.sleep(0.2)
        with urllib.request.urlopen(f"{self._address}/put") as answer:
            put = json.load(answer)
        arrived = {_job(message): float(message["ts"]) for message in self._slack.messages}
        return [(put[job], arrived[job]) for job in list(put)[-count:]]

    def wait_until_quiet(self) -> None:
        before, since = calls(self._address), time.monotonic()
        while time.monotonic() - since < QUIET or not before["DescribeTrainingJob"]:
            time.sleep(0.2)
            now = calls(self._address)
            if any(count for operation, count in (now - before).items() if operation != "ReceiveMessage"):
                before, since = now, time.monotonic()

    def wait_until_logs_are_found(self, jobs: int) -> None:
        while calls(self._address)["DescribeLogStreams"] < jobs:
            time.sleep(0.2)

    def forget(self) -> None:
        """Count processor time from here on."""
        self._cpu -= self.cpu()

    def cpu(self) -> float:
        """Seconds of all daemons together."""
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
        conversations=[Conversation(f"C{n:010d}", f"team-{n:02d}") for n in range(CHANNELS)]
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
            daemons = [stack.enter_context(daemon(folder, address)) for _ in range(replicas)]
        bench = Bench(address, slack, daemons)
        bench.wait_until_quiet()
        bench.tell(WARM_UP * replicas, 0)
        bench.wait_until_quiet()
        yield bench


def _processors(apart: bool) -> tuple[set[int], set[int]]:
    """For the daemons, and for what they talk to."""
    every = os.sched_getaffinity(0)
    if not apart or len(every) == 1:
        return every, every
    return {max(every)}, every - {max(every)}


@contextmanager
def _on(processors: set[int]) -> Iterator[None]:
    """What is started meanwhile, threads as well as processes, stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _configuration(address: str, slack: SlackDouble, store: str) -> str:
    routes = (f'[[route]]\njob = "*{n:02d}"\nto = ["slack:#team-{n:02d}"]\n' for n in range(CHANNELS))
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


def rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """For the table of `make bench`."""
    found = []
    for store in ("sqlite", "dynamodb"):
        for rate, figure in figures[store].items():
            expected = "median < 0.15 s, p99 < 1 s" if rate == "50" else ""
            seconds = f"median {figure['median']:.3f} s, p99 {figure['p99']:.3f} s"
            found.append((f"event → Slack, {rate} a second, {store}", seconds, expected))
    for figure in figures["replicas"]:
        told = f"{figure['findings_per_second']:.0f} ({figure['cpu_seconds']:.0f} s of CPU)"
        found.append((f"findings a second, replicas: {figure['replicas']}", told, ""))
    return found


def _job(message: dict[str, Any]) -> str:
    found = _JOB.search(json.dumps(message["blocks"]))
    assert found, "an alert names its job"
    return found[0]


def _parted(rate: str) -> tuple[str, str, str]:
    return rate.partition(":")


if __name__ == "__main__":
    main()
