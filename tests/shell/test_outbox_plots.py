"""The plot of an alert is a file in its thread, sent once, and never delays the alert."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from tests.doubles.clock import Clock
from tests.doubles.slack import SlackDouble
from tests.jobs import NOON
from tests.shell.test_outbox import Scene, Stops, an_outbox
from tests.story import OVERFIT, SLACK, fired, recovered, routed
from watcher.delivery.channels.base import Channel
from watcher.delivery.channels.console import ConsoleChannel
from watcher.delivery.channels.slack import SlackChannel
from watcher.delivery.outbox import Outbox
from watcher.delivery.stop import StopResult, StopState
from watcher.model import AlertEvidence, Delivery, DeliveryKind, DeliveryState, Form, Reading
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
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return MemoryStore(clock.monotonic)


@pytest.fixture
def slack(clock: Clock) -> Iterator[SlackDouble]:
    with SlackDouble() as double:
        double.workspace.now = NOON.timestamp()
        yield double


@pytest.fixture
def scene(store: Store, clock: Clock, slack: SlackDouble) -> Scene:
    def open_channel(to: str) -> Channel:
        return SlackChannel(slack.token, "#alerts", slack.api_url, timeout_s=60)

    return Scene(store, clock, with_curve(store, clock, open_channel))


def with_curve(store: Store, clock: Clock, open_channel: Callable[[str], Channel]) -> Outbox:
    outbox = an_outbox(store, clock, open_channel)
    outbox.gather = lambda finding, job: EVIDENCE
    return outbox


def plots(scene: Scene) -> list[Delivery]:
    return [delivery for delivery in scene.store.deliveries() if delivery.kind is DeliveryKind.PLOT]


def test_the_plot_is_a_file_in_the_thread_of_its_alert(scene: Scene, slack: SlackDouble):
    scene.finds()
    scene.passes(hours=1)

    [message], [file] = slack.messages, slack.files
    assert file["thread_ts"] == message["ts"]
    assert file["channel"] == message["channel"]
    assert file["content"].startswith(PNG)
    assert file["title"] == "LossNotDecreasing on churn"
    assert file["alt_txt"] == EVIDENCE.explanation
    assert [delivery.state for delivery in scene.store.deliveries()] == [DeliveryState.DELIVERED] * 2


def test_an_alert_without_a_curve_has_no_plot(scene: Scene, slack: SlackDouble):
    scene.outbox.gather = lambda finding, job: AlertEvidence()
    scene.finds()
    scene.passes(hours=1)

    assert plots(scene) == []
    assert slack.files == []


def test_a_channel_without_files_gets_no_plot(store: Store, clock: Clock, capsys: pytest.CaptureFixture[str]):
    scene = Scene(store, clock, with_curve(store, clock, lambda to: ConsoleChannel()), routed("console"))
    scene.finds()
    scene.passes(hours=1)

    assert "train-error fell" in capsys.readouterr().out
    assert plots(scene) == []


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
    scene: Scene, slack: SlackDouble, method: str, fault: str
):
    if fault == "hang":
        scene.outbox.open_channel = lambda to: SlackChannel(
            slack.token, "#alerts", slack.api_url, timeout_s=3
        )
    slack.fail(method, fault)
    scene.finds()
    scene.attempts()
    assert len(slack.messages) == 1
    assert scene.alert().state is DeliveryState.DELIVERED
    scene.attempts()
    assert [plot.state for plot in plots(scene)] == [DeliveryState.PENDING]

    scene.passes(hours=1)

    assert len(slack.messages) == 1
    assert len(slack.files) == 1
    assert [plot.state for plot in plots(scene)] == [DeliveryState.DELIVERED]


def test_a_plot_uploaded_by_a_dead_process_is_not_uploaded_again(
    scene: Scene, store: Store, clock: Clock, slack: SlackDouble
):
    scene.finds()
    scene.attempts()
    [claimed] = store.claim("dead", clock(), scene.outbox.lease, 1).deliveries
    dead = with_curve(store, clock, scene.outbox.open_channel)
    dead.owner = "a process that died before it stored the outcome"
    dead.attempt(claimed, clock())
    assert len(slack.files) == 1
    assert [plot.state for plot in plots(scene)] == [DeliveryState.IN_FLIGHT]

    scene.passes(hours=1)

    assert len(slack.files) == 1
    assert [plot.state for plot in plots(scene)] == [DeliveryState.DELIVERED]


def test_without_the_scope_the_plot_is_left_out_and_the_log_says_how_to_fix_it(
    scene: Scene, slack: SlackDouble
):
    slack.workspace.scopes.discard("files:write")
    scene.finds("job-a")
    scene.finds("job-b")
    with capture_logs() as logged:
        scene.passes(hours=1)

    assert len(slack.messages) == 2
    assert [alert.state for alert in scene.alerts] == [DeliveryState.DELIVERED] * 2
    assert [plot.state for plot in plots(scene)] == [DeliveryState.SKIPPED] * 2
    for plot in plots(scene):
        assert "files:write" in plot.error
        assert "add it under OAuth" in plot.error
    assert [entry["event"] for entry in logged if entry["log_level"] != "info"] == ["plot_skipped"]


def test_without_matplotlib_the_plot_is_left_out_and_the_extra_is_named(
    scene: Scene, slack: SlackDouble, monkeypatch: pytest.MonkeyPatch
):
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "watcher.alerts.plots", raising=False)
    monkeypatch.delattr("watcher.alerts.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    scene.finds()
    scene.passes(hours=1)

    [plot] = plots(scene)
    assert plot.state is DeliveryState.SKIPPED
    assert "pip install '.[plot]'" in plot.error


def test_a_plot_blocks_no_alert_of_its_channel(scene: Scene, slack: SlackDouble):
    slack.fail("files.getUploadURLExternal", "status_500", times=0)
    scene.finds("job-a")
    scene.attempts()
    scene.finds("job-b")
    scene.attempts()

    assert len(slack.messages) == 2


def test_an_edit_of_the_alert_adds_no_second_plot(scene: Scene, slack: SlackDouble):
    stopped = StopResult(StopState.STOPPED, "Stopped by Watcher.")
    scene.outbox.stopper = Stops(stopped)  # type: ignore[assignment]
    scene.config = routed(SLACK, stop=True)
    scene.finds()
    scene.passes(hours=1)

    assert slack.messages[0]["edited"]
    assert len(slack.files) == 1


def test_each_finding_of_an_incident_has_its_plot_once(scene: Scene, slack: SlackDouble):
    scene.finds()
    scene.passes(minutes=1)
    scene.finds("churn", fired(OVERFIT))
    scene.passes(minutes=1)
    scene.finds("churn", recovered(OVERFIT))
    scene.passes(minutes=1)

    assert [file["title"] for file in slack.files] == ["LossNotDecreasing on churn", "Overfit on churn"]


def test_a_destination_that_is_added_later_has_its_own_plot(scene: Scene, slack: SlackDouble):
    scene.finds()
    scene.passes(minutes=1)
    scene.finds("churn", fired(OVERFIT), config=routed("slack:#prod"))
    scene.passes(minutes=1)

    assert {plot.to for plot in plots(scene)} == {SLACK, "slack:#prod"}


def test_the_plot_of_an_alert_that_was_deleted_is_left_out(scene: Scene, slack: SlackDouble):
    scene.finds()
    scene.attempts()
    slack.workspace.messages.clear()
    scene.passes(minutes=1)

    [plot] = plots(scene)
    assert plot.state is DeliveryState.SKIPPED


def test_an_alert_in_a_short_form_has_its_plot(scene: Scene, slack: SlackDouble):
    slack.fail("chat.postMessage", "msg_too_long", times=2)
    scene.finds()
    scene.passes(minutes=1)

    assert scene.alert().form is Form.PLAIN
    assert len(slack.files) == 1


def test_a_plot_on_which_watcher_itself_fails_is_left_out(
    scene: Scene, slack: SlackDouble, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> bytes:
        raise ZeroDivisionError("an unexpected fault")

    monkeypatch.setattr("watcher.delivery.outbox._picture", fail)
    scene.finds()
    with capture_logs():
        scene.passes(minutes=1)

    [plot] = plots(scene)
    assert plot.state is DeliveryState.SKIPPED
    assert "an unexpected fault" in plot.error
