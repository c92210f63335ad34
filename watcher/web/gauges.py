"""What Prometheus is told of the moment in which it asks: loops, queue, and what is to be delivered."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from watcher.jobs.queued_work import QueuedWork
from watcher.web.loops import Loops
from watcher.web.readiness import Readiness


class Momentary(Collector):
    """Of what does not answer there is no sample."""

    def __init__(self, loops: Loops, readiness: Readiness, queued: QueuedWork | None) -> None:
        self._loops, self._readiness, self._queued = loops, readiness, queued

    def collect(self) -> Iterator[GaugeMetricFamily]:
        lag = GaugeMetricFamily(
            "watcher_loop_lag_seconds", "Since a loop of the daemon turned last.", labels=["loop"]
        )
        bound = GaugeMetricFamily(
            "watcher_loop_bound_seconds",
            "What its longest turn may take before it counts as hanging.",
            labels=["loop"],
        )
        for one in self._loops.lags():
            lag.add_metric([one.loop], one.seconds)
            bound.add_metric([one.loop], one.bound)
        yield from (lag, bound)
        answer = self._readiness.answer()
        yield GaugeMetricFamily("watcher_ready", "Whether store and queue answer.", value=float(answer.ready))
        if answer.overdue is not None:
            yield GaugeMetricFamily(
                "watcher_delivery_overdue_seconds",
                "For how long the delivery that is due next has been waiting, whichever process takes it.",
                value=answer.overdue,
            )
        if answer.queue:
            messages = GaugeMetricFamily(
                "watcher_queue_messages",
                "SQS's approximate counts: waiting, in flight, or dead (in the dead-letter queue).",
                labels=["state"],
            )
            messages.add_metric(["waiting"], answer.queue.waiting)
            messages.add_metric(["in_flight"], answer.queue.in_flight)
            if answer.queue.dead is not None:
                messages.add_metric(["dead"], answer.queue.dead)
            yield messages
        if self._queued:
            yield GaugeMetricFamily(
                "watcher_queue_oldest_message_age_seconds",
                "Of the oldest message that this process received last; 0 where there was none.",
                value=self._queued.oldest,
            )
