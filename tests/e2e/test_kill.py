"""Repeated `kill -9` between detection and delivery loses nothing and sends nothing twice.

Real daemons, each in its own process, share one SQLite file and are killed at random times, and at the worst
times: when Slack has the request and before its answer is read. Slack's double keeps running and counts.
Leases have their real length, so that no living daemon loses one; the test ends the leases of a dead daemon.
WATCHER_KILLS sets the number of kills; `make kills` runs many.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

from tests.doubles.slack import Conversation, SlackDouble
from tests.e2e.conftest import SLACK_ANSWER_S, Stall, changed, issue
from tests.e2e.daemon import Daemons, end, end_leases, kill
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.model import DeliveryKind, DeliveryState
from watcher.sandbox.process import Sandbox
from watcher.store import open_store

KILLS = int(os.environ.get("WATCHER_KILLS", "30"))
JOBS_PER_KILL = 3
LANES = 4
"""Number of Slack channels, used in turn: the alerts that a dead daemon left in one are delivered while the
next daemon is killed."""


def alerts_by_finding(slack: SlackDouble) -> Counter[str]:
    return Counter(message["metadata"]["event_payload"]["finding_id"] for message in slack.messages)


def test_nothing_is_lost_or_sent_twice_when_watcher_is_killed_repeatedly(
    config: Config, sandbox: Sandbox, slack: SlackDouble, daemons: Daemons
):
    rng = random.Random(20261121)
    slack.workspace.conversations += [
        Conversation(f"C100000000{lane}", f"lane-{lane}") for lane in range(LANES)
    ]
    lanes = [{"job": f"lane-{lane}-*", "to": [f"slack:#lane-{lane}"]} for lane in range(LANES)]
    config = changed(config, route=lanes)
    stall = Stall(slack)
    jobs = 0
    for number in range(KILLS):
        placed = [f"lane-{number % LANES}-job-{jobs + more:04d}" for more in range(JOBS_PER_KILL)]
        jobs += JOBS_PER_KILL
        sandbox.control.put_training_jobs(
            {"TrainingJobName": name, "DebugRuleEvaluationStatuses": [issue()]} for name in placed
        )
        before = slack.calls["chat.postMessage"]
        if number % 3 == 0:
            stall.begin()
            daemon = daemons.start(config)
            eventually(stall.stored.is_set, "a message that is stored and not answered")
        elif number % 3 == 1:
            daemon = daemons.start(config)
            eventually(lambda before=before: slack.calls["chat.postMessage"] > before, "a request")
            time.sleep(rng.uniform(0, 5 * SLACK_ANSWER_S))
        else:
            daemon = daemons.start(config)
            time.sleep(rng.uniform(0, 0.6))
        kill(daemon)
        stall.end()
        end_leases(config)
    last = daemons.start(config)
    store = open_store(config.store.url)
    try:
        eventually(lambda: len(store.findings()) == jobs and store.next_due() is None, "all delivered")
    finally:
        ended = end(last)
    findings = {finding.id for finding in store.findings()}
    store.close()
    assert len(findings) == jobs
    assert alerts_by_finding(slack) == Counter(dict.fromkeys(findings, 1))
    assert ended == [0]
    assert slack.calls["conversations.history"] >= KILLS // 3


def test_a_plot_that_slack_stored_before_a_kill_is_found_in_its_thread_and_not_sent_again(
    config: Config, sandbox: Sandbox, slack: SlackDouble, daemons: Daemons
):
    started_at = time.time() // 60 * 60 - 1800
    sandbox.control.put_training_job(
        "churn",
        TrainingStartTime=started_at,
        AlgorithmSpecification={
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "train:loss", "Regex": "loss=([0-9.]+)"}],
        },
    )
    stalled = [(started_at + 60 * minute, 0.5) for minute in range(25)]
    sandbox.control.put_metrics("churn", {"train:loss": stalled})
    config = changed(config, rules={"local": "attach", "attach": [{"rule": "LossNotDecreasing"}]})
    stall = Stall(slack, "files.completeUploadExternal")
    stall.begin()
    first = daemons.start(config)
    eventually(stall.stored.is_set, "a plot that is stored and not answered")
    kill(first)
    stall.end()
    end_leases(config)
    last = daemons.start(config)
    store = open_store(config.store.url)
    try:
        eventually(lambda: store.next_due() is None, "all delivered")
    finally:
        ended = end(last)
    kinds = {delivery.kind: delivery.state for delivery in store.deliveries()}
    store.close()
    assert kinds == {
        DeliveryKind.ALERT: DeliveryState.DELIVERED,
        DeliveryKind.PLOT: DeliveryState.DELIVERED,
    }
    assert (len(slack.messages), len(slack.files)) == (1, 1)
    assert slack.files[0]["content"].startswith(b"\x89PNG")
    assert slack.calls["files.completeUploadExternal"] == 1
    assert slack.calls["conversations.replies"] == 1
    assert ended == [0]


def test_two_daemons_on_one_file_alert_once(
    config: Config, sandbox: Sandbox, slack: SlackDouble, daemons: Daemons, tmp_path: Path
):
    jobs = 40
    pair = [daemons.start(config) for _ in range(2)]
    sandbox.control.put_training_jobs(
        {"TrainingJobName": f"job-{number:04d}", "DebugRuleEvaluationStatuses": [issue()]}
        for number in range(jobs)
    )
    eventually(lambda: len(slack.messages) >= jobs, "all alerts sent")
    store = open_store(config.store.url)
    eventually(lambda: store.next_due() is None, "nothing left")
    store.close()
    assert end(*pair) == [0, 0]
    assert set(alerts_by_finding(slack).values()) == {1}
    assert len(alerts_by_finding(slack)) == jobs
