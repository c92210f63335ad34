"""Many replicas under all kinds of faults lose nothing, tell nothing twice, and leave nothing out of date.

Real daemons, each in its own process, share a queue and a table, and are killed and started at random; the
clock of one is two minutes ahead. Events come several times, in any order, and about deleted jobs; DynamoDB
and SQS throttle all the time; Slack answers some requests after six seconds. People stop jobs and acknowledge
incidents meanwhile. The doubles of Slack and of a webhook keep running and keep what they are sent.
WATCHER_REPLICA_JOBS sets the number of jobs; `make replicas` runs many.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.contract.tables import TABLE, create_table
from tests.doubles.slack import Conversation, SlackDouble
from tests.doubles.webhook import WebhookDouble
from tests.e2e.conftest import SlowAnswers, Stall, changed, issue
from tests.e2e.daemon import Daemon, Daemons, end, kill
from tests.e2e.people import People
from tests.e2e.queues import Queues, create_queues, event
from tests.e2e.told import (
    alerts_by_incident,
    all_cases,
    changes_by_kind,
    left_over,
    out_of_date,
    revisions_told,
    telling_revisions,
)
from tests.waiting import WAIT_LIMIT_S, eventually
from watcher.config.settings import Config
from watcher.sandbox.process import Sandbox
from watcher.store import open_store

JOBS = int(os.environ.get("WATCHER_REPLICA_JOBS", "40"))
MANY = JOBS > 100
REPLICAS = 4
LANES = 16
LEASE_S = 30.0 if MANY else 12.0
"""After this time another replica takes over what a dead one held. Long enough for a busy machine."""
BATCH_SIZE = 50 if MANY else 20
"""Number of job changes between two checks of the replicas' progress."""
BACKLOG_LIMIT = 300 if MANY else 60
"""Incidents not yet told, or messages in the queue, at which the test waits before it changes more jobs."""
THROTTLED_EVERY = 67
"""Every 67th call to DynamoDB and SQS is throttled."""
KILL_PROBABILITY = 0.3 if MANY else 0.6
"""The probability that a replica is killed after a batch of changes."""
CLOCK_AHEAD_S = 120.0
SLOW_ANSWER_S = 6.0
SLOW_EVERY = 50
"""Every 50th request to Slack is answered so slowly."""
STOPPED_BY_ROUTE, STOPPED_BY_PEOPLE = 0, 1
"""The lanes whose jobs are stopped; the others complete."""
KEEP_UP_LIMIT_S = 600.0 if MANY else WAIT_LIMIT_S
RULES = ("LossNotDecreasing", "VanishingGradient", "Overfit")


@dataclass
class Replicas:
    """The running replicas. Those that were not killed must exit cleanly."""

    config: Config
    daemons: Daemons
    alive: list[Daemon] = field(default_factory=list)
    kills: int = 0

    def start(self) -> None:
        """Start one. If no clock is ahead, this one's is."""
        ahead_s = 0 if any(daemon.ahead_s for daemon in self.alive) else CLOCK_AHEAD_S
        self.alive.append(self.daemons.start(self.config, LEASE_S, ahead_s))

    def kill(self, number: int) -> None:
        kill(self.alive.pop(number))
        self.kills += 1

    def end(self) -> list[int | None]:
        """End all replicas and return their exit codes."""
        return end(*self.alive)


@pytest.fixture
def queues(sandbox: Sandbox) -> Queues:
    create_table(sandbox)
    return create_queues(sandbox, held=int(LEASE_S))


@pytest.fixture
def replicas(
    config: Config, daemons: Daemons, slack: SlackDouble, webhook: WebhookDouble, queues: Queues
) -> Replicas:
    """Replicas with their configuration, none of them started."""
    slack.workspace.conversations += [
        Conversation(f"C1000000{lane:03d}", f"lane-{lane}") for lane in range(LANES)
    ]
    config = changed(
        config,
        watch={"poll_interval": 60 if MANY else 10, "queue_url": queues.url},
        store={"url": f"dynamodb://{TABLE}"},
        rules={"local": "off", "stuck_after": 0},
        stop={"max_per_hour": 100_000},
        webhook={"secret": webhook.secret},
        route=[
            {
                "job": f"lane-{lane}-*",
                "to": [f"slack:#lane-{lane}", f"webhook:{webhook.url}/lane-{lane}"],
                "stop": lane == STOPPED_BY_ROUTE,
            }
            for lane in range(LANES)
        ],
    )
    return Replicas(config, daemons)


def job_changes(rng: random.Random) -> Iterator[dict[str, Any]]:
    """The changes of every job from start to end, rule by rule, with the jobs interleaved at random. Those of
    two lanes end when they are stopped."""
    names = [f"lane-{number % LANES}-job-{number:04d}" for number in range(JOBS)]
    fired = {name: RULES[: 2 + number % 2] for number, name in enumerate(names)}
    order = [name for name in names for _ in range(len(fired[name]) + 2)]
    # A limited number of jobs at a time, as on a busy day: the changes of one job lie within a few hundred.
    order.sort(key=lambda name: names.index(name) + rng.uniform(0, 100))
    turns: Counter[str] = Counter()
    for name in order:
        turn, rules = turns[name], fired[name]
        turns[name] += 1
        completes = turn > len(rules) and lane_of(name) not in (STOPPED_BY_ROUTE, STOPPED_BY_PEOPLE)
        yield {
            "TrainingJobName": name,
            **({"TrainingJobStatus": "Completed"} if completes else {}),
            "DebugRuleEvaluationStatuses": [
                issue(rule)
                if number < turn
                else {"RuleConfigurationName": rule, "RuleEvaluationStatus": "InProgress"}
                for number, rule in enumerate(rules)
            ],
        }


def lane_of(name: str) -> int:
    return int(name.split("-")[1])


def issues(job: dict[str, Any]) -> set[tuple[str, str]]:
    """Job and rule of the findings expected for a job."""
    return {
        (job["TrainingJobName"], status["RuleConfigurationName"])
        for status in job["DebugRuleEvaluationStatuses"]
        if status["RuleEvaluationStatus"] == "IssuesFound"
    }


def noise(names: list[str], rng: random.Random) -> list[str]:
    """Repeated events, events of unchanged and of deleted jobs, and messages that are not events."""
    again = [event(name) for name in rng.choices(names, k=BATCH_SIZE // 2)]
    gone = [event(f"gone-{rng.randrange(10**6)}") for _ in range(BATCH_SIZE // 5)]
    bodies = [*again, *again[: BATCH_SIZE // 5], *gone, "no JSON", '{"detail-type": "Something Else"}']
    rng.shuffle(bodies)
    return bodies


def test_nothing_is_lost_told_twice_or_out_of_date_when_replicas_are_killed(
    replicas: Replicas,
    queues: Queues,
    sandbox: Sandbox,
    slack: SlackDouble,
    webhook: WebhookDouble,
    tmp_path: Path,
):
    Stall(slack)  # makes Slack slow enough for kills to hit a request
    SlowAnswers(slack, SLOW_ANSWER_S, SLOW_EVERY)
    rng = random.Random(20261122)
    people = People(replicas.config, replicas.daemons, tmp_path, rng)
    for service, code in (
        ("dynamodb", "ProvisionedThroughputExceededException"),
        ("sqs", "ThrottlingException"),
    ):
        sandbox.control.inject_fault(f"{service}:*", code, every=THROTTLED_EVERY)
    for _ in range(REPLICAS):
        replicas.start()
    started_at, repeated = time.monotonic(), 0
    expected: set[tuple[str, str]] = set()
    told: set[str] = set()
    """The jobs that have an incident, or will."""
    changes = list(job_changes(rng))

    def keep_up() -> bool:
        return len(told) - len(slack.messages) < BACKLOG_LIMIT and sum(queues.depth()) < BACKLOG_LIMIT

    for start in range(0, len(changes), BATCH_SIZE):
        lot = changes[start : start + BATCH_SIZE]
        sandbox.control.put_training_jobs(lot)
        for job in lot:
            expected.update(issues(job))
        told = {job for job, _ in expected}
        again = noise([job["TrainingJobName"] for job in changes[: start + 1]], rng)
        repeated += len(again)
        queues.send(*again)
        for name in rng.sample(sorted(told), min(2, len(told))):
            people.acknowledge(name)
        for name in {job["TrainingJobName"] for job in lot}:
            if lane_of(name) == STOPPED_BY_PEOPLE and name in told:
                people.stop(name)
        time.sleep(rng.uniform(0, 0.5))
        if rng.random() < KILL_PROBABILITY:
            replicas.kill(rng.randrange(len(replicas.alive)))
            people.lose_patience()
        while len(replicas.alive) < rng.randrange(REPLICAS - 1, REPLICAS + 1):
            replicas.start()
        eventually(keep_up, "the replicas keep up", limit_s=KEEP_UP_LIMIT_S, poll_s=0.5)
        if MANY:
            progress = f"{len(slack.messages)} of {len(told)} incidents told"
            print(f"{time.monotonic() - started_at:6.0f} s  {progress}, {replicas.kills} kills", flush=True)
    crashed = people.finish()
    store = open_store(replicas.config.store.url)

    def found() -> set[tuple[str, str]]:
        return {(finding.job, finding.rule or "") for finding in store.findings()}

    eventually(lambda: queues.depth() == (0, 0), "the queue is empty", limit_s=KEEP_UP_LIMIT_S, poll_s=0.5)
    eventually(lambda: found() >= expected, "all is found", limit_s=KEEP_UP_LIMIT_S, poll_s=0.5)
    eventually(lambda: store.next_due() is None, "nothing left", limit_s=KEEP_UP_LIMIT_S, poll_s=0.5)
    seconds, calls = time.monotonic() - started_at, sandbox.control.calls()
    throttled = {
        service: sum(count for name, count in calls.items() if name.startswith(service)) // THROTTLED_EVERY
        for service in ("dynamodb", "sqs")
    }
    assert set(replicas.end()) == {0}
    sandbox.control.clear_faults()
    cases = all_cases(store)
    print(
        f"{JOBS} jobs, {len(expected)} findings in {seconds:.0f} s; {replicas.kills} kills; "
        f"{len(people.commands)} commands, of which {people.killed} killed; "
        f"{repeated} repeated or irrelevant events; throttled {throttled}; Slack {dict(slack.calls)}; "
        f"webhook {len(webhook.received)}; changes {changes_by_kind(cases)}; "
        f"{sum(calls.values())} AWS calls: {calls}"
    )
    assert crashed == []
    assert found() == expected
    assert {case.incident.job for case in cases} == told
    assert alerts_by_incident(slack) == Counter(dict.fromkeys((case.incident.id for case in cases), 1))
    assert left_over(cases) == []
    assert out_of_date(store, cases, slack) == []
    assert revisions_told(webhook.bodies) == telling_revisions(cases)
    assert queues.dead_letters() == 0
