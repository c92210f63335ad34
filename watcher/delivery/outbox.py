"""Attempts each delivery that is due once, and records the result.

    pending ──claim──► in flight ──arrived──────────► delivered
       ▲                   │     ├─will not pass────► dead (a dead letter)
       └─────may pass──────┘     └─a guard refused──► skipped

Nothing is lost: a delivery stays open in the store until it has arrived or is given up.

Nothing is sent twice: an attempt that may have arrived leaves its delivery `uncertain`, either because its
answer was lost or because its process died and the lease of its claim ended. The next attempt looks the
message up at the destination and sends it only if it is not there. If the destination cannot be asked, the
message says that it may be a duplicate.

A request starts only in the first half of the lease, so that it ends before the lease does. Otherwise another
process could look the message up while it is on its way, not find it, and send it too.

A broken destination delays no other: each destination has its own lane, in which messages stay in order.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from watcher.alerts.message import Message, compose
from watcher.config.destination import public_url
from watcher.delivery.channels.base import Channel, File, TakesFiles
from watcher.delivery.stop import VERIFY_INTERVAL_S, Stopper, StopState
from watcher.errors import (
    AccessDenied,
    AwsError,
    ConfigError,
    Retry,
    StoreError,
    Undeliverable,
    install_extra,
)
from watcher.jobs.work import Pace
from watcher.lru import LruCache
from watcher.model import AlertEvidence, Delivery, DeliveryKind, DeliveryState, Finding, JobSnapshot
from watcher.policy import routing
from watcher.store.base import Store

if TYPE_CHECKING:
    from watcher.instruments import Instruments

log = structlog.get_logger(__name__)

LEASE_S = 60.0
"""An attempt ends well within its lease: gathering evidence and one request have much lower limits."""
WORKERS = 32
"""More than the destinations of most configurations: one that hangs occupies a worker, and must not delay the
others."""
FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S = 1.0, 60.0
MAX_CLAIMS_PER_SECOND = 50
"""Deliveries that become due within 20 ms of each other are claimed together."""
MAX_CLAIM_INTERVAL_S = 30.0
"""The longest pause between two claims, because other processes add deliveries to the store too."""
STORE_RETRY_DELAY_S = 5.0
SNAPSHOT_MAX_AGE = timedelta(seconds=5)
"""The alert of a younger finding shows the job as it was when the finding was made, which saves a read of the
store."""
FINDING_CACHE_SIZE = 64
"""New findings whose alerts need no read of the store."""
GIVE_UP_AFTER = timedelta(hours=24)
"""A delivery that has not arrived by then becomes a dead letter."""


@dataclass
class Outbox:
    """`owner` is this process's name in the store. `random` returns numbers from 0 to 1. `lease` is in
    seconds. `prices` are US dollars an hour, by instance type."""

    store: Store
    open_channel: Callable[[str], Channel]
    """Raises `ConfigError` if a destination in the store is no longer configured."""
    stopper: Stopper
    gather: Callable[[Finding, JobSnapshot | None], AlertEvidence]
    owner: str
    clock: Callable[[], datetime]
    random: Callable[[], float]
    instruments: Instruments
    lease: float = LEASE_S
    prices: Mapping[str, float] = field(default_factory=dict)
    _channels: dict[str, Channel] = field(default_factory=dict)
    _skipped_plots: set[tuple[str, str]] = field(default_factory=set)
    _found: LruCache[tuple[Finding, JobSnapshot]] = field(
        default_factory=lambda: LruCache(FINDING_CACHE_SIZE)
    )
    """By the finding's id."""
    _wake: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def wake(self, found: Iterable[tuple[Finding, JobSnapshot]] = ()) -> None:
        """Claim due deliveries now. `found`: findings that this process has just stored."""
        for finding, job in found:
            self._found.put(finding.id, (finding, job))
        self._wake.set()

    def stop(self) -> None:
        """Start no more attempts; `run` returns once those in progress have ended."""
        self._stopping.set()
        self._wake.set()

    def run(self, turned: Callable[[], None]) -> None:
        """Deliver until `stop` is called. `turned` is called at least every half minute."""

        def wanted() -> bool:
            turned()
            return not self._stopping.is_set()

        self._deliver_while(wanted)

    def run_until_empty(self, timeout_s: float) -> bool:
        """Deliver until nothing is open, for at most `timeout_s`; False if something is left."""
        until = self.clock() + timedelta(seconds=timeout_s)
        self._deliver_while(
            lambda: not self._stopping.is_set() and self.store.next_due() is not None and self.clock() < until
        )
        return self.store.next_due() is None

    def _deliver_while(self, wanted: Callable[[], bool]) -> None:
        under_way: set[Future[None]] = set()
        pace = Pace(MAX_CLAIMS_PER_SECOND, time.monotonic, self._stopping.wait)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="deliver") as pool:
            while wanted():
                self._wake.clear()
                for attempt in [attempt for attempt in under_way if attempt.done()]:
                    under_way.remove(attempt)
                    attempt.result()  # what `attempt` itself does not catch ends the loop, and the process
                pause = MAX_CLAIM_INTERVAL_S  # the end of an attempt ends the pause as well
                try:
                    if idle := WORKERS - len(under_way):
                        claimed = self.store.claim(self.owner, self.clock(), self.lease, idle)
                        for delivery in claimed.deliveries:
                            attempt = pool.submit(self.attempt, delivery)
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

    def attempt(self, delivery: Delivery) -> None:
        """Try once to carry out a claimed delivery, and record the result."""
        begun = self.clock()
        with structlog.contextvars.bound_contextvars(delivery=delivery.id, to=public_url(delivery.to)):
            try:
                finding = self._finding(delivery.finding_id)
                if finding is None:
                    raise StoreError(f"delivery {delivery.id} has no finding: the store was edited by hand")
                with structlog.contextvars.bound_contextvars(job=finding.job, rule=finding.rule):
                    match delivery.kind:
                        case DeliveryKind.STOP:
                            self._stop(delivery, finding)
                        case DeliveryKind.PLOT:
                            self._attach_plot(delivery, finding)
                        case DeliveryKind.ALERT | DeliveryKind.UPDATE:
                            self._deliver(delivery, finding, begun)
            except StoreError as error:
                # The result is not recorded. Once the lease ends, another attempt looks the message up.
                log.error("store_failed", error=str(error), consequence="the delivery is retried")
            except Exception as error:
                # A bug that concerns one delivery must not block the others, nor be retried for ever.
                log.exception("delivery_failed")
                with suppress(StoreError):  # then the lease ends, as above
                    self._retry(delivery, f"{type(error).__name__}: {error}", None, uncertain=True)

    def _deliver(self, delivery: Delivery, finding: Finding, begun: datetime) -> None:
        job = self._job(finding)
        alert = self._alert_of(delivery, finding)
        if alert:  # an update replaces the alert, which may be about another finding
            finding = self._finding(alert.finding_id) or finding
        evidence = self.gather(finding, job)
        message = compose(delivery, finding, job, evidence, self.clock(), prices=self.prices)
        try:
            receipt = self._send(delivery, message, alert, begun)
        except Retry as error:
            self._retry(delivery, str(error), error.after, uncertain=error.uncertain)
        except (Undeliverable, ConfigError) as error:
            self._give_up(delivery, str(error))
        else:
            has_curve = delivery.kind is DeliveryKind.ALERT and evidence.curve and receipt
            plotted = has_curve and isinstance(self._channel(delivery.to), TakesFiles)
            then = [routing.plot(delivery, self.clock())] if plotted else []
            self._settle(delivery, DeliveryState.DELIVERED, receipt=receipt, then=then)

    def _attach_plot(self, delivery: Delivery, finding: Finding) -> None:
        """Attach the plot to the alert. A plot that cannot be drawn or uploaded is skipped, since the alert
        has the numbers."""
        evidence = self.gather(finding, self._job(finding))
        alert = self._alert_of(delivery, finding)
        try:
            channel = self._channel(delivery.to)
            if not (alert and alert.receipt and evidence.curve and isinstance(channel, TakesFiles)):
                raise Undeliverable("the alert or its curve is no longer available")
            file = File(
                name=f"{finding.rule}-{delivery.id}.png",
                title=f"{finding.rule} on {finding.job}",
                alt_text=evidence.explanation or evidence.curve_from or "The values that decided, as a curve",
                content=_picture(finding, evidence),
            )
            if not (delivery.uncertain and channel.has(file, alert.receipt)):
                channel.attach(file, alert.receipt)
        except Retry as error:
            self._retry(delivery, str(error), error.after, uncertain=error.uncertain)
        except (Undeliverable, ConfigError) as error:
            self._log_skipped_plot(delivery.to, str(error))
            self._settle(delivery, DeliveryState.SKIPPED, error=str(error))
        else:
            self._settle(delivery, DeliveryState.DELIVERED)

    def _finding(self, finding_id: str) -> Finding | None:
        found = self._found.get(finding_id)
        return found[0] if found else self.store.finding(finding_id)

    def _job(self, finding: Finding) -> JobSnapshot | None:
        found = self._found.get(finding.id)
        if found and self.clock() - finding.opened_at < SNAPSHOT_MAX_AGE:
            return found[1]
        record = self.store.job(finding.job_arn)
        return record.snapshot if record else None

    def _log_skipped_plot(self, to: str, why: str) -> None:
        """Log each reason once, because a missing scope concerns all plots. Each delivery keeps its error."""
        if (to, why) not in self._skipped_plots:
            self._skipped_plots.add((to, why))
            log.warning("plot_skipped", error=why, consequence="the alert has the numbers; logged once")

    def _alert_of(self, delivery: Delivery, finding: Finding) -> Delivery | None:
        """The alert that an update or a plot follows."""
        if not delivery.follows:
            return None
        twin = routing.twin(finding)
        rows = [row for id_ in (finding.id, twin) if id_ for row in self.store.deliveries(id_)]
        return next((row for row in rows if row.id == delivery.follows), None)

    def _send(self, delivery: Delivery, message: Message, alert: Delivery | None, begun: datetime) -> str:
        channel = self._channel(delivery.to)
        unknown = delivery.uncertain  # whether an earlier attempt arrived
        try:
            if delivery.uncertain:
                receipt = channel.find(message)
                if receipt is not None:
                    log.info("delivery_already_arrived")
                    return receipt
                unknown = not channel.can_find
                message = replace(message, repeat=unknown)
            spent = (self.clock() - begun).total_seconds()
            if spent > self.lease / 2:
                raise Retry(f"preparing it took {spent:.0f} s, more than half of the lease")
            if delivery.kind is DeliveryKind.UPDATE:
                return channel.update(message, alert.receipt if alert else "")
            return channel.send(message)
        except Retry as error:
            # That this attempt did not arrive says nothing about an earlier one.
            error.uncertain = error.uncertain or unknown
            raise

    def _channel(self, to: str) -> Channel:
        if to not in self._channels:
            self._channels[to] = self.open_channel(to)
        return self._channels[to]

    def _stop(self, delivery: Delivery, finding: Finding) -> None:
        try:
            result = self.stopper.attempt(finding.job_arn, actor=delivery.text)
        except AccessDenied as error:
            self._give_up(delivery, str(error), report=f"The job was NOT stopped and continues: {error}")
        except AwsError as error:
            self._retry(delivery, str(error), None, uncertain=False)
        else:
            match result.state:
                case StopState.STOPPING:
                    self._retry(delivery, result.sentence, VERIFY_INTERVAL_S, uncertain=False)
                case StopState.REFUSED | StopState.ENDED_OTHERWISE:
                    report = f"Not stopped: {result.sentence}."
                    self._settle(delivery, DeliveryState.SKIPPED, error=result.sentence, report=report)
                case StopState.STOPPED:
                    self._settle(delivery, DeliveryState.DELIVERED, report=result.sentence)

    # -- the result -------------------------------------------------------------------------------

    def _retry(self, delivery: Delivery, error: str, after: float | None, *, uncertain: bool) -> None:
        now = self.clock()
        if now - delivery.created_at > GIVE_UP_AFTER:
            self._give_up(delivery, f"given up after {GIVE_UP_AFTER.days} day: {error}")
            return
        delay = backoff(delivery.attempts, self.random()) if after is None else after
        log.info("delivery_retry", error=error, attempts=delivery.attempts, seconds=round(delay, 1))
        later = replace(
            delivery,
            state=DeliveryState.PENDING,
            due_at=now + timedelta(seconds=delay),
            uncertain=uncertain,
            error=error,
        )
        self._write(later)

    def _give_up(self, delivery: Delivery, error: str, report: str = "") -> None:
        log.error("dead_letter", error=error, finding=delivery.finding_id, attempts=delivery.attempts)
        self._settle(delivery, DeliveryState.DEAD, error=error, report=report)

    def _settle(
        self,
        delivery: Delivery,
        state: DeliveryState,
        *,
        receipt: str = "",
        error: str = "",
        report: str = "",
        then: Sequence[Delivery] = (),
    ) -> None:
        """`report`: what to add to the alert, wherever it was sent. `then`: deliveries that follow from this
        one."""
        now = self.clock()
        done = replace(
            delivery,
            state=state,
            receipt=receipt,
            error=error,
            delivered_at=now if state is DeliveryState.DELIVERED else None,
        )
        updates = routing.updates(self.store.deliveries(delivery.finding_id), report, now) if report else []
        if self._write(done, [*updates, *then]) and state is DeliveryState.DELIVERED:
            seconds = _age(delivery, now)
            log.info("delivered", finding=delivery.finding_id, kind=delivery.kind, seconds=round(seconds, 3))
        if updates or then:
            self.wake()

    def _write(self, delivery: Delivery, then: Sequence[Delivery] = ()) -> bool:
        held = self.store.settle(self.owner, delivery, then)
        if held:
            self.instruments.attempted(delivery, _age(delivery, self.clock()))
        else:
            log.warning("lease_lost", consequence="another process has taken over this delivery")
        return held


def _age(delivery: Delivery, now: datetime) -> float:
    """Seconds since its finding was detected."""
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


def backoff(attempts: int, random: float) -> float:
    """Seconds until the next attempt. They double up to a minute, with jitter."""
    longest = min(FIRST_RETRY_DELAY_S * 2.0 ** (min(attempts, 10) - 1), MAX_RETRY_DELAY_S)
    return longest * (0.5 + 0.5 * random)
