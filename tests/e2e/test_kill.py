"""`kill -9` between detection and delivery, again and again: nothing is lost, nothing is told twice.

Real daemons, each in a process of its own, share one SQLite file and are killed: at random moments, and
at the worst ones, while Slack has the request and before its answer is read. Slack lives on and keeps
count. WATCHER_KILLS sets how many kills; `make kills` asks for many.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.doubles.slack import Conversation, SlackDouble
from tests.e2e.conftest import SLOW, Stall, changed, eventually, issue
from tests.e2e.daemon import run_daemon
from watcher.config.settings import Config
from watcher.model import DeliveryKind, DeliveryState
from watcher.sandbox.process import Sandbox
from watcher.store import open_store

KILLS = int(os.environ.get("WATCHER_KILLS", "60"))
JOBS_A_KILL = 3
LANES = 4
"""What a dead daemon had in flight holds its lane up until its lease ends: the next kill takes another."""

# A fork server imports the daemon once: each daemon is a real process, and starts in milliseconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.e2e.daemon"])


def start(config: Config, environment: dict[str, str]) -> BaseProcess:
    process = processes.Process(target=run_daemon, args=(config, environment))
    process.start()
    return process


def kill(process: BaseProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.fixture
def environment(sandbox: Sandbox) -> dict[str, str]:
    return dict(sandbox.env)


def told(slack: SlackDouble) -> Counter[str]:
    return Counter(message["metadata"]["event_payload"]["finding_id"] for message in slack.messages)


def test_nothing_is_lost_and_nothing_told_twice_however_often_watcher_is_killed(
    config: Config, sandbox: Sandbox, slack: SlackDouble, environment: dict[str, str]
):
    chance = random.Random(20261121)
    slack.workspace.conversations += [
        Conversation(f"C100000000{lane}", f"lane-{lane}") for lane in range(LANES)
    ]
    lanes = [{"job": f"lane-{lane}-*", "to": [f"slack:#lane-{lane}"]} for lane in range(LANES)]
    config = changed(config, route=lanes)
    stall = Stall(slack)
    jobs = 0
    for number in range(KILLS):
        placed = [f"lane-{number % LANES}-job-{jobs + more:04d}" for more in range(JOBS_A_KILL)]
        jobs += JOBS_A_KILL
        sandbox.control.put_training_jobs(
            {"TrainingJobName": name, "DebugRuleEvaluationStatuses": [issue()]} for name in placed
        )
        before = slack.calls["chat.postMessage"]
        if number % 3 == 0:
            stall.begin()
            daemon = start(config, environment)
            eventually(stall.stored.is_set, "a message that is stored and not answered")
        elif number % 3 == 1:
            daemon = start(config, environment)
            eventually(lambda before=before: slack.calls["chat.postMessage"] > before, "a request")
            time.sleep(chance.uniform(0, 5 * SLOW))
        else:
            daemon = start(config, environment)
            time.sleep(chance.uniform(0, 0.6))
        kill(daemon)
        stall.end()
    last = start(config, environment)
    store = open_store(config.store.url)
    try:
        eventually(lambda: len(store.findings()) == jobs and store.next_due() is None, "all delivered")
    finally:
        last.terminate()
        last.join(15)
    findings = {finding.id for finding in store.findings()}
    store.close()
    assert len(findings) == jobs
    assert told(slack) == Counter(dict.fromkeys(findings, 1))
    assert last.exitcode == 0
    assert slack.calls["conversations.history"] >= KILLS // 3


def test_a_plot_that_slack_has_when_watcher_is_killed_is_found_in_its_thread_and_not_sent_again(
    config: Config, sandbox: Sandbox, slack: SlackDouble, environment: dict[str, str]
):
    began = time.time() // 60 * 60 - 1800
    sandbox.control.put_training_job(
        "churn",
        TrainingStartTime=began,
        AlgorithmSpecification={
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "train:loss", "Regex": "loss=([0-9.]+)"}],
        },
    )
    stalled = [(began + 60 * minute, 0.5) for minute in range(25)]
    sandbox.control.put_metrics("churn", {"train:loss": stalled})
    config = changed(config, rules={"local": "attach", "attach": [{"rule": "LossNotDecreasing"}]})
    stall = Stall(slack, "files.completeUploadExternal")
    stall.begin()
    first = start(config, environment)
    eventually(stall.stored.is_set, "a plot that is stored and not answered")
    kill(first)
    stall.end()
    last = start(config, environment)
    store = open_store(config.store.url)
    try:
        eventually(lambda: store.next_due() is None, "all delivered")
    finally:
        last.terminate()
        last.join(15)
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


def test_two_daemons_on_one_file_tell_once(
    config: Config, sandbox: Sandbox, slack: SlackDouble, environment: dict[str, str], tmp_path: Path
):
    jobs = 40
    daemons = [start(config, environment) for _ in range(2)]
    sandbox.control.put_training_jobs(
        {"TrainingJobName": f"job-{number:04d}", "DebugRuleEvaluationStatuses": [issue()]}
        for number in range(jobs)
    )
    eventually(lambda: len(slack.messages) >= jobs, "all told")
    store = open_store(config.store.url)
    eventually(lambda: store.next_due() is None, "nothing left")
    store.close()
    for daemon in daemons:
        daemon.terminate()
        daemon.join(15)
    assert [daemon.exitcode for daemon in daemons] == [0, 0]
    assert set(told(slack).values()) == {1}
    assert len(told(slack)) == jobs
