"""Retries and lookups of deliveries, with the real Slack client, a controlled clock and no sleeping."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.doubles.clock import Clock
from tests.doubles.slack import SlackDouble
from tests.doubles.webhook import WebhookDouble
from tests.jobs import FIRED, NOON, a_job, an_outcome
from watcher.config.settings import Config, Route
from watcher.delivery.channels.base import Channel
from watcher.delivery.channels.slack import SlackChannel
from watcher.delivery.channels.webhook import WebhookChannel
from watcher.delivery.outbox import GIVE_UP_AFTER, MAX_RETRY_DELAY_S, SNAPSHOT_MAX_AGE, Outbox, backoff
from watcher.delivery.stop import StopResult, StopState
from watcher.errors import AccessDenied, ConfigError, Unavailable
from watcher.instruments import Instruments
from watcher.jobs.detect import detect
from watcher.model import AlertEvidence, Delivery, DeliveryKind, DeliveryState, Finding, JobSnapshot
from watcher.policy import routing
from watcher.policy.stop_guards import Refusal
from watcher.store.base import Claimed, Look, Store
from watcher.store.memory import MemoryStore


class Stops:
    """A stopper that answers the attempts at a stop with these results, in turn."""

    def __init__(self, *answers: StopResult | Exception) -> None:
        self.answers = list(answers)
        self.attempts: list[tuple[str, str]] = []

    def attempt(self, arn: str, actor: str) -> StopResult:
        self.attempts.append((arn, actor))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def store() -> Store:
    """The store in memory; `tests/contract` shows that all stores behave alike."""
    return MemoryStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slack(clock: Clock) -> Iterator[SlackDouble]:
    with SlackDouble() as double:
        yield double


@pytest.fixture
def open_channel(slack: SlackDouble) -> Callable[[str], Channel]:
    return lambda to: SlackChannel(slack.token, to.partition(":")[2], slack.api_url)


@pytest.fixture
def outbox(store: Store, clock: Clock, open_channel: Callable[[str], Channel]) -> Outbox:
    return an_outbox(store, clock, open_channel)


def an_outbox(
    store: Store, clock: Clock, open_channel: Callable[[str], Channel], *stops: Any, owner: str = "me"
) -> Outbox:
    return Outbox(
        store=store,
        open_channel=open_channel,
        stopper=Stops(*stops),  # type: ignore[arg-type]
        gather=lambda finding, job: AlertEvidence(),
        owner=owner,
        clock=clock,
        random=lambda: 1.0,
        instruments=Instruments(),
    )


def find_issue(store: Store, now: datetime, name: str = "churn", **route: Any) -> JobSnapshot:
    """Commit the finding of a rule that fired on a job, with its deliveries."""
    job = a_job(name, outcomes=(an_outcome("IssuesFound", details=FIRED),))
    (finding,) = detect(None, job, now=now, stopped_by_us=False)
    config = Config(route=(Route(**{"to": ("slack:#alerts",), **route}),))
    rows = routing.deliveries(finding, routing.decide(finding, job, config), config.stop, now)
    store.commit(
        [Look(job, "1", now, watching=True, findings=(finding,), deliveries=tuple(rows))],
    )
    return job


def attempt_due(outbox: Outbox, clock: Clock) -> list[Delivery]:
    claimed = outbox.store.claim(outbox.owner, clock(), outbox.lease, 100).deliveries
    for delivery in claimed:
        outbox.attempt(delivery)
    return claimed


def turn_until(outbox: Outbox, clock: Clock, end: datetime) -> None:
    """Move the clock to each time at which something is due, and attempt it."""
    while (due := outbox.store.next_due()) is not None and due <= end:
        clock.now = max(clock.now, due)
        attempt_due(outbox, clock)
    clock.now = max(clock.now, end)


def skip_to(outbox: Outbox, clock: Clock, moment: datetime) -> None:
    """Move the clock at once, as if the process had been down, and attempt what is due."""
    clock.now = moment
    attempt_due(outbox, clock)


def alerted_jobs(slack: SlackDouble) -> list[str]:
    return [re.findall(r"job-([a-e])", message["text"])[0] for message in slack.messages]


def test_an_outbox_stopped_during_its_pause_claims_nothing_more(
    outbox: Outbox, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("watcher.delivery.outbox.MAX_CLAIMS_PER_SECOND", 0.01)
    claim, claims = store.claim, []

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


def test_after_an_hour_without_slack_everything_arrives_once_and_in_order(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    slack.down()
    for minute, name in enumerate("abcde"):
        turn_until(outbox, clock, NOON + timedelta(minutes=10 * minute))
        find_issue(store, clock(), f"job-{name}")
    turn_until(outbox, clock, NOON + timedelta(hours=1))
    assert {delivery.state for delivery in store.deliveries()} == {DeliveryState.PENDING}
    slack.up()
    turn_until(outbox, clock, NOON + timedelta(hours=2))
    assert alerted_jobs(slack) == list("abcde")
    assert {delivery.state for delivery in store.deliveries()} == {DeliveryState.DELIVERED}
    assert store.next_due() is None


def test_after_an_hour_of_500_responses_each_message_arrives_once(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    slack.fail("*", "status_500", times=0)
    for name in "abc":
        find_issue(store, clock(), f"job-{name}")
    turn_until(outbox, clock, NOON + timedelta(hours=1))
    slack.heal()
    turn_until(outbox, clock, NOON + timedelta(hours=2))
    assert alerted_jobs(slack) == list("abc")


def test_a_message_whose_response_was_lost_is_found_and_not_sent_again(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    find_issue(store, clock())
    slack.fail("chat.postMessage", "close_after")
    attempt_due(outbox, clock)
    (delivery,) = store.deliveries()
    assert (delivery.state, delivery.uncertain) == (DeliveryState.PENDING, True)
    turn_until(outbox, clock, NOON + timedelta(minutes=5))
    assert len(slack.messages) == 1
    (delivery,) = store.deliveries()
    assert delivery.state is DeliveryState.DELIVERED
    assert json.loads(delivery.receipt)["ts"] == slack.messages[0]["ts"]


def test_nothing_is_sent_while_the_lookup_fails(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    find_issue(store, clock())
    slack.fail("chat.postMessage", "close_after")
    slack.fail("conversations.history", "status_500", times=3)
    slack.fail("users.conversations", "status_500", times=3)
    turn_until(outbox, clock, NOON + timedelta(minutes=10))
    assert len(slack.messages) == 1
    assert store.deliveries()[0].state is DeliveryState.DELIVERED


def test_each_later_attempt_at_a_webhook_is_marked_as_a_possible_repeat(store: Store, clock: Clock):
    find_issue(store, clock())
    with WebhookDouble("a shared secret", clock) as receiver:
        outbox = an_outbox(store, clock, lambda _: WebhookChannel(receiver.url, receiver.secret))
        receiver.close_connection()
        receiver.answer(429)
        turn_until(outbox, clock, NOON + timedelta(minutes=5))
    assert [body["repeat"] for body in receiver.bodies] == [False, True, True]


def test_a_delivery_in_flight_in_a_dead_process_is_looked_up_before_it_is_sent_again(
    store: Store, clock: Clock, slack: SlackDouble, open_channel: Callable[[str], Channel]
):
    find_issue(store, clock())
    dead = an_outbox(store, clock, open_channel, owner="dead")
    (claimed,) = store.claim(dead.owner, clock(), dead.lease, 10).deliveries
    dead._settle = lambda *args, **more: None  # type: ignore[method-assign]  # it dies before it settles
    dead.attempt(claimed)
    assert len(slack.messages) == 1
    heir = an_outbox(store, clock, open_channel, owner="heir")
    assert attempt_due(heir, clock) == []
    turn_until(heir, clock, NOON + timedelta(minutes=5))
    assert len(slack.messages) == 1
    assert store.deliveries()[0].state is DeliveryState.DELIVERED


def test_slack_says_when_to_retry(outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble):
    find_issue(store, clock())
    slack.fail("chat.postMessage", "ratelimited", retry_after=42)
    attempt_due(outbox, clock)
    assert store.next_due() == NOON + timedelta(seconds=42)
    turn_until(outbox, clock, NOON + timedelta(seconds=41))
    assert slack.messages == []
    turn_until(outbox, clock, NOON + timedelta(seconds=42))
    assert len(slack.messages) == 1


@pytest.mark.parametrize("code", ["invalid_auth", "channel_not_found", "not_in_channel", "is_archived"])
def test_a_permanent_error_becomes_a_dead_letter_and_the_next_delivery_continues(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble, code: str
):
    find_issue(store, clock(), "a")
    find_issue(store, clock(), "b")
    slack.fail("chat.postMessage", code)
    with capture_logs() as logs:
        turn_until(outbox, clock, NOON)
    dead, delivered = store.deliveries()
    assert (dead.state, delivered.state) == (DeliveryState.DEAD, DeliveryState.DELIVERED)
    assert code in dead.error
    (line,) = [entry for entry in logs if entry["event"] == "dead_letter"]
    assert line["log_level"] == "error"
    assert slack.token not in json.dumps([dead.error, str(line)])


def test_a_destination_that_is_no_longer_configured_becomes_a_dead_letter(store: Store, clock: Clock):
    def refuse(to: str) -> Channel:
        raise ConfigError(f"'{to}' needs slack.bot_token")

    find_issue(store, clock())
    attempt_due(an_outbox(store, clock, refuse), clock)
    assert store.deliveries()[0].state is DeliveryState.DEAD
    assert "slack.bot_token" in store.deliveries()[0].error


def test_a_delivery_is_given_up_after_a_day(outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble):
    find_issue(store, clock())
    slack.down()
    turn_until(outbox, clock, NOON + timedelta(minutes=10))
    skip_to(outbox, clock, NOON + GIVE_UP_AFTER - timedelta(minutes=5))
    turn_until(outbox, clock, NOON + GIVE_UP_AFTER)
    assert store.deliveries()[0].state is DeliveryState.PENDING
    turn_until(outbox, clock, NOON + GIVE_UP_AFTER + timedelta(minutes=5))
    assert store.deliveries()[0].state is DeliveryState.DEAD


def test_the_result_of_a_stop_is_added_to_the_alert(
    store: Store, clock: Clock, slack: SlackDouble, open_channel: Callable[[str], Channel]
):
    job = find_issue(store, clock(), stop=True)
    outbox = an_outbox(
        store,
        clock,
        open_channel,
        StopResult(StopState.STOPPING, "it is stopping"),
        StopResult(StopState.STOPPED, "Stopped by Watcher (route job *, rule *) at 12:00:09 UTC"),
    )
    turn_until(outbox, clock, NOON + timedelta(minutes=1))
    assert outbox.stopper.attempts == [(job.arn, "route job *, rule *")] * 2  # type: ignore[attr-defined]
    (message,) = slack.messages
    assert "Stopped by Watcher" in json.dumps(message["blocks"])
    assert {delivery.state for delivery in store.deliveries()} == {DeliveryState.DELIVERED}


@pytest.mark.parametrize(
    ("answer", "state", "shown"),
    [
        (
            StopResult(StopState.REFUSED, "limit reached", Refusal.BRAKE),
            DeliveryState.SKIPPED,
            "Not stopped: limit reached.",
        ),
        (
            StopResult(StopState.ENDED_OTHERWISE, "churn Completed before"),
            DeliveryState.SKIPPED,
            "churn Completed before",
        ),
        (
            AccessDenied("no permission for sagemaker:StopTrainingJob", operation="x"),
            DeliveryState.DEAD,
            "NOT stopped",
        ),
    ],
)
def test_a_stop_that_did_not_happen_is_reported_with_its_reason(
    store: Store,
    clock: Clock,
    slack: SlackDouble,
    open_channel: Callable[[str], Channel],
    answer: StopResult | Exception,
    state: DeliveryState,
    shown: str,
):
    find_issue(store, clock(), stop=True)
    turn_until(an_outbox(store, clock, open_channel, answer), clock, NOON + timedelta(minutes=1))
    (stop,) = [row for row in store.deliveries() if row.kind is DeliveryKind.STOP]
    assert stop.state is state
    assert shown in json.dumps(slack.messages[0]["blocks"])


def test_a_stop_is_retried_while_sagemaker_does_not_answer(
    store: Store, clock: Clock, open_channel: Callable[[str], Channel]
):
    find_issue(store, clock(), stop=True)
    down = Unavailable("sagemaker:DescribeTrainingJob did not answer", operation="x")
    outbox = an_outbox(store, clock, open_channel, down, down, StopResult(StopState.STOPPED, "Stopped"))
    turn_until(outbox, clock, NOON + timedelta(minutes=1))
    assert all(row.state is DeliveryState.DELIVERED for row in store.deliveries())


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_retry_delay_grows_and_is_bounded_and_never_zero(attempts: int, random: float):
    delay = backoff(attempts, random)
    assert 0.5 <= delay <= MAX_RETRY_DELAY_S
    assert backoff(attempts + 1, random) >= delay


def test_an_attempt_whose_lease_was_taken_over_changes_nothing(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    find_issue(store, clock())
    (mine,) = store.claim(outbox.owner, clock(), 1.0, 10).deliveries
    clock.turn(2)
    (theirs,) = store.claim("other", clock(), 60.0, 10).deliveries
    assert theirs.uncertain
    with capture_logs() as logs:
        outbox.attempt(mine)
    assert [entry["event"] for entry in logs][-1] == "lease_lost"
    assert store.deliveries()[0].state is DeliveryState.IN_FLIGHT
    assert replace(theirs, state=DeliveryState.DELIVERED).id == mine.id


def test_a_delivery_is_not_sent_when_preparing_it_outlasted_its_lease(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble
):
    """For example a process that was suspended until its lease had expired, or nearly."""
    find_issue(store, clock())
    outbox.gather = lambda finding, job: late(outbox.lease + 1)

    def late(seconds: float) -> AlertEvidence:
        clock.turn(seconds)
        return AlertEvidence()

    (mine,) = store.claim(outbox.owner, clock(), outbox.lease, 10).deliveries
    outbox.attempt(mine)
    assert slack.messages == []
    outbox.gather = lambda finding, job: late(outbox.lease / 2)
    turn_until(outbox, clock, clock() + timedelta(minutes=2))
    assert len(slack.messages) == 1


def test_a_delivery_on_which_watcher_itself_fails_blocks_no_other(
    store: Store, clock: Clock, slack: SlackDouble, open_channel: Callable[[str], Channel]
):
    def fail(to: str) -> Channel:
        if to == "slack:#prod":
            raise ZeroDivisionError("an unexpected fault")
        return open_channel(to)

    find_issue(store, clock(), to=("slack:#prod", "slack:#alerts"))
    outbox = an_outbox(store, clock, fail)
    with capture_logs() as logs:
        turn_until(outbox, clock, NOON)
        assert len(slack.messages) == 1
        failed, delivered = store.deliveries()
        assert (failed.state, delivered.state) == (DeliveryState.PENDING, DeliveryState.DELIVERED)
        skip_to(outbox, clock, NOON + GIVE_UP_AFTER - timedelta(minutes=5))
        turn_until(outbox, clock, NOON + GIVE_UP_AFTER + timedelta(minutes=5))
    assert store.deliveries()[0].state is DeliveryState.DEAD
    assert "an unexpected fault" in failed.error
    assert "delivery_failed" in [entry["event"] for entry in logs]


# -- findings of this process ---------------------------------------------------------------------


def test_a_new_alert_uses_the_job_as_it_was_found_and_a_later_attempt_the_current_job(
    outbox: Outbox, store: Store, clock: Clock, slack: SlackDouble, monkeypatch: pytest.MonkeyPatch
):
    job = find_issue(store, clock())
    (finding,) = store.findings()
    outbox.wake([(finding, job)])
    gathered: list[JobSnapshot | None] = []

    def gather(_: Finding, job: JobSnapshot | None) -> AlertEvidence:
        gathered.append(job)
        return AlertEvidence()

    monkeypatch.setattr(outbox, "gather", gather)
    ended = replace(job, status="Completed")
    store.commit([Look(ended, "2", clock(), watching=True)])
    slack.fail("chat.postMessage", "ratelimited", retry_after=1)

    attempt_due(outbox, clock)
    clock.now += SNAPSHOT_MAX_AGE
    attempt_due(outbox, clock)

    assert gathered == [job, ended]
    assert len(slack.messages) == 1
