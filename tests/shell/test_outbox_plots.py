"""The plot of an alert is a file in its thread, sent once, and never delays the alert."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from tests.doubles.clock import Clock
from tests.doubles.slack import SlackDouble
from tests.jobs import NOON
from tests.shell.test_outbox import Stops, an_outbox, attempt_due, find_issue, turn_until
from watcher.delivery.channels.base import Channel
from watcher.delivery.channels.console import ConsoleChannel
from watcher.delivery.channels.slack import SlackChannel
from watcher.delivery.outbox import Outbox
from watcher.delivery.stop import StopResult, StopState
from watcher.model import AlertEvidence, Delivery, DeliveryKind, DeliveryState, Reading
from watcher.store.base import Store
from watcher.store.memory import MemoryStore

PNG = b"\x89PNG\r\n\x1a\n"
EVIDENCE = AlertEvidence(
    explanation="train-error fell 1.2 % between step 8 and step 10; the rule wants 5 %",
    deciding=(Reading("train-error", 8, 0.2), Reading("train-error", 10, 0.1976)),
    needed=(Reading("train-error", 10, 0.19),),
    curve=(
        *(Reading("train-error", step, 1 / (step + 1)) for step in range(0, 8, 2)),
        Reading("train-error", 8, 0.2),
        Reading("train-error", 10, 0.1976),
    ),
)


@pytest.fixture
def store() -> Store:
    return MemoryStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slack(clock: Clock) -> Iterator[SlackDouble]:
    with SlackDouble() as double:
        double.workspace.now = NOON.timestamp()
        yield double


@pytest.fixture
def outbox(store: Store, clock: Clock, slack: SlackDouble) -> Outbox:
    return with_curve(
        store, clock, lambda to: SlackChannel(slack.token, "#alerts", slack.api_url, timeout_s=60)
    )


def with_curve(store: Store, clock: Clock, open_channel: Callable[[str], Channel]) -> Outbox:
    outbox = an_outbox(store, clock, open_channel)
    outbox.gather = lambda finding, job: EVIDENCE
    return outbox


def plots(store: Store) -> list[Delivery]:
    return [delivery for delivery in store.deliveries() if delivery.kind is DeliveryKind.PLOT]


def alerts(store: Store) -> list[Delivery]:
    return [delivery for delivery in store.deliveries() if delivery.kind is DeliveryKind.ALERT]


def in_an_hour(outbox: Outbox, clock: Clock) -> None:
    turn_until(outbox, clock, NOON + timedelta(hours=1))


def test_the_plot_is_a_file_in_the_thread_of_its_alert(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    find_issue(store, clock())
    in_an_hour(outbox, clock)

    [message], [file] = slack.messages, slack.files
    assert file["thread_ts"] == message["ts"]
    assert file["channel"] == message["channel"]
    assert file["content"].startswith(PNG)
    assert file["title"] == "LossNotDecreasing on churn"
    assert file["alt_txt"] == EVIDENCE.explanation
    assert [delivery.state for delivery in store.deliveries()] == [DeliveryState.DELIVERED] * 2


def test_an_alert_without_a_curve_has_no_plot(outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble):
    outbox.gather = lambda finding, job: AlertEvidence()
    find_issue(store, clock())
    in_an_hour(outbox, clock)

    assert plots(store) == []
    assert slack.files == []


def test_a_channel_without_files_gets_no_plot(store: Store, clock: Clock, capsys: pytest.CaptureFixture[str]):
    outbox = with_curve(store, clock, lambda to: ConsoleChannel())
    find_issue(store, clock(), to=("console",))
    in_an_hour(outbox, clock)

    assert "train-error fell" in capsys.readouterr().out
    assert plots(store) == []


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("files.getUploadURLExternal", "status_500"),
        ("files.getUploadURLExternal", "ratelimited"),
        ("upload", "status_500"),
        ("upload", "close_before"),
        ("upload", "hang"),
        ("files.completeUploadExternal", "ratelimited"),
        ("files.completeUploadExternal", "internal_error"),
        ("files.completeUploadExternal", "close_before"),
        ("files.completeUploadExternal", "close_after"),
    ],
)
def test_after_any_fault_there_is_one_alert_and_finally_one_plot(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble, method: str, fault: str
):
    if fault == "hang":
        outbox.open_channel = lambda to: SlackChannel(slack.token, "#alerts", slack.api_url, timeout_s=3)
    slack.fail(method, fault)
    find_issue(store, clock())
    attempt_due(outbox, clock)
    assert len(slack.messages) == 1
    assert [alert.state for alert in alerts(store)] == [DeliveryState.DELIVERED]
    attempt_due(outbox, clock)
    assert [plot.state for plot in plots(store)] == [DeliveryState.PENDING]

    in_an_hour(outbox, clock)

    assert len(slack.messages) == 1
    assert len(slack.files) == 1
    assert [plot.state for plot in plots(store)] == [DeliveryState.DELIVERED]


def test_a_plot_uploaded_by_a_dead_process_is_not_uploaded_again(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    find_issue(store, clock())
    attempt_due(outbox, clock)
    [claimed] = store.claim("dead", clock(), outbox.lease, 1).deliveries
    dead = with_curve(store, clock, outbox.open_channel)
    dead.owner = "a process that died before it stored the outcome"
    dead.attempt(claimed)
    assert len(slack.files) == 1
    assert [plot.state for plot in plots(store)] == [DeliveryState.IN_FLIGHT]

    in_an_hour(outbox, clock)

    assert len(slack.files) == 1
    assert [plot.state for plot in plots(store)] == [DeliveryState.DELIVERED]


def test_without_the_scope_the_plot_is_left_out_and_the_log_says_how_to_fix_it(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    slack.workspace.scopes.discard("files:write")
    find_issue(store, clock(), "job-a")
    find_issue(store, clock(), "job-b")
    with capture_logs() as logged:
        in_an_hour(outbox, clock)

    assert len(slack.messages) == 2
    assert [alert.state for alert in alerts(store)] == [DeliveryState.DELIVERED] * 2
    assert [plot.state for plot in plots(store)] == [DeliveryState.SKIPPED] * 2
    for plot in plots(store):
        assert "files:write" in plot.error
        assert "add it under OAuth" in plot.error
    assert [entry["event"] for entry in logged if entry["log_level"] != "info"] == ["plot_skipped"]


def test_without_matplotlib_the_plot_is_left_out_and_the_extra_is_named(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble, monkeypatch: pytest.MonkeyPatch
):
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "watcher.alerts.plots", raising=False)
    monkeypatch.delattr("watcher.alerts.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    find_issue(store, clock())
    in_an_hour(outbox, clock)

    [plot] = plots(store)
    assert plot.state is DeliveryState.SKIPPED
    assert "pip install '.[plot]'" in plot.error


def test_a_plot_blocks_no_alert_of_its_channel(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    slack.fail("files.getUploadURLExternal", "status_500", times=0)
    find_issue(store, clock(), "job-a")
    attempt_due(outbox, clock)
    find_issue(store, clock(), "job-b")
    attempt_due(outbox, clock)

    assert len(slack.messages) == 2


def test_an_update_of_the_alert_adds_no_second_plot(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    stopped = StopResult(StopState.STOPPED, "Stopped by Watcher.")
    outbox.stopper = Stops(stopped)  # type: ignore[assignment]
    find_issue(store, clock(), stop=True)
    in_an_hour(outbox, clock)

    assert slack.messages[0]["edited"]
    assert len(slack.files) == 1
