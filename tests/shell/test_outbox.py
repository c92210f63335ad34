"""How destinations are brought up to date, with the real clients, a turned clock and no sleeping."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.doubles.clock import Clock
from tests.doubles.slack import SlackDouble
from tests.doubles.webhook import WebhookDouble
from tests.jobs import NOON, a_job
from tests.shell.test_channel_sns import client
from tests.story import DEPTH, OVERFIT, SLACK, ZOE, fired, recovered, routed
from watcher.config.settings import Config, Route
from watcher.delivery.channels.base import Channel
from watcher.delivery.channels.console import ConsoleChannel
from watcher.delivery.channels.slack import SlackChannel
from watcher.delivery.channels.sns import SnsChannel
from watcher.delivery.channels.webhook import WebhookChannel
from watcher.delivery.outbox import (
    FRESH_FOR,
    KEPT_FOR,
    MAX_REFUSED_DELAY_S,
    MAX_RETRY_DELAY_S,
    Outbox,
    backoff,
    refused_delay,
)
from watcher.delivery.stop import StopResult, StopState
from watcher.errors import AccessDenied, ConfigError, Unavailable
from watcher.instruments import Instruments
from watcher.model import (
    AlertEvidence,
    Case,
    Change,
    ChangeKind,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Door,
    Finding,
    JobSnapshot,
    Report,
    StopPhase,
    incident_id,
)
from watcher.policy import incidents
from watcher.policy.stop_guards import Refusal
from watcher.sandbox.process import Sandbox
from watcher.store.base import Claimed, Look, Store
from watcher.store.memory import MemoryStore

SECRET = "a shared secret"
PENDING, DELIVERED, REFUSED = DeliveryState.PENDING, DeliveryState.DELIVERED, DeliveryState.REFUSED
Open = Callable[[str], Channel]
HOUR = timedelta(hours=1)


class Stops:
    """A stopper that answers the attempts at a stop with these results, in turn."""

    def __init__(self, *answers: StopResult | Exception) -> None:
        self.answers = list(answers)
        self.attempts: list[tuple[str, str]] = []

    def attempt(self, run: str, actor: str) -> StopResult:
        self.attempts.append((run, actor))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Scene:
    """One process, and what happens around it."""

    store: Store
    clock: Clock
    outbox: Outbox
    config: Config = field(default_factory=lambda: routed(SLACK))

    def finds(
        self, name: str = "churn", *reports: Report, config: Config | None = None, **job: Any
    ) -> JobSnapshot:
        """A look at a job finds these, or that a rule fired."""
        config = config or self.config
        self.outbox.config = config
        snapshot = a_job(name, **job)
        find(self.store, self.clock(), snapshot, *reports, config=config)
        return snapshot

    def does(self, action: Callable[..., Case | None], *arguments: Any, name: str = "churn") -> None:
        """A person does this to the incident of a job."""
        now = self.clock()
        self.store.amend(incident_id(a_job(name).run), lambda case: action(case, *arguments, now))

    def attempts(self) -> list[Delivery]:
        return attempt_due(self.outbox, self.clock)

    def passes(self, **span: float) -> None:
        """Time, in which everything that becomes due is attempted."""
        turn_until(self.outbox, self.clock, self.clock() + timedelta(**span))

    def alert(self, to: str = SLACK) -> Delivery:
        (row,) = [row for row in self.alerts if row.to == to]
        return row

    @property
    def alerts(self) -> list[Delivery]:
        return [row for row in self.store.deliveries() if row.kind is DeliveryKind.ALERT]

    @property
    def stop(self) -> Delivery:
        (row,) = [row for row in self.store.deliveries() if row.kind is DeliveryKind.STOP]
        return row

    def history(self, name: str = "churn") -> list[ChangeKind]:
        case = self.store.case(incident_id(a_job(name).run))
        return [change.kind for change in case.changes] if case else []

    def stops(self, *answers: StopResult | Exception) -> None:
        self.outbox.stopper = Stops(*answers)  # type: ignore[assignment]

    def replaced(self) -> Outbox:
        """Another process, which starts after the first has died."""
        before = self.outbox
        self.outbox = an_outbox(self.store, self.clock, before.open_channel, owner=f"after {before.owner}")
        self.outbox.config = before.config
        return self.outbox


def find(store: Store, now: datetime, job: JobSnapshot, *reports: Report, config: Config) -> tuple[Case, ...]:
    found = reports or (fired(),)

    def amend(case: Case | None) -> Case | None:
        return incidents.seen(case, job, found, config, now)

    return store.commit([Look(job, str(now), now, watching=True, amend=amend)])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    """The store in memory; `tests/contract` shows that all stores behave alike."""
    return MemoryStore(clock.monotonic)


@pytest.fixture
def slack(clock: Clock) -> Iterator[SlackDouble]:
    with SlackDouble() as double:
        yield double


@pytest.fixture
def receiver(clock: Clock) -> Iterator[WebhookDouble]:
    with WebhookDouble(SECRET, clock) as double:
        yield double


@pytest.fixture
def open_channel(slack: SlackDouble) -> Open:
    def open_(to: str) -> Channel:
        kind, _, address = to.partition(":")
        if kind == "webhook":
            return WebhookChannel(address, SECRET)
        return SlackChannel(slack.token, address, slack.api_url)

    return open_


@pytest.fixture
def scene(store: Store, clock: Clock, open_channel: Open) -> Scene:
    return Scene(store, clock, an_outbox(store, clock, open_channel))


def an_outbox(store: Store, clock: Clock, open_channel: Open, *stops: Any, owner: str = "me") -> Outbox:
    return Outbox(
        store=store,
        open_channel=open_channel,
        stopper=Stops(*stops),  # type: ignore[arg-type]
        gather=lambda finding, job: AlertEvidence(),
        config=routed(SLACK),
        owner=owner,
        clock=clock,
        random=lambda: 1.0,
        instruments=Instruments(),
    )


def attempt_due(outbox: Outbox, clock: Clock) -> list[Delivery]:
    claimed = outbox.store.claim(outbox.owner, clock(), outbox.lease, 100).deliveries
    for delivery in claimed:
        outbox.attempt(delivery, clock())
    return claimed


def turn_until(outbox: Outbox, clock: Clock, end: datetime) -> None:
    """Move the clock to each time at which something is due, and attempt it."""
    while (due := outbox.store.next_due()) is not None and due <= end:
        clock.now = max(clock.now, due)
        if not attempt_due(outbox, clock):
            clock.turn(1)
    clock.now = max(clock.now, end)


def shown(message: dict[str, Any]) -> str:
    """All of a message's words."""
    return json.dumps([message["text"], message["blocks"]], ensure_ascii=False)


# -- the loop --------------------------------------------------------------------------------------


def test_an_outbox_stopped_during_its_pause_claims_nothing_more(
    scene: Scene, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("watcher.delivery.outbox.MAX_CLAIMS_PER_SECOND", 0.01)
    outbox, claim, claims = scene.outbox, store.claim, []

    def claim_and_wake(*attempts: Any) -> Claimed:
        claims.append(attempts)
        outbox.wake()
        return claim(*attempts)

    monkeypatch.setattr(store, "claim", claim_and_wake)
    running = threading.Thread(target=outbox.run, args=(lambda: None,))
    running.start()
    running.join(0.2)  # until it waits because of its pace
    before = len(claims)
    outbox.stop()
    running.join(5)

    assert not running.is_alive()
    assert len(claims) == before > 0


def test_what_is_refused_holds_up_no_first_message_when_it_is_tried_again_at_a_start(
    scene: Scene, store: Store, slack: SlackDouble, monkeypatch: pytest.MonkeyPatch
):
    amend, settle, goes_on, sent = store.amend, store.settle, threading.Event(), threading.Event()
    slack.fail("chat.postMessage", "is_archived")
    scene.finds("refused")
    scene.attempts()
    scene.finds("new")

    def slow_amend(*arguments: Any) -> Case | None:
        goes_on.wait(30)
        return amend(*arguments)

    def noticed_settle(*arguments: Any) -> bool:
        sent.set()
        return settle(*arguments)

    monkeypatch.setattr(store, "amend", slow_amend)
    monkeypatch.setattr(store, "settle", noticed_settle)
    outbox = scene.replaced()
    running = threading.Thread(target=outbox.run, args=(lambda: None,))
    running.start()
    arrived = sent.wait(10)
    outbox.stop()
    goes_on.set()
    running.join(10)

    assert arrived
    assert len(slack.messages) == 1
    assert not running.is_alive()


# -- a destination that is away --------------------------------------------------------------------


def test_after_an_hour_without_slack_everything_arrives_once_and_in_order(scene: Scene, slack: SlackDouble):
    slack.down()
    for name in "abcde":
        scene.finds(f"job-{name}")
        scene.passes(minutes=10)
    scene.passes(minutes=10)
    assert {alert.state for alert in scene.alerts} == {PENDING}
    slack.up()
    scene.passes(hours=1)
    assert [re.findall(r"job-([a-e])", message["text"])[0] for message in slack.messages] == list("abcde")
    assert {alert.state for alert in scene.alerts} == {DELIVERED}
    assert scene.store.next_due() is None


def test_after_an_hour_of_500_responses_each_message_arrives_once(scene: Scene, slack: SlackDouble):
    slack.fail("*", "status_500", times=0)
    for name in "abc":
        scene.finds(f"job-{name}")
    scene.passes(hours=1)
    slack.heal()
    scene.passes(hours=1)
    assert sorted(re.findall(r"job-([a-c])", message["text"])[0] for message in slack.messages) == list("abc")


def test_slack_says_when_to_retry(scene: Scene, slack: SlackDouble):
    scene.finds()
    slack.fail("chat.postMessage", "ratelimited", retry_after=42)
    scene.attempts()
    assert scene.store.next_due() == NOON + timedelta(seconds=42)
    scene.passes(seconds=41)
    assert slack.messages == []
    scene.passes(seconds=1)
    assert len(slack.messages) == 1


def test_an_alert_is_given_up_after_seven_days(scene: Scene, slack: SlackDouble):
    scene.finds()
    slack.down()
    scene.passes(minutes=10)
    scene.clock.now = NOON + KEPT_FOR - timedelta(minutes=1)
    scene.attempts()
    assert scene.alert().state is PENDING
    scene.passes(minutes=5)
    assert scene.alert().state is DeliveryState.DEAD
    assert "given up after 7 days" in scene.alert().error
    slack.up()
    scene.does(incidents.redeliver, ZOE, Door.CLI)
    scene.passes(seconds=5)
    assert len(slack.messages) == 1


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_retry_delay_grows_and_is_bounded_and_never_zero(failures: int, random: float):
    for delay_after, longest in ((backoff, MAX_RETRY_DELAY_S), (refused_delay, MAX_REFUSED_DELAY_S)):
        delay = delay_after(failures, random)
        assert 0.5 <= delay <= longest
        assert delay_after(failures + 1, random) >= delay


# -- lost answers and dead processes ---------------------------------------------------------------


def test_a_message_whose_response_was_lost_is_found_and_not_sent_again(scene: Scene, slack: SlackDouble):
    scene.finds()
    slack.fail("chat.postMessage", "close_after")
    scene.attempts()
    assert (scene.alert().state, scene.alert().uncertain) == (PENDING, True)
    scene.passes(minutes=5)
    assert len(slack.messages) == 1
    assert scene.alert().state is DELIVERED
    assert json.loads(scene.alert().receipt)["ts"] == slack.messages[0]["ts"]


def test_nothing_is_sent_while_the_lookup_fails(scene: Scene, slack: SlackDouble):
    scene.finds()
    slack.fail("chat.postMessage", "close_after")
    slack.fail("conversations.history", "status_500", times=3)
    slack.fail("users.conversations", "status_500", times=3)
    scene.passes(minutes=10)
    assert len(slack.messages) == 1
    assert scene.alert().state is DELIVERED


def test_a_message_that_cannot_be_looked_up_is_sent_again_and_says_so(scene: Scene, slack: SlackDouble):
    slack.workspace.scopes -= {"channels:history"}
    scene.finds()
    slack.fail("chat.postMessage", "close_after")
    scene.passes(minutes=5)
    first, second = slack.messages
    assert "Possible duplicate" not in shown(first)
    assert "Possible duplicate" in shown(second)


def test_each_later_attempt_at_a_webhook_is_marked_as_a_possible_repeat(
    scene: Scene, receiver: WebhookDouble
):
    scene.config = routed(f"webhook:{receiver.url}")
    scene.finds()
    receiver.close_connection()
    receiver.answer(429)
    scene.passes(minutes=5)
    assert [body["repeat"] for body in receiver.bodies] == [False, True, True]
    assert len({request.headers["Idempotency-Key"] for request in receiver.received}) == 1
    scene.finds("churn", fired(OVERFIT))
    scene.passes(minutes=5)
    assert receiver.bodies[-1]["repeat"] is False
    assert len({request.headers["Idempotency-Key"] for request in receiver.received}) == 2


@contextmanager
def dies_before_it_settles(scene: Scene) -> Iterator[None]:
    """What the process does in this block is never recorded; then another one takes over."""
    scene.outbox._write = lambda *args, **more: False  # type: ignore[method-assign]
    yield
    scene.replaced()


def test_a_delivery_in_flight_in_a_dead_process_is_looked_up_before_it_is_sent_again(
    scene: Scene, slack: SlackDouble
):
    scene.finds()
    with dies_before_it_settles(scene):
        scene.attempts()
    assert len(slack.messages) == 1
    assert scene.attempts() == [], "its lease has not ended"
    scene.passes(minutes=5)
    assert len(slack.messages) == 1
    assert scene.alert().state is DELIVERED


def test_an_attempt_whose_lease_was_taken_over_changes_nothing(scene: Scene, slack: SlackDouble):
    scene.finds()
    outbox, store, clock = scene.outbox, scene.store, scene.clock
    (mine,) = store.claim(outbox.owner, clock(), 1.0, 10).deliveries
    clock.turn(2)
    (theirs,) = store.claim("other", clock(), 1.0, 10).deliveries
    assert theirs.uncertain
    with capture_logs() as logs:
        outbox.attempt(mine, clock())
    assert "lease_lost" in [entry["event"] for entry in logs]
    assert scene.alert().state is DeliveryState.IN_FLIGHT


def test_a_delivery_is_not_sent_when_preparing_it_took_half_of_its_lease(scene: Scene, slack: SlackDouble):
    scene.finds()

    def late(seconds: float) -> AlertEvidence:
        scene.clock.turn(seconds)
        return AlertEvidence()

    scene.outbox.gather = lambda finding, job: late(scene.outbox.lease / 2 + 1)
    scene.attempts()
    assert slack.messages == []
    scene.outbox.gather = lambda finding, job: late(scene.outbox.lease / 2)
    scene.passes(minutes=2)
    assert len(slack.messages) == 1


def test_a_process_that_was_suspended_after_its_claim_sends_nothing(scene: Scene, slack: SlackDouble):
    scene.finds()
    suspended, claimed_at = scene.outbox, scene.clock()
    (mine,) = scene.store.claim(suspended.owner, claimed_at, suspended.lease, 10).deliveries
    scene.replaced()
    scene.passes(minutes=5)
    assert len(slack.messages) == 1
    slack.workspace.messages.clear()
    suspended.attempt(mine, claimed_at)
    assert slack.messages == []


# -- refusals --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """What makes Slack refuse everything, and how it is mended."""

    code: str
    begin: Callable[[SlackDouble], None]
    mend: Callable[[SlackDouble], None]


def _set(what: str, value: Any, conversation: int | None = 0) -> Callable[[SlackDouble], None]:
    def change(slack: SlackDouble) -> None:
        workspace = slack.workspace
        setattr(workspace if conversation is None else workspace.conversations[conversation], what, value)

    return change


TROUBLES = [
    Trouble("not_in_channel", _set("member", False), _set("member", True)),
    Trouble("is_archived", _set("archived", True), _set("archived", False)),
    Trouble("channel_not_found", _set("name", "renamed"), _set("name", "alerts")),
    Trouble("token_revoked", _set("revoked", True, None), _set("revoked", False, None)),
]
every_trouble = pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.code)


@every_trouble
def test_what_slack_refuses_is_kept_and_goes_out_by_itself_when_that_is_mended(
    scene: Scene, slack: SlackDouble, trouble: Trouble
):
    trouble.begin(slack)
    scene.finds()
    with capture_logs() as logs:
        scene.attempts()
    assert scene.alert().state is REFUSED
    assert trouble.code in scene.alert().error
    assert slack.token not in json.dumps([scene.alert().error, str(logs)])
    (line,) = [entry for entry in logs if entry["event"] == "destination_refuses"]
    assert line["log_level"] == "error"
    scene.passes(hours=5)
    trouble.mend(slack)
    scene.passes(hours=1)
    assert len(slack.messages) == 1
    assert (scene.alert().state, scene.alert().refused_at) == (DELIVERED, None)


@every_trouble
def test_what_slack_refuses_goes_out_at_once_when_a_person_asks(
    scene: Scene, slack: SlackDouble, trouble: Trouble
):
    trouble.begin(slack)
    scene.finds()
    scene.passes(hours=5)
    trouble.mend(slack)
    scene.does(incidents.redeliver, ZOE, Door.CLI)
    scene.attempts()
    assert len(slack.messages) == 1


def test_what_is_refused_goes_out_at_once_after_a_start(scene: Scene, slack: SlackDouble):
    slack.workspace.conversations[0].member = False
    scene.finds()
    scene.passes(hours=5)
    slack.workspace.conversations[0].member = True
    assert scene.replaced().run_until_empty(5)
    assert len(slack.messages) == 1


def test_a_run_that_ends_with_something_refused_says_so(scene: Scene, slack: SlackDouble):
    slack.workspace.conversations[0].member = False
    scene.finds()
    assert not scene.outbox.run_until_empty(5)


def test_a_run_does_not_wait_for_a_grace_that_ends_after_it(scene: Scene, receiver: WebhookDouble):
    scene.config = routed(f"webhook:{receiver.url}", stop=True, grace=3600)
    scene.finds()
    assert scene.outbox.run_until_empty(60)
    assert len(receiver.received) == 1
    assert scene.stop.state is PENDING


def test_what_is_refused_goes_out_when_its_destination_takes_another_message(
    scene: Scene, slack: SlackDouble
):
    slack.workspace.conversations[0].member = False
    scene.finds("job-a")
    scene.finds("job-b")
    scene.passes(hours=5)
    slack.workspace.conversations[0].member = True
    scene.finds("job-c")
    scene.passes(seconds=1)
    assert len(slack.messages) == 3


def test_what_is_refused_is_tried_less_and_less_often_but_every_hour(scene: Scene, slack: SlackDouble):
    slack.workspace.conversations[0].member = False
    scene.finds()
    tried = []
    while scene.clock() < NOON + timedelta(days=2):
        scene.clock.now = scene.store.next_due() or scene.clock()
        assert scene.attempts()
        tried.append((scene.clock() - NOON).total_seconds())
    waits = [round(later - earlier) for earlier, later in pairwise(tried)]
    assert waits[:8] == [30, 60, 120, 240, 480, 960, 1920, 3600]
    assert set(waits[8:]) == {3600}


def test_a_restart_does_not_let_what_is_refused_be_tried_often_again(scene: Scene, slack: SlackDouble):
    slack.workspace.conversations[0].member = False
    scene.finds()
    scene.passes(hours=10)
    calls = slack.calls["chat.postMessage"]
    scene.replaced().run_until_empty(1)
    scene.passes(hours=2)
    assert slack.calls["chat.postMessage"] - calls == 1 + 2


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_a_webhook_refuses_is_kept_with_its_reason(scene: Scene, receiver: WebhookDouble, status: int):
    scene.config = routed(f"webhook:{receiver.url}")
    receiver.answer(status, body='{"error": "unknown field: version"}')
    scene.finds()
    scene.attempts()
    (alert,) = scene.alerts
    assert alert.state is REFUSED
    assert '"unknown field: version"' in alert.error
    scene.passes(seconds=31)
    assert [body["repeat"] for body in receiver.bodies] == [False, False]
    assert scene.alerts[0].state is DELIVERED


def test_what_a_topic_refuses_is_kept_until_it_takes_it(store: Store, clock: Clock, sandbox: Sandbox):
    topic = "arn:aws:sns:eu-west-1:123456789012:made-later"
    sns = client("sns", sandbox.endpoint)
    outbox = an_outbox(store, clock, lambda to: SnsChannel(topic, sns))
    scene = Scene(store, clock, outbox, routed(f"sns:{topic}"))
    scene.finds()
    scene.attempts()
    assert scene.alerts[0].state is REFUSED
    assert "create it" in scene.alerts[0].error
    sns.create_topic(Name="made-later")
    scene.passes(seconds=31)
    assert scene.alerts[0].state is DELIVERED


def test_a_refusal_is_told_once_where_another_destination_works(
    scene: Scene, slack: SlackDouble, receiver: WebhookDouble
):
    scene.config = routed(SLACK, f"webhook:{receiver.url}")
    slack.workspace.conversations[0].archived = True
    scene.finds("job-a")
    scene.passes(hours=3)
    scene.finds("job-b")
    scene.does(incidents.redeliver, ZOE, Door.CLI, name="job-a")
    scene.passes(hours=3)
    scene.replaced().run_until_empty(1)
    scene.passes(hours=3)
    told = [body for body in receiver.bodies if "refused" in [change["kind"] for change in body["changes"]]]
    assert [(body["finding"]["job"], body["kind"]) for body in told] == [("job-a", "update")]
    assert "slack:#alerts has refused this alert" in told[0]["undelivered"][0]
    assert "is_archived" in told[0]["undelivered"][0]


def test_a_refusal_after_a_failure_that_could_have_passed_is_told_too(
    scene: Scene, slack: SlackDouble, receiver: WebhookDouble
):
    scene.config = routed(SLACK, f"webhook:{receiver.url}")
    slack.fail("chat.postMessage", "ratelimited")
    slack.workspace.conversations[0].archived = True
    scene.finds()
    scene.passes(minutes=1)
    assert scene.history().count(ChangeKind.REFUSED) == 1


def test_a_refusal_after_it_was_mended_is_told_again(
    scene: Scene, slack: SlackDouble, receiver: WebhookDouble
):
    scene.config = routed(SLACK, f"webhook:{receiver.url}")
    slack.workspace.conversations[0].archived = True
    scene.finds()
    scene.passes(minutes=1)
    slack.workspace.conversations[0].archived = False
    scene.passes(hours=1)
    slack.workspace.conversations[0].archived = True
    scene.finds("churn", fired(OVERFIT))
    scene.passes(minutes=1)
    assert scene.history().count(ChangeKind.REFUSED) == 2


def test_what_a_webhook_refuses_goes_to_the_slack_channel(
    scene: Scene, slack: SlackDouble, receiver: WebhookDouble
):
    scene.config = routed(f"webhook:{receiver.url}", channel="#alerts")
    for name in ("job-a", "job-b"):
        receiver.answer(404)
        scene.finds(name)
        scene.attempts()
        scene.attempts()
    assert len(slack.messages) == 2
    assert "404" in shown(slack.messages[0])


def test_a_destination_that_is_no_longer_configured_is_kept_until_it_is(
    scene: Scene, slack: SlackDouble, open_channel: Open
):
    def refuse(to: str) -> Channel:
        raise ConfigError(f"'{to}' needs slack.bot_token")

    scene.outbox.open_channel = refuse
    scene.finds()
    scene.attempts()
    assert scene.alert().state is REFUSED
    assert "slack.bot_token" in scene.alert().error
    scene.outbox.open_channel = open_channel
    assert scene.replaced().run_until_empty(5)
    assert len(slack.messages) == 1


# -- one alert that cannot be sent -----------------------------------------------------------------


def test_an_alert_on_which_watcher_itself_fails_holds_back_no_other(scene: Scene, slack: SlackDouble):
    def gather(finding: Finding, job: JobSnapshot | None) -> AlertEvidence:
        if finding.job == "job-a":
            raise ZeroDivisionError("an unexpected fault")
        return AlertEvidence()

    scene.outbox.gather = gather
    scene.finds("job-a")
    scene.finds("job-b")
    with capture_logs() as logs:
        scene.passes(seconds=1)
    assert ["job-b" in message["text"] for message in slack.messages] == [True]
    failed = next(alert for alert in scene.alerts if alert.state is not DELIVERED)
    assert failed.state is REFUSED
    assert "an unexpected fault" in failed.error
    assert "delivery_failed" in [entry["event"] for entry in logs]


def test_an_alert_that_is_refused_alone_is_not_tried_with_every_other_message(
    scene: Scene, slack: SlackDouble
):
    tried: list[str] = []

    def gather(finding: Finding, job: JobSnapshot | None) -> AlertEvidence:
        tried.append(finding.job)
        if finding.job == "job-a":
            raise ZeroDivisionError("an unexpected fault")
        return AlertEvidence()

    scene.outbox.gather = gather
    scene.finds("job-a")
    with capture_logs():
        for number in range(8):
            scene.finds(f"job-b{number}")
            scene.passes(seconds=1)
    assert len(slack.messages) == 8
    assert tried.count("job-a") == 2


class Picky(WebhookDouble):
    """Fails on everything about one job."""

    def next_answer(self, status: int = 204) -> Any:
        about = self.received[-1].body["finding"]["job"] if self.received else ""
        return super().next_answer(500 if about == "job-a" else status)


def test_an_alert_on_which_its_receiver_fails_holds_back_the_others_for_two_minutes_only(
    scene: Scene, clock: Clock
):
    with Picky(SECRET, clock) as receiver:
        scene.config = routed(f"webhook:{receiver.url}")
        scene.finds("job-a")
        scene.finds("job-b")
        scene.passes(minutes=3)
        assert [body["finding"]["job"] for body in receiver.bodies].count("job-b") == 1


# -- edits -----------------------------------------------------------------------------------------


def test_ten_changes_within_a_second_are_one_edit(scene: Scene, slack: SlackDouble):
    scene.finds()
    scene.attempts()
    for number in range(10):
        scene.clock.turn(0.1)
        scene.finds("churn", fired(f"Rule{number}"))
    scene.passes(minutes=1)
    assert (slack.calls["chat.postMessage"], slack.calls["chat.update"]) == (1, 1)
    assert "Rule9" in shown(slack.messages[0])


def test_a_first_message_is_held_back_by_nothing(scene: Scene, slack: SlackDouble):
    scene.finds("job-a")
    scene.attempts()
    scene.finds("job-a", fired(OVERFIT))
    scene.finds("job-b")
    scene.attempts()
    assert (slack.calls["chat.postMessage"], slack.calls["chat.update"]) == (2, 0)
    slack.fail("chat.update", "ratelimited", retry_after=600)
    scene.passes(seconds=5)
    scene.finds("job-c")
    scene.attempts()
    assert slack.calls["chat.postMessage"] == 3


def test_a_snoozed_alert_holds_back_no_edit_of_another(scene: Scene, slack: SlackDouble):
    for name in ("job-a", "job-b"):
        scene.finds(name)
    scene.passes(seconds=1)
    scene.does(incidents.snooze, scene.clock() + 8 * HOUR, ZOE, Door.CLI, name="job-a")
    scene.passes(seconds=5)
    assert "snoozed until" in shown(slack.messages[0])
    scene.finds("job-b", fired(OVERFIT))
    scene.passes(seconds=5)
    assert "Overfit" in shown(slack.messages[1])
    scene.passes(hours=8)
    assert "snoozed until" not in shown(slack.messages[0])


def test_a_webhook_is_told_nothing_during_a_snooze_and_reminded_at_its_end(
    scene: Scene, receiver: WebhookDouble
):
    scene.config = routed(f"webhook:{receiver.url}")
    scene.finds()
    scene.passes(seconds=1)
    scene.does(incidents.snooze, scene.clock() + HOUR, ZOE, Door.CLI)
    scene.finds("churn", fired(OVERFIT))
    scene.passes(minutes=59)
    assert len(receiver.bodies) == 1
    scene.passes(minutes=2)
    reminder = receiver.bodies[1]
    assert [change["kind"] for change in reminder["changes"]] == ["worse"]
    assert len({request.headers["Idempotency-Key"] for request in receiver.received}) == 2


def test_a_deleted_alert_is_posted_anew_once(scene: Scene, slack: SlackDouble):
    scene.finds()
    scene.passes(seconds=1)
    slack.workspace.messages.clear()
    scene.finds("churn", fired(OVERFIT))
    scene.passes(minutes=1)
    (message,) = slack.messages
    assert "Overfit" in shown(message)
    scene.finds("churn", recovered())
    scene.passes(minutes=1)
    (message,) = slack.messages
    assert message["edited"]


@pytest.mark.parametrize("fault", ["close_after", "killed"])
def test_a_deleted_alert_is_posted_anew_once_though_the_answer_is_lost(
    scene: Scene, slack: SlackDouble, fault: str
):
    scene.finds()
    scene.passes(seconds=1)
    slack.workspace.messages.clear()
    scene.finds("churn", fired(OVERFIT))
    scene.clock.turn(incidents.EDIT_DELAY_S)
    if fault == "killed":
        with dies_before_it_settles(scene):
            scene.attempts()
    else:
        slack.fail("chat.postMessage", fault)
        scene.attempts()
    assert len(slack.messages) == 1
    scene.finds("churn", fired(DEPTH))
    scene.passes(minutes=5)
    (message,) = slack.messages
    assert "TreeDepth" in shown(message)
    assert json.loads(scene.alert().receipt)["ts"] == message["ts"]


def test_where_editing_is_forbidden_each_change_is_one_reply(scene: Scene, slack: SlackDouble):
    slack.workspace.editable = False
    scene.finds()
    scene.passes(seconds=1)
    slack.fail("chat.postMessage", "close_after")
    scene.finds("churn", fired(OVERFIT))
    scene.passes(minutes=5)
    scene.does(incidents.acknowledge, ZOE, Door.CLI)
    scene.passes(minutes=5)
    first, reply = slack.messages
    assert reply["thread_ts"] == first["ts"]
    assert "Overfit" in reply["text"]
    assert scene.alert().told == scene.alert().wanted == 3


# -- forms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["invalid_blocks", "msg_blocks_too_long", "msg_too_long"])
def test_a_message_that_slack_refuses_for_its_form_is_sent_shorter(
    scene: Scene, slack: SlackDouble, code: str
):
    slack.fail("chat.postMessage", code, times=2)
    scene.finds()
    scene.attempts()
    (message,) = slack.messages
    assert message["blocks"] == []
    assert "LossNotDecreasing" in message["text"]
    scene.finds("churn", fired(OVERFIT))
    scene.passes(seconds=5)
    assert slack.messages[0]["blocks"] == [], "it keeps the form that was taken"
    assert slack.calls["chat.update"] == 1


def test_what_slack_refuses_in_every_form_is_kept(scene: Scene, slack: SlackDouble):
    slack.fail("chat.postMessage", "msg_too_long", times=3)
    scene.finds()
    scene.attempts()
    assert (scene.alert().state, len(slack.messages)) == (REFUSED, 0)


def test_a_message_that_is_too_large_for_a_webhook_is_sent_without_its_evidence(
    scene: Scene, receiver: WebhookDouble
):
    scene.config = routed(f"webhook:{receiver.url}")
    scene.outbox.gather = lambda finding, job: AlertEvidence(log_lines=("a long log",))
    receiver.answer(413)
    scene.finds()
    scene.attempts()
    assert [body["evidence"]["log"]["lines"] for body in receiver.bodies] == [["a long log"], []]
    assert len({request.headers["Idempotency-Key"] for request in receiver.received}) == 1
    assert scene.alerts[0].state is DELIVERED


# -- the console -----------------------------------------------------------------------------------


def test_the_console_is_told_each_change_once(store: Store, clock: Clock):
    printed = io.StringIO()
    console = ConsoleChannel(printed)
    scene = Scene(store, clock, an_outbox(store, clock, lambda to: console), routed("console"))
    scene.finds()
    scene.passes(seconds=1)
    scene.finds("churn", fired(OVERFIT))
    scene.passes(seconds=1)
    scene.does(incidents.acknowledge, ZOE, Door.CLI)
    scene.passes(minutes=1)
    assert printed.getvalue().count("Update: ") == 1


# -- what is said is true --------------------------------------------------------------------------

STOPPING = StopResult(StopState.STOPPING, "it is stopping")
STOPPED = StopResult(StopState.STOPPED, "Stopped by Watcher (route job *, rule *) at 12:00:09 UTC.")


def test_while_a_stop_waits_no_message_says_that_the_job_continues(scene: Scene, slack: SlackDouble):
    scene.config = routed(SLACK, stop=True, grace=40)
    scene.stops(STOPPING, STOPPED)
    scene.finds()
    scene.passes(seconds=1)
    scene.config = Config(route=(Route(to=(SLACK,)),), stop=scene.config.stop)
    scene.finds("churn", fired(OVERFIT))
    scene.passes(seconds=10)
    (message,) = slack.messages
    assert "Watcher stops this job at 12:00:40 UTC" in shown(message)
    assert "continues" not in shown(message)
    scene.passes(minutes=1)
    (message,) = slack.messages
    assert "Stopped by Watcher" in shown(message)


def test_a_message_that_was_held_up_says_how_it_is_when_it_arrives(scene: Scene, slack: SlackDouble):
    slack.down()
    scene.finds()
    scene.passes(minutes=30)
    scene.does(incidents.person_stops, ZOE, Door.CLI)
    scene.does(incidents.stop_ended, StopPhase.STOPPED, ZOE, f"Stopped by {ZOE} at 12:30:00 UTC.")
    scene.passes(minutes=30)
    slack.up()
    scene.passes(minutes=2)
    (message,) = slack.messages
    assert f"Stopped by {ZOE} at 12:30:00 UTC." in shown(message)
    assert "continues" not in shown(message)
    assert slack.calls["chat.update"] == 0


def test_a_person_who_stops_the_job_is_shown_in_the_alert(scene: Scene, slack: SlackDouble):
    scene.finds()
    scene.passes(seconds=1)
    assert "The job continues" in shown(slack.messages[0])
    scene.does(incidents.person_stops, ZOE, Door.CLI)
    scene.passes(seconds=5)
    assert f"Watcher is stopping this job ({ZOE})" in shown(slack.messages[0])
    scene.does(incidents.stop_ended, StopPhase.STOPPED, ZOE, f"Stopped by {ZOE} at 12:00:06 UTC.")
    scene.passes(seconds=5)
    assert f"Stopped by {ZOE} at 12:00:06 UTC." in shown(slack.messages[0])


# -- stops -----------------------------------------------------------------------------------------


def test_the_result_of_a_stop_is_shown_in_the_alert(scene: Scene, slack: SlackDouble):
    scene.config = routed(SLACK, stop=True)
    scene.stops(STOPPING, STOPPED)
    job = scene.finds()
    scene.passes(minutes=1)
    assert scene.outbox.stopper.attempts == [(job.run, "route job *, rule *")] * 2  # type: ignore[attr-defined]
    (message,) = slack.messages
    assert "Stopped by Watcher" in shown(message)
    assert {delivery.state for delivery in scene.store.deliveries()} == {DELIVERED}


def test_the_grace_begins_when_the_alert_has_arrived(scene: Scene, slack: SlackDouble):
    scene.config = routed(SLACK, stop=True, grace=40, grace_limit=600)
    scene.stops(STOPPED)
    slack.down()
    scene.finds()
    scene.passes(seconds=200)
    assert scene.outbox.stopper.attempts == []  # type: ignore[attr-defined]
    slack.up()
    scene.passes(seconds=62)
    (message,) = slack.messages
    stops_at = scene.stop.due_at
    assert scene.clock() < stops_at <= scene.clock() + timedelta(seconds=40)
    assert f"Watcher stops this job at {stops_at:%H:%M:%S} UTC" in shown(message)
    turn_until(scene.outbox, scene.clock, stops_at)
    assert len(scene.outbox.stopper.attempts) == 1  # type: ignore[attr-defined]


def test_without_slack_the_job_is_stopped_after_the_limit_and_the_grace(scene: Scene, slack: SlackDouble):
    scene.config = routed(SLACK, stop=True, grace=40, grace_limit=100)
    scene.stops(STOPPED)
    slack.down()
    scene.finds()
    scene.passes(seconds=139)
    assert scene.outbox.stopper.attempts == []  # type: ignore[attr-defined]
    scene.passes(seconds=1)
    assert len(scene.outbox.stopper.attempts) == 1  # type: ignore[attr-defined]


def test_time_in_which_no_process_ran_takes_nothing_from_the_grace(scene: Scene, slack: SlackDouble):
    scene.config = routed(SLACK, stop=True, grace=40, grace_limit=600)
    scene.stops(STOPPED)
    scene.finds()
    scene.clock.turn(3 * 3600)  # the process died before it sent the alert
    scene.outbox.began = scene.clock()
    scene.passes(seconds=1)
    assert len(slack.messages) == 1
    assert scene.outbox.stopper.attempts == []  # type: ignore[attr-defined]
    turn_until(scene.outbox, scene.clock, scene.stop.due_at)
    assert len(scene.outbox.stopper.attempts) == 1  # type: ignore[attr-defined]


def test_the_grace_begins_though_one_destination_refuses_the_alert(
    scene: Scene, slack: SlackDouble, receiver: WebhookDouble
):
    scene.config = routed(SLACK, f"webhook:{receiver.url}", stop=True, grace=40)
    scene.stops(STOPPED)
    slack.workspace.conversations[0].archived = True
    scene.finds()
    scene.passes(seconds=45)
    assert len(scene.outbox.stopper.attempts) == 1  # type: ignore[attr-defined]


def test_a_stop_that_is_cancelled_during_its_grace_never_happens(scene: Scene, slack: SlackDouble):
    scene.config = routed(SLACK, stop=True, grace=40)
    scene.stops()
    scene.finds()
    scene.passes(seconds=10)
    scene.does(incidents.cancel_stop, ZOE, Door.CLI)
    scene.passes(hours=1)
    assert "cancelled the stop" in shown(slack.messages[0])
    assert scene.stop.state is DeliveryState.CANCELLED


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (
            StopResult(StopState.REFUSED, "limit reached", Refusal.BRAKE),
            DeliveryState.SKIPPED,
            "Not stopped: limit reached.",
        ),
        (
            StopResult(StopState.ENDED_OTHERWISE, "churn ended (Completed) before the stop took effect"),
            DeliveryState.SKIPPED,
            "churn ended (Completed) before the stop took effect",
        ),
        (
            AccessDenied("no permission for sagemaker:StopTrainingJob", operation="x"),
            DeliveryState.DEAD,
            "NOT stopped",
        ),
    ],
)
def test_a_stop_that_did_not_happen_is_reported_with_its_reason(
    scene: Scene, slack: SlackDouble, answer: StopResult | Exception, state: DeliveryState, words: str
):
    scene.config = routed(SLACK, stop=True)
    scene.stops(answer)
    scene.finds()
    scene.passes(minutes=1)
    assert scene.stop.state is state
    assert words in shown(slack.messages[0])


def test_a_stop_is_retried_while_sagemaker_does_not_answer(scene: Scene, slack: SlackDouble):
    scene.config = routed(SLACK, stop=True)
    down = Unavailable("sagemaker:DescribeTrainingJob did not answer", operation="x")
    scene.stops(down, down, STOPPED)
    scene.finds()
    scene.passes(minutes=1)
    assert all(row.state is DELIVERED for row in scene.store.deliveries())


def test_a_stop_is_given_up_after_a_day_without_an_answer(scene: Scene, slack: SlackDouble):
    scene.config = routed(SLACK, stop=True)
    down = Unavailable("sagemaker:DescribeTrainingJob did not answer", operation="x")
    scene.stops(*[down] * 2000)
    scene.finds()
    scene.passes(hours=23)
    assert scene.stop.state is PENDING
    scene.passes(hours=2)
    assert scene.stop.state is DeliveryState.DEAD
    assert "NOT stopped: given up after 1 day" in shown(slack.messages[0])


def test_a_stop_that_was_first_asked_for_days_ago_is_tried_as_long_as_any_other(
    scene: Scene, slack: SlackDouble
):
    scene.config = routed(SLACK, stop=True)
    down = Unavailable("sagemaker:DescribeTrainingJob did not answer", operation="x")
    scene.stops(StopResult(StopState.REFUSED, "limit reached", Refusal.BRAKE), down, STOPPED)
    scene.finds()
    scene.passes(hours=72)
    scene.does(incidents.person_stops, ZOE, Door.CLI)
    scene.passes(minutes=1)
    assert scene.stop.state is DELIVERED


# -- findings of this process ----------------------------------------------------------------------


def test_a_new_alert_uses_the_job_as_it_was_found_and_a_later_attempt_the_current_job(
    scene: Scene, slack: SlackDouble
):
    job = a_job("churn")
    (case,) = find(scene.store, scene.clock(), job, config=scene.config)
    scene.outbox.wake([(case, job)])
    gathered: list[JobSnapshot | None] = []

    def gather(_: Finding, job: JobSnapshot | None) -> AlertEvidence:
        gathered.append(job)
        return AlertEvidence()

    scene.outbox.gather = gather
    ended = replace(job, status="Completed")
    scene.store.commit([Look(ended, "2", scene.clock(), watching=True)])
    slack.fail("chat.postMessage", "ratelimited", retry_after=1)
    scene.attempts()
    scene.clock.now += FRESH_FOR
    scene.attempts()

    assert gathered == [job, ended]
    assert len(slack.messages) == 1


def test_a_destination_that_is_added_later_is_told_the_whole_history(scene: Scene, receiver: WebhookDouble):
    scene.finds()
    scene.passes(seconds=1)
    to = f"webhook:{receiver.url}"
    job = a_job("churn")
    (case,) = find(scene.store, scene.clock(), job, fired(OVERFIT), config=routed(to))
    scene.outbox.wake([(case, job)])
    scene.attempts()
    assert [change["kind"] for change in receiver.bodies[0]["changes"]] == ["opened", "worse"]


def test_a_message_about_ten_thousand_changes_tells_the_last_of_them(scene: Scene, receiver: WebhookDouble):
    to = f"webhook:{receiver.url}"
    scene.finds(config=routed(to))
    story = scene.store.case(incident_id(a_job("churn").run))
    assert story is not None
    later = [
        Change(revision, scene.clock(), ChangeKind.WORSE, "again", incident=story.incident.id)
        for revision in range(2, 10_001)
    ]
    incident = replace(story.incident, revision=10_000, telling_revision=10_000)
    rows = tuple(replace(row, wanted=10_000) for row in story.deliveries)
    scene.store.amend(incident.id, lambda case: case and Case(incident, case.findings, rows, tuple(later)))
    scene.attempts()

    (body,) = receiver.bodies
    assert body["incident"]["revision"] == 10_000
    assert [change["revision"] for change in body["changes"]] == list(range(9_901, 10_001))
