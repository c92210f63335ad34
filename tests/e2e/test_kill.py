"""Repeated `kill -9` loses nothing, tells nothing twice, and leaves nothing out of date.

Real daemons, each in its own process, share one SQLite file and are killed at random times, and at the worst
times: when Slack or a webhook has the request and before its answer is read, in the middle of an edit, and
when SageMaker was just asked to stop a job. Meanwhile people stop jobs and acknowledge incidents, with
commands that are killed now and then as well. The doubles of Slack and of the webhook keep running and keep
what they are sent.

Leases have their real length, so that no living daemon loses one; the test ends the leases of a dead daemon.
WATCHER_KILLS sets the number of kills; `make kills` runs many.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.doubles.slack import Conversation, SlackDouble
from tests.doubles.webhook import WebhookDouble
from tests.e2e.conftest import SLACK_ANSWER_S, SlowAnswers, Stall, blocks, changed, issue
from tests.e2e.daemon import Daemon, Daemons, end, end_leases, kill
from tests.e2e.people import People
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
from watcher.model import ChangeKind, DeliveryKind, DeliveryState, Door
from watcher.sandbox.process import Sandbox
from watcher.store import open_store

KILLS = int(os.environ.get("WATCHER_KILLS", "50"))
JOBS_PER_KILL = 3
LANES = 4
"""Number of Slack channels, used in turn: the alerts that a dead daemon left in one are delivered while the
next daemon is killed."""
STOPPED_LANE = LANES - 1
"""Its route stops jobs."""
RULES = ("LossNotDecreasing", "VanishingGradient", "Overfit")


@dataclass
class Jobs:
    """The training jobs, three for each kill, and what happens to them: further rules fire, or they end."""

    sandbox: Sandbox
    rng: random.Random
    names: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)

    def begin(self, lane: int) -> None:
        fresh = [f"lane-{lane}-job-{len(self.names) + more:04d}" for more in range(JOBS_PER_KILL)]
        self.names += fresh
        self.sandbox.control.put_training_jobs(
            {"TrainingJobName": name, "DebugRuleEvaluationStatuses": _statuses(1)} for name in fresh
        )

    def change_some(self) -> None:
        for name in self.some(2):
            self.fire(name, 2)
        for name in self.some(1):
            if name not in self.ended:
                self.ended.add(name)
                status = self.rng.choice(["Completed", "Failed"])
                self.sandbox.control.put_training_job(name, TrainingJobStatus=status)

    def fire(self, name: str, rules: int) -> None:
        self.sandbox.control.put_training_job(name, DebugRuleEvaluationStatuses=_statuses(rules))

    def some(self, count: int) -> list[str]:
        """A few of those that began lately."""
        return self.rng.sample(self.names[-8 * JOBS_PER_KILL :], count)


def _statuses(fired: int) -> list[dict[str, Any]]:
    return [
        issue(rule)
        if number < fired
        else {"RuleConfigurationName": rule, "RuleEvaluationStatus": "InProgress"}
        for number, rule in enumerate(RULES)
    ]


def test_nothing_is_lost_told_twice_or_out_of_date_when_watcher_is_killed_repeatedly(
    config: Config,
    sandbox: Sandbox,
    slack: SlackDouble,
    webhook: WebhookDouble,
    daemons: Daemons,
    tmp_path: Path,
):
    rng = random.Random(20261127)
    slack.workspace.conversations += [
        Conversation(f"C100000000{lane}", f"lane-{lane}") for lane in range(LANES)
    ]
    config = changed(
        config,
        webhook={"secret": webhook.secret},
        stop={"max_per_hour": 100_000},
        route=[
            {
                "job": f"lane-{lane}-*",
                "to": [f"slack:#lane-{lane}", f"webhook:{webhook.url}/lane-{lane}"],
                "stop": lane == STOPPED_LANE,
            }
            for lane in range(LANES)
        ],
    )
    jobs, people = Jobs(sandbox, rng), People(config, daemons, tmp_path, rng)
    posted, edited = Stall(slack), Stall(slack, "chat.update")

    def stops() -> int:
        return sandbox.control.calls().get("sagemaker:StopTrainingJob", 0)

    def while_a_message_is_stored_and_not_answered() -> Daemon:
        posted.begin()
        daemon = daemons.start(config)
        eventually(posted.stored.is_set, "a message that is stored and not answered")
        return daemon

    def while_an_edit_is_stored_and_not_answered() -> Daemon:
        edited.begin()
        daemon = daemons.start(config)
        fresh = jobs.names[-JOBS_PER_KILL:]

        def all_posted() -> bool:
            text = json.dumps(slack.messages)
            return all(name in text for name in fresh)

        eventually(lambda: edited.stored.is_set() or all_posted(), "messages that can be edited")
        for name in fresh:
            jobs.fire(name, len(RULES))
        eventually(edited.stored.is_set, "an edit that is stored and not answered")
        return daemon

    def while_a_webhook_is_received_and_not_answered() -> Daemon:
        before = len(webhook.received)
        webhook.hang()
        daemon = daemons.start(config)
        eventually(lambda: len(webhook.received) > before, "a webhook that is not answered")
        return daemon

    def after_a_stop() -> Daemon:
        before = stops()
        daemon = daemons.start(config)
        eventually(lambda: stops() > before, "SageMaker is asked to stop a job")
        time.sleep(rng.uniform(0, 0.1))
        return daemon

    def after_a_message() -> Daemon:
        before = slack.calls["chat.postMessage"]
        daemon = daemons.start(config)
        eventually(lambda: slack.calls["chat.postMessage"] > before, "a request")
        time.sleep(rng.uniform(0, 5 * SLACK_ANSWER_S))
        return daemon

    def after_a_moment() -> Daemon:
        daemon = daemons.start(config)
        time.sleep(rng.uniform(0, 0.6))
        return daemon

    moments: list[Callable[[], Daemon]] = [
        while_a_message_is_stored_and_not_answered,
        while_an_edit_is_stored_and_not_answered,
        while_a_webhook_is_received_and_not_answered,
        after_a_message,
        after_a_moment,
    ]
    for number in range(KILLS):
        jobs.begin(number % LANES)
        jobs.change_some()
        for name in jobs.some(2):
            people.acknowledge(name)
        for name in jobs.some(1):
            people.stop(name)
        in_stopped_lane = number % LANES == STOPPED_LANE and number % 2
        daemon = after_a_stop() if in_stopped_lane else moments[number % len(moments)]()
        kill(daemon)
        people.lose_patience()
        posted.end()
        edited.end()
        end_leases(config)
    last = daemons.start(config)
    crashed = people.finish()
    store = open_store(config.store.url)
    try:
        eventually(lambda: len(store.incidents()) == len(jobs.names), "every job has an incident")
        eventually(lambda: store.next_due() is None, "all delivered")
    finally:
        ended = end(last)
    cases = all_cases(store)
    print(
        f"{KILLS} kills, {len(cases)} incidents, {len(people.commands)} commands of which {people.killed} "
        f"killed; Slack {dict(slack.calls)}; webhook {len(webhook.received)}; "
        f"changes {changes_by_kind(cases)}"
    )
    assert crashed == []
    assert {case.incident.job for case in cases} == set(jobs.names)
    assert alerts_by_incident(slack) == Counter(dict.fromkeys((case.incident.id for case in cases), 1))
    assert left_over(cases) == []
    assert out_of_date(store, cases, slack) == []
    assert revisions_told(webhook.bodies) == telling_revisions(cases)
    assert ended == [0]
    # The kills hit what they are meant to hit.
    assert slack.calls["conversations.history"] >= KILLS // 5
    assert len(webhook.received) > len({body["id"] for body in webhook.bodies})
    doors = {(change.kind, change.door) for case in cases for change in case.changes}
    assert {
        (ChangeKind.ACKNOWLEDGED, Door.CLI),
        (ChangeKind.STOP_ASKED, Door.CLI),
        (ChangeKind.STOP_ASKED, Door.ROUTE),
    } <= doors
    listed = people.type("incidents", "--json")
    listed.join(WAIT_LIMIT_S)
    states = {each["id"]: each["state"] for each in json.loads(listed.output.read_text())}
    assert states == {case.incident.id: case.incident.state for case in cases}
    store.close()


def test_a_stop_whose_command_is_killed_is_carried_out_by_the_daemon(
    config: Config, sandbox: Sandbox, slack: SlackDouble, daemons: Daemons, tmp_path: Path
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    daemon = daemons.start(config)
    eventually(lambda: slack.messages, "the alert")
    sandbox.control.inject_fault("sagemaker:StopTrainingJob")
    people = People(config, daemons, tmp_path, random.Random(1))
    people.stop("churn")
    eventually(lambda: sandbox.control.calls().get("sagemaker:StopTrainingJob"), "a refused request")
    people.commands[0].kill()
    sandbox.control.clear_faults()
    eventually(lambda: "confirms it" in blocks(slack), "the alert shows that the job was stopped")
    store = open_store(config.store.url)
    eventually(lambda: store.next_due() is None, "nothing left")
    assert end(daemon) == [0]
    job = sandbox.client("sagemaker").describe_training_job(TrainingJobName="churn")
    assert job["TrainingJobStatus"] == "Stopped"
    assert left_over(all_cases(store)) == []
    store.close()


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


def test_two_daemons_on_one_file_alert_once_although_one_clock_is_ahead_and_slack_is_slow(
    config: Config, sandbox: Sandbox, slack: SlackDouble, daemons: Daemons
):
    jobs = 40
    SlowAnswers(slack, seconds=6, every=10)
    pair = [daemons.start(config, ahead_s=ahead_s) for ahead_s in (0, 120)]
    sandbox.control.put_training_jobs(
        {"TrainingJobName": f"job-{number:04d}", "DebugRuleEvaluationStatuses": [issue()]}
        for number in range(jobs)
    )
    eventually(lambda: len(slack.messages) >= jobs, "all alerts sent")
    store = open_store(config.store.url)
    eventually(lambda: store.next_due() is None, "nothing left")
    store.close()
    assert end(*pair) == [0, 0]
    assert len(slack.messages) == jobs
    assert set(alerts_by_incident(slack).values()) == {1}
    assert slack.calls["conversations.history"] == 0, "nothing was taken over"
