"""Brings destinations up to date with incidents, one attempt at each delivery that is due.

    pending ──claim──► in flight ──it has it──────────► delivered ──the incident changes──► pending
       ▲                   │     ├─it refuses it──────► refused ──later, or `watcher redeliver`──► in flight
       └─────may pass──────┘     └─a guard refused────► skipped

What an alert says is composed when it is sent, from the incident as it is then.

Nothing is lost: a delivery stays open in the store until it has arrived. One that is refused is tried again
less and less often, at once after a start, and when its destination takes another one. It is given up after
seven days.

Nothing is told twice: an attempt that may have arrived leaves its delivery `uncertain`, either because its
answer was lost or because its process died and the lease of its claim ended. The next attempt looks the
message up at the destination and sends it only if it is not there. If the destination cannot be asked, the
message says that it may be a duplicate, and has the same key.

A request starts only in the first half of the lease, so that it ends before the lease does. Otherwise another
process could look the message up while it is on its way, not find it, and send it too.

A broken destination delays no other: each destination has its own lane, in which messages stay in order.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from watcher.alerts.message import Message, compose
from watcher.alerts.sentences import headline
from watcher.config.destination import public_url, shown
from watcher.config.settings import Config
from watcher.delivery.channels.base import Channel, EditsMessages, File, TakesFiles
from watcher.delivery.stop import VERIFY_INTERVAL_S, Stopper, StopState
from watcher.errors import (
    AccessDenied,
    AwsError,
    CannotTell,
    ConfigError,
    FormRefused,
    MessageGone,
    Retry,
    StoreError,
    Undeliverable,
    install_extra,
)
from watcher.jobs.work import Pace
from watcher.lru import LruCache
from watcher.model import (
    AlertEvidence,
    Case,
    ChangeKind,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Finding,
    Form,
    JobSnapshot,
    StopPhase,
    alert_to,
    edits_lane,
    refused_lane,
)
from watcher.policy import incidents
from watcher.policy.stop_guards import NO_SUCH_RUN
from watcher.redaction import redacted
from watcher.store.base import Amend, Store
from watcher.text import file_name, one_line, truncated

if TYPE_CHECKING:
    from watcher.instruments import Instruments

log = structlog.get_logger(__name__)

LEASE_S = 60.0
"""An attempt ends well within its lease: gathering evidence and one request have much lower limits."""
WORKERS = 32
"""More than the destinations of most configurations: one that hangs occupies a worker, and must not delay the
others."""
FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S = 1.0, 60.0
"""Where another attempt may succeed by itself."""
FIRST_REFUSED_DELAY_S, MAX_REFUSED_DELAY_S = 30.0, 3600.0
"""Where somebody must mend something first."""
KEPT_FOR = timedelta(days=7)
"""How long an alert is tried before it is given up."""
FAILURES_IN_LANE = 8
"""About two minutes. Then an alert that the destination receives but does not confirm waits in a lane of its
own: the fault may be in this one message, which must not hold back the others."""
GIVE_UP_STOP_AFTER = timedelta(hours=24)
"""How long a stop is tried while SageMaker does not answer."""
MAX_CLAIMS_PER_SECOND = 50
"""Deliveries that become due within 20 ms of each other are claimed together."""
MAX_CLAIM_INTERVAL_S = 5.0
"""The longest pause between two claims, because other processes add deliveries to the store too, and people
change incidents by commands."""
STORE_RETRY_DELAY_S = 5.0
FRESH_FOR = timedelta(seconds=5)
"""The first alert of an incident that changed more recently is composed from what this process has just
stored, which saves reads of the store."""
ALT_TEXT_LIMIT = 500
"""Characters that describe a picture. Slack takes 1,000 UTF-16 units."""
MAX_CHANGES_TOLD = 100
"""Changes that one message tells: the last of those that its destination does not know. What is older shows
in how the findings are now."""
FRESH_CACHE_SIZE = 64
"""Incidents that this process has just changed."""


@dataclass
class Outbox:
    """`owner` is this process's name in the store. `random` returns numbers from 0 to 1. `lease` is in
    seconds."""

    store: Store
    open_channel: Callable[[str], Channel]
    """Raises `ConfigError` if a destination in the store is no longer configured."""
    stopper: Stopper
    gather: Callable[[Finding, JobSnapshot | None], AlertEvidence]
    config: Config
    owner: str
    clock: Callable[[], datetime]
    random: Callable[[], float]
    instruments: Instruments
    lease: float = LEASE_S
    began: datetime | None = None
    """When `run` began to deliver; None with `--once`."""
    _channels: dict[str, Channel] = field(default_factory=dict)
    _refusing: set[str] = field(default_factory=set)
    """Destinations that refused the last that this process sent."""
    _tried_again: set[str] = field(default_factory=set)
    """Alerts that were sent again because their destination took another one. If it refuses them once more,
    it refuses only them, and the next message that it takes changes nothing."""
    _skipped_plots: set[tuple[str, str]] = field(default_factory=set)
    _fresh: LruCache[tuple[Case, JobSnapshot, datetime]] = field(
        default_factory=lambda: LruCache(FRESH_CACHE_SIZE)
    )
    """By the incident's id."""
    _wake: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def wake(self, changed: Iterable[tuple[Case, JobSnapshot]] = ()) -> None:
        """Claim due deliveries now. `changed`: cases that this process has just stored."""
        now = self.clock()
        for case, job in changed:
            self._fresh.put(case.incident.id, (case, job, now))
        self._wake.set()

    def stop(self) -> None:
        """Start no more attempts; `run` returns once those in progress have ended."""
        self._stopping.set()
        self._wake.set()

    def run(self, turned: Callable[[], None]) -> None:
        """Deliver until `stop` is called. `turned` is called at least every half minute."""
        self.began = self.clock()

        def wanted() -> bool:
            turned()
            return not self._stopping.is_set()

        self._deliver_while(wanted, beside=self._retry_refused)  # thousands of them hold up no first message

    def run_until_empty(self, timeout_s: float) -> bool:
        """Deliver until nothing is open, for at most `timeout_s`; False if something is left, or refused. A
        stop that is due only later is left to the next process."""
        until = self.clock() + timedelta(seconds=timeout_s)
        self._retry_refused()
        self._deliver_while(
            lambda: not self._stopping.is_set() and self.store.has_open(until) and self.clock() < until
        )
        return not self.store.has_open(until) and not self.store.refused()

    def _deliver_while(self, wanted: Callable[[], bool], *, beside: Callable[[], None] | None = None) -> None:
        """`beside` is done by a worker at the same time."""
        under_way: set[Future[None]] = set()
        pace = Pace(MAX_CLAIMS_PER_SECOND, time.monotonic, self._stopping.wait)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="deliver") as pool:
            if beside:
                under_way.add(pool.submit(beside))
            while wanted():
                self._wake.clear()
                for attempt in [attempt for attempt in under_way if attempt.done()]:
                    under_way.remove(attempt)
                    attempt.result()  # what `attempt` itself does not catch ends the loop, and the process
                pause = MAX_CLAIM_INTERVAL_S  # the end of an attempt ends the pause as well
                try:
                    if idle := WORKERS - len(under_way):
                        now = self.clock()
                        claimed = self.store.claim(self.owner, now, self.lease, idle)
                        for delivery in claimed.deliveries:
                            attempt = pool.submit(self.attempt, delivery, now)
                            under_way.add(attempt)
                            attempt.add_done_callback(lambda _: self._wake.set())
                        pause = self._seconds_to(claimed.next_due)
                except StoreError as error:
                    log.error("store_failed", error=str(error), consequence="nothing is lost; retrying")
                    pause = STORE_RETRY_DELAY_S
                self._wake.wait(pause)
                pace.keep()
        for attempt in under_way:
            attempt.result()

    def _seconds_to(self, due: datetime | None) -> float:
        if due is None:
            return MAX_CLAIM_INTERVAL_S
        return min(max((due - self.clock()).total_seconds(), 0.0), MAX_CLAIM_INTERVAL_S)

    # -- one attempt ------------------------------------------------------------------------------

    def attempt(self, delivery: Delivery, claimed_at: datetime) -> None:
        """Try once to carry out a claimed delivery, and record the result."""
        with structlog.contextvars.bound_contextvars(delivery=delivery.id, to=public_url(delivery.to)):
            try:
                case, job = self._present(delivery)
                with structlog.contextvars.bound_contextvars(
                    job=case.incident.job, incident=case.incident.id
                ):
                    match delivery.kind:
                        case DeliveryKind.STOP:
                            self._stop(delivery, case)
                        case DeliveryKind.PLOT:
                            self._attach_plot(delivery, case, job)
                        case DeliveryKind.ALERT:
                            self._alert(delivery, case, job, claimed_at)
            except StoreError as error:
                # The result is not recorded. Once the lease ends, another attempt looks the message up.
                log.error("store_failed", error=str(error), consequence="the delivery is retried")
            except Exception as error:
                # A bug that concerns one delivery must not block the others, nor be retried for ever.
                log.exception("delivery_failed")
                cause = f"Watcher failed: {type(error).__name__}: {error}"
                with suppress(StoreError):  # then the lease ends, as above
                    match delivery.kind:
                        case DeliveryKind.ALERT:
                            self._refuse(replace(delivery, uncertain=True), cause)
                        case DeliveryKind.PLOT:
                            self._settle(delivery, DeliveryState.SKIPPED, error=cause)
                        case DeliveryKind.STOP:
                            self._retry(delivery, Retry(cause, uncertain=True))

    def _present(self, delivery: Delivery) -> tuple[Case, JobSnapshot | None]:
        """The incident as it is now, and its job; from the store, unless this process has just stored what a
        first alert tells. Raises `StoreError`."""
        fresh = self._fresh.get(delivery.incident)
        if fresh and delivery.kind is DeliveryKind.ALERT and not delivery.told:
            case, job, at = fresh
            is_current = delivery.wanted in (case.incident.revision, case.incident.telling_revision)
            is_whole = len(case.changes) == case.incident.revision
            if is_current and is_whole and not delivery.uncertain and self.clock() - at < FRESH_FOR:
                return case, job
        stored = self.store.case(delivery.incident, max(delivery.told, delivery.trying - MAX_CHANGES_TOLD))
        if stored is None:
            raise StoreError(f"delivery {delivery.id} has no incident: the store was edited by hand")
        record = self.store.job(stored.incident.run)
        return stored, record.snapshot if record else None

    # -- alerts -----------------------------------------------------------------------------------

    def _alert(self, alert: Delivery, case: Case, job: JobSnapshot | None, claimed_at: datetime) -> None:
        finding = headline(case)
        evidence = self.gather(finding, job)  # a shorter form keeps its explanation
        message = compose(case, alert, job, evidence, self.clock(), prices=self.config.prices)
        try:
            sent, form = self._send_some_form(alert, message, claimed_at)
        except Retry as error:
            self._retry(alert, error)
        except (Undeliverable, ConfigError) as error:
            self._refuse(alert, str(error))
        else:
            takes_files = isinstance(self._channel(alert.to), TakesFiles)
            has_picture = takes_files and bool(evidence.curve) and bool(sent)
            new_picture = has_picture and case.delivery(incidents.picture_id(alert, finding)) is None
            self._delivered(replace(alert, receipt=sent, form=form), case, finding.id if new_picture else "")

    def _send_some_form(self, alert: Delivery, message: Message, claimed_at: datetime) -> tuple[str, Form]:
        """Sends the message, in a shorter form if the destination refuses the longer one. Returns the receipt
        and the form."""
        forms = list(Form)
        for form in forms[forms.index(alert.form) :]:
            try:
                return self._send(alert, message.shortened(form), claimed_at), form
            except FormRefused as error:
                if form is forms[-1]:
                    raise
                log.warning("form_refused", form=form, error=str(error), consequence="it is sent shorter")
        raise AssertionError("the last form is sent or raises")

    def _send(self, alert: Delivery, message: Message, claimed_at: datetime) -> str:
        """Edits the alert where it was told and can be edited, and sends a message anywhere else. Returns the
        receipt."""
        channel = self._channel(alert.to)
        unknown = alert.uncertain  # whether an earlier attempt arrived
        try:
            self._check_lease(claimed_at)
            if alert.told and isinstance(channel, EditsMessages):
                try:
                    return channel.update(message, alert.receipt)
                except MessageGone:
                    log.info("message_gone", consequence="the alert is posted anew")
            if alert.uncertain:
                try:
                    receipt = channel.find(message)
                except CannotTell:
                    message = replace(message, repeat=True)
                else:
                    unknown = False
                    if receipt is not None:
                        log.info("delivery_already_arrived")
                        if alert.told and isinstance(channel, EditsMessages):
                            return channel.update(message, receipt)  # the one posted anew
                        return receipt
            self._check_lease(claimed_at)
            return channel.send(message)
        except Retry as error:
            # That this attempt did not arrive says nothing about an earlier one.
            error.uncertain = error.uncertain or unknown
            raise

    def _check_lease(self, claimed_at: datetime) -> None:
        spent = (self.clock() - claimed_at).total_seconds()
        if spent > self.lease / 2:
            raise Retry(f"preparing it took {spent:.0f} s, more than half of the lease")

    def _delivered(self, alert: Delivery, case: Case, picture_of: str) -> None:
        now = self.clock()
        stop = case.incident.stop
        grace_waits = stop is not None and stop.phase is StopPhase.WAITING and stop.due_at is None
        amend: Amend | None = None
        if picture_of or grace_waits or case.incident.snoozed_until:

            def amend(present: Case | None) -> Case | None:
                return incidents.delivered(present, alert.id, self.config.stop, now, picture_of)

        # If the incident has changed meanwhile, the alert is due again at this time.
        delay = timedelta(seconds=incidents.EDIT_DELAY_S if incidents.can_edit(alert.to) else 0)
        done = replace(
            alert,
            lane=edits_lane(alert.to),
            state=DeliveryState.DELIVERED,
            due_at=now + delay,
            uncertain=False,
            error="",
            delivered_at=now,
            told=alert.trying,
            failures=0,
            refused_at=None,
        )
        if self._write(done, amend, first=not alert.told):
            log.info(
                "delivered",
                kind="update" if alert.told else "alert",
                revision=done.told,
                seconds=round(_age(alert, now), 3),
            )
        self._tried_again.discard(alert.id)
        if alert.to in self._refusing:
            self._refusing.discard(alert.to)
            log.info("destination_takes_messages_again")
            self._retry_refused(alert.to)

    def _refuse(self, alert: Delivery, error: str) -> None:
        """Keep what the destination refuses, and try it again later and later."""
        now = self.clock()
        since = alert.refused_at or now
        if now - since > KEPT_FOR:
            self._give_up(alert, f"given up after {KEPT_FOR.days} days: {error}")
            return
        delay = refused_delay(alert.failures + 1, self.random())
        refused = replace(
            alert,
            lane=refused_lane(alert.id),
            state=DeliveryState.REFUSED,
            due_at=now + timedelta(seconds=delay),
            error=redacted(error),
            failures=alert.failures + 1,
            refused_at=since,
        )
        # Told once for each destination, however many incidents it refuses.
        known = (
            alert.to in self._refusing
            or self._told_that_it_refuses(alert)
            or any(row.to == alert.to and row.id != alert.id for row in self.store.refused())
        )

        def amend(present: Case | None) -> Case | None:
            return incidents.refused(present, refused, self.config, now, already_known=known)

        level = log.warning if known else log.error
        level("destination_refuses", error=error, since=since.isoformat(), seconds=round(delay, 1))
        self._refusing.add(alert.to)
        self._write(refused, amend)

    def _told_that_it_refuses(self, alert: Delivery) -> bool:
        """Whether the incident's history says so since the destination took the alert last."""
        case = self.store.case(alert.incident, alert.told)
        name = shown(alert.to)
        return case is not None and any(
            change.kind is ChangeKind.REFUSED
            and change.actor == name
            and (alert.delivered_at is None or change.at > alert.delivered_at)
            for change in case.changes
        )

    def _retry_refused(self, to: str | None = None) -> None:
        """Send again what was refused: everything, because the settings may be others now; or what is for one
        destination."""
        try:
            rows = [row for row in self.store.refused() if to in (None, row.to)]
            if to is None:
                self._refusing |= {row.to for row in rows}
            else:
                rows = [row for row in rows if row.id not in self._tried_again]
                self._tried_again |= {row.id for row in rows}
            now = self.clock()
            for incident in dict.fromkeys(row.incident for row in rows):
                if self._stopping.is_set():
                    return
                self.store.amend(incident, lambda case: incidents.retry_refused(case, now, to))
        except StoreError as error:
            log.error("store_failed", error=str(error), consequence="what was refused is tried again later")

    # -- pictures ---------------------------------------------------------------------------------

    def _attach_plot(self, delivery: Delivery, case: Case, job: JobSnapshot | None) -> None:
        """Attach the plot to the alert. A plot that cannot be drawn or uploaded is skipped, since the alert
        has the numbers."""
        finding = case.finding(delivery.finding)
        alert = alert_to(delivery.to, case.deliveries)
        try:
            channel = self._channel(delivery.to)
            if not (finding and alert and alert.receipt and isinstance(channel, TakesFiles)):
                raise Undeliverable("the alert is no longer available")
            evidence = self.gather(finding, job)
            if not evidence.curve:
                raise Undeliverable("its curve is no longer available")
            file = File(
                name=file_name(finding.rule or "plot", f"-{delivery.id}.png"),
                title=one_line(f"{finding.rule} on {finding.job}"),
                alt_text=truncated(one_line(evidence.explanation or evidence.curve_from), ALT_TEXT_LIMIT)
                or "The values that decided, as a curve",
                content=_picture(finding, evidence),
            )
            if not (delivery.uncertain and channel.has(file, alert.receipt)):
                channel.attach(file, alert.receipt)
        except Retry as error:
            self._retry(delivery, error)
        except (Undeliverable, ConfigError) as error:
            self._log_skipped_plot(delivery.to, str(error))
            self._settle(delivery, DeliveryState.SKIPPED, error=str(error))
        else:
            self._settle(delivery, DeliveryState.DELIVERED)

    def _log_skipped_plot(self, to: str, why: str) -> None:
        """Log each reason once, because a missing scope concerns all plots. Each delivery keeps its error."""
        if (to, why) not in self._skipped_plots:
            self._skipped_plots.add((to, why))
            log.warning("plot_skipped", error=why, consequence="the alert has the numbers; logged once")

    def _channel(self, to: str) -> Channel:
        if to not in self._channels:
            self._channels[to] = self.open_channel(to)
        return self._channels[to]

    # -- stops ------------------------------------------------------------------------------------

    def _stop(self, delivery: Delivery, case: Case) -> None:
        now, actor = self.clock(), delivery.actor

        def ended(phase: StopPhase, sentence: str, gone: str = "") -> Amend:
            return lambda present: incidents.stop_ended(present, phase, actor, sentence, now, gone=gone)

        if due_at := self._grace_after_outage(case, now):
            self._write(replace(delivery, state=DeliveryState.PENDING, due_at=due_at))
            return
        try:
            result = self.stopper.attempt(delivery.run, actor=actor)
        except AccessDenied as error:
            denied = ended(StopPhase.NOT_STOPPED, f"The job was NOT stopped: {error}")
            self._give_up(delivery, str(error), denied)
        except AwsError as error:
            self._retry(delivery, Retry(str(error)))
        else:
            match result.state:
                case StopState.STOPPING:
                    asked = case.incident.stop and case.incident.stop.phase is StopPhase.STOPPING
                    later = replace(
                        delivery,
                        state=DeliveryState.PENDING,
                        due_at=now + timedelta(seconds=VERIFY_INTERVAL_S),
                        error=result.sentence,
                        failures=0,
                        refused_at=None,
                    )
                    amend: Amend = lambda present: incidents.stop_requested(present, actor, now)  # noqa: E731
                    self._write(later, None if asked else amend)
                case StopState.REFUSED | StopState.ENDED_OTHERWISE:
                    gone = result.sentence if result.refusal in NO_SUCH_RUN else ""
                    amend = ended(StopPhase.NOT_STOPPED, f"Not stopped: {result.sentence}.", gone)
                    self._settle(delivery, DeliveryState.SKIPPED, error=result.sentence, amend=amend)
                case StopState.STOPPED:
                    amend = ended(StopPhase.STOPPED, result.sentence)
                    self._settle(delivery, DeliveryState.DELIVERED, amend=amend)

    def _grace_after_outage(self, case: Case, now: datetime) -> datetime | None:
        """When to stop a run whose alert has not arrived, if this process began too late to deliver it. The
        time in which Watcher was down does not count towards `stop.grace_limit`: nobody could read the alert
        then, nor cancel the stop."""
        stop, settings = case.incident.stop, self.config.stop
        if not (self.began and stop and stop.phase is StopPhase.WAITING and stop.due_at is None):
            return None
        earliest = self.began + timedelta(seconds=settings.grace_limit + settings.grace)
        return earliest if now < earliest else None

    # -- the result -------------------------------------------------------------------------------

    def _retry(self, delivery: Delivery, error: Retry) -> None:
        now = self.clock()
        since = delivery.refused_at or now
        if delivery.kind is DeliveryKind.STOP and now - since > GIVE_UP_STOP_AFTER:
            sentence = f"The job was NOT stopped: given up after {GIVE_UP_STOP_AFTER.days} day: {error}"
            self._give_up(
                delivery,
                sentence,
                lambda case: incidents.stop_ended(case, StopPhase.NOT_STOPPED, delivery.actor, sentence, now),
            )
            return
        if now - since > KEPT_FOR:
            self._give_up(delivery, f"given up after {KEPT_FOR.days} days: {error}")
            return
        failures = delivery.failures + 1
        delay = backoff(failures, self.random()) if error.after is None else error.after
        is_alert = delivery.kind is DeliveryKind.ALERT
        by_itself = is_alert and error.uncertain and failures >= FAILURES_IN_LANE
        log.info("delivery_retry", error=str(error), attempts=delivery.attempts, seconds=round(delay, 1))
        later = replace(
            delivery,
            lane=f"failing:{delivery.id}" if by_itself else delivery.lane,
            state=DeliveryState.PENDING,
            due_at=now + timedelta(seconds=delay),
            uncertain=error.uncertain,
            error=redacted(str(error)),
            failures=failures,
            refused_at=since,
        )
        self._write(later)

    def _give_up(self, delivery: Delivery, error: str, amend: Amend | None = None) -> None:
        log.error("dead_letter", error=error, attempts=delivery.attempts)
        self._settle(delivery, DeliveryState.DEAD, error=error, amend=amend)

    def _settle(
        self, delivery: Delivery, state: DeliveryState, *, error: str = "", amend: Amend | None = None
    ) -> None:
        now = self.clock()
        delivered_at = now if state is DeliveryState.DELIVERED else delivery.delivered_at
        done = replace(delivery, state=state, error=redacted(error), delivered_at=delivered_at)
        if self._write(done, amend) and state is DeliveryState.DELIVERED:
            log.info("delivered", kind=delivery.kind, seconds=round(_age(delivery, now), 3))

    def _write(self, delivery: Delivery, amend: Amend | None = None, *, first: bool = False) -> bool:
        """`first`: the alert has just arrived for the first time."""
        held = self.store.settle(self.owner, delivery, amend)
        if held:
            self.instruments.attempted(delivery, _age(delivery, self.clock()), first=first)
            if amend:
                self.wake()
        else:
            log.warning("lease_lost", consequence="another process has taken over this delivery")
        return held


def _age(delivery: Delivery, now: datetime) -> float:
    """Seconds since it was decided."""
    return (now - delivery.created_at).total_seconds()


def _picture(finding: Finding, evidence: AlertEvidence) -> bytes:
    try:
        from watcher.alerts import plots  # imports matplotlib, so only once there is something to draw
    except ModuleNotFoundError as error:
        raise Undeliverable(f"{error.name} is missing, which draws plots; {install_extra('plot')}") from error
    picture = plots.png(plots.of_evidence(evidence, finding))
    # A figure takes some MB and is a reference cycle. Without this, about fifty of them pile up in memory.
    gc.collect()
    return picture


def backoff(failures: int, random: float) -> float:
    """Seconds until the next attempt. They double up to a minute, with jitter."""
    return _doubled(failures, FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S) * (0.5 + 0.5 * random)


def refused_delay(failures: int, random: float) -> float:
    """The same for what is refused: from half a minute up to an hour."""
    return _doubled(failures, FIRST_REFUSED_DELAY_S, MAX_REFUSED_DELAY_S) * (0.5 + 0.5 * random)


def _doubled(failures: int, first: float, longest: float) -> float:
    return min(first * 2.0 ** (min(failures, 20) - 1), longest)
