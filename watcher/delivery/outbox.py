"""Attempts each delivery that is due once, and records the result.

Nothing is lost, because a delivery stays open in the store until it has arrived. Nothing is sent twice,
because a delivery that may have arrived (the process died, the answer was lost) is looked up at the
destination before it is sent again. A broken destination delays no other: each destination has its own lane,
in which messages stay in order.
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
"""More than a configuration has destinations. One that hangs occupies a worker, and must not delay others."""
FIRST_RETRY_S, RETRY_LIMIT_S = 1.0, 60.0
CLAIMS_PER_SECOND = 50
"""A limit: deliveries that come within 20 ms of each other are claimed together."""
CLAIM_INTERVAL_S = 30.0
"""The longest pause between two claims, because other processes add deliveries to the store too."""
STORE_RETRY_S = 5.0
SNAPSHOT_MAX_AGE = timedelta(seconds=5)
"""A finding that is younger is sent with the job's state from when it was found, without asking the store."""
FINDING_CACHE_SIZE = 64
GIVE_UP_AFTER = timedelta(hours=24)
"""A delivery that has not arrived by then becomes a dead letter."""


@dataclass
class Outbox:
    """`owner` is this process's name in the store; `random` returns numbers from 0 to 1; `prices` are US
    dollars an hour, by instance type."""

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
        """Look for deliveries now. `found`: what this process has just found."""
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
        pace = Pace(CLAIMS_PER_SECOND, time.monotonic, self._stopping.wait)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="deliver") as pool:
            while wanted():
                self._wake.clear()
                for attempt in [attempt for attempt in under_way if attempt.done()]:
                    under_way.remove(attempt)
                    attempt.result()  # what `attempt` itself does not catch ends the loop, and the process
                pause = CLAIM_INTERVAL_S  # the end of an attempt cuts it short
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
                    pause = STORE_RETRY_S
                self._wake.wait(pause)
                pace.keep()
        for attempt in under_way:
            attempt.result()

    def _seconds_to(self, due: datetime | None) -> float:
        if due is None:
            return CLAIM_INTERVAL_S
        return min(max((due - self.clock()).total_seconds(), 0.0), CLAIM_INTERVAL_S)

    # -- one attempt ------------------------------------------------------------------------------

    def attempt(self, delivery: Delivery) -> None:
        """Try once to deliver what was just claimed, and record the result."""
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
                # The claim's lease will end, and the delivery is looked up before it is sent again.
                log.error("store_failed", error=str(error), consequence="the delivery is retried")
            except Exception as error:
                # A bug that concerns this delivery must not block the others, nor be retried for ever.
                log.exception("delivery_failed")
                with suppress(StoreError):  # then the claim's lease will end, as above
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
            to_show = delivery.kind is DeliveryKind.ALERT and evidence.curve and receipt
            shown = to_show and isinstance(self._channel(delivery.to), TakesFiles)
            then = [routing.plot(delivery, self.clock())] if shown else []
            self._settle(delivery, DeliveryState.DELIVERED, receipt=receipt, then=then)

    def _attach_plot(self, delivery: Delivery, finding: Finding) -> None:
        """Attach the plot to the alert. If it cannot be drawn or uploaded, it is skipped: the alert has the
        numbers."""
        evidence = self.gather(finding, self._job(finding))
        alert = self._alert_of(delivery, finding)
        try:
            channel = self._channel(delivery.to)
            if not (alert and alert.receipt and evidence.curve and isinstance(channel, TakesFiles)):
                raise Undeliverable("there is no longer anything to draw")
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
        """Log each reason once: a missing scope, say, concerns all plots. Each delivery has its own error."""
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
        if delivery.uncertain:
            try:
                receipt = channel.find(message)
            except Retry as error:
                raise Retry(str(error), after=error.after, uncertain=True) from error
            if receipt is not None:
                log.info("delivery_already_arrived")
                return receipt
            message = replace(message, repeat=not channel.can_find)
        spent = (self.clock() - begun).total_seconds()
        if spent > self.lease / 2:
            # Once the lease ends, another process may look for this message, not find it, and send it too.
            raise Retry(f"preparing it took {spent:.0f} s", uncertain=delivery.uncertain)
        if delivery.kind is DeliveryKind.UPDATE:
            return channel.update(message, alert.receipt if alert else "")
        return channel.send(message)

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

    # -- the result ---------------------------------------------------------------------------------

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
        """`report`: what to add wherever the alert was sent. `then`: deliveries that follow from this one."""
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
    # A figure of some MB is a reference cycle. Without this, about fifty of them pile up.
    gc.collect()
    return picture


def backoff(attempts: int, random: float) -> float:
    """Seconds until the next attempt: doubling up to a minute, with jitter."""
    longest = min(FIRST_RETRY_S * 2.0 ** (min(attempts, 10) - 1), RETRY_LIMIT_S)
    return longest * (0.5 + 0.5 * random)
