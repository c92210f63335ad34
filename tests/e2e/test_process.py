"""`watcher run` as a separate process: how it ends, and what it does when the disk is full."""

from __future__ import annotations

import ctypes
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import Stall, issue, texts
from tests.e2e.process import Watcher, write_settings
from tests.waiting import WAIT_LIMIT_S, eventually
from watcher.config.settings import Config
from watcher.model import DeliveryState
from watcher.sandbox.process import Sandbox
from watcher.store import open_store


@pytest.fixture
def start(config: Config, tmp_path: Path) -> Iterator[Callable[..., Watcher]]:
    """Starts daemons with the settings of `config`."""
    write_settings(config, tmp_path)
    started: list[Watcher] = []

    def starter(*arguments: str) -> Watcher:
        started.append(Watcher(tmp_path, *arguments))
        return started[-1]

    yield starter
    for watcher in started:
        watcher.close()


def test_sigterm_lets_the_current_alert_arrive_and_exits_0(
    start: Callable[..., Watcher], config: Config, sandbox: Sandbox, slack: SlackDouble
):
    stall = Stall(slack)
    stall.begin()
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    watcher = start()
    eventually(stall.stored.is_set, "a message that is stored and not answered")
    threading.Timer(0.3, stall.end).start()

    assert watcher.end() == 0
    assert [entry["drained"] for entry in watcher.events("stopped")] == [True]
    with closing(open_store(config.store.url)) as store:
        assert [delivery.state for delivery in store.deliveries()] == [DeliveryState.DELIVERED]
    assert len(slack.messages) == 1


def test_sigterm_delivered_to_another_thread_ends_the_daemon(start: Callable[..., Watcher]):
    watcher = start().ready()
    pid = watcher.process.pid
    threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]

    assert ctypes.CDLL(None).tgkill(pid, max(threads), signal.SIGTERM) == 0

    assert watcher.process.wait(WAIT_LIMIT_S) == 0


def test_sigterm_while_slack_hangs_exits_0_in_time_and_leaves_the_alert_to_the_next_daemon(
    start: Callable[..., Watcher], config: Config, sandbox: Sandbox, slack: SlackDouble
):
    slack.fail("chat.postMessage", "hang")
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    watcher = start()
    eventually(lambda: slack.calls["chat.postMessage"], "a request that hangs")

    assert watcher.end() == 0
    assert [entry["drained"] for entry in watcher.events("stopped")] == [False]
    with closing(open_store(config.store.url)) as store:
        assert [delivery.state for delivery in store.deliveries()] == [DeliveryState.IN_FLIGHT]
    assert slack.token not in "".join(watcher.lines)


def test_sigterm_ends_a_single_pass_and_the_exit_code_says_that_work_is_left(
    start: Callable[..., Watcher], config: Config, sandbox: Sandbox, slack: SlackDouble
):
    slack.down()
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    watcher = start("--once")
    eventually(lambda: watcher.events("delivery_retry"), "an alert that cannot be delivered")

    assert watcher.end() == 1
    with closing(open_store(config.store.url)) as store:
        assert [delivery.state for delivery in store.deliveries()] == [DeliveryState.PENDING]


def test_ctrl_c_ends_a_daemon_as_sigterm_does(start: Callable[..., Watcher], sandbox: Sandbox):
    assert start().ready().end(signal.SIGINT) == 0


def test_a_full_disk_is_logged_and_everything_is_reported_once_there_is_space(
    start: Callable[..., Watcher], sandbox: Sandbox, slack: SlackDouble
):
    watcher = start().ready()
    sandbox.control.put_training_job("first", DebugRuleEvaluationStatuses=[issue()])
    eventually(lambda: watcher.events("delivered"), "the first alert")

    unlimited = resource.prlimit(watcher.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    sandbox.control.put_training_job("second", DebugRuleEvaluationStatuses=[issue()])
    eventually(lambda: len(watcher.events("store_failed")) > 1, "that it is said, and that it goes on")
    assert len(slack.messages) == 1

    resource.prlimit(watcher.process.pid, resource.RLIMIT_FSIZE, unlimited)
    eventually(lambda: len(slack.messages) == 2, "the second alert")
    assert watcher.end() == 0
    assert ["first" in texts(slack)[0], "second" in texts(slack)[1]] == [True, True]
    assert all("disk" in entry["error"] for entry in watcher.events("store_failed"))
