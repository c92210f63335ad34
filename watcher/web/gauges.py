"""Prometheus gauges whose values are read at each scrape: loops, queue, deliveries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from watcher.config.destination import DestinationKind
from watcher.jobs.queued_work import QueuedWork
from watcher.web.loops import Loops
from watcher.web.readiness import Answer, Readiness


class Gauges(Collector):
    """Leaves out the gauges of a store or queue that is not reachable."""

    def __init__(self, loops: Loops, readiness: Readiness, queued: QueuedWork | None) -> None:
        self._loops, self._readiness, self._queued = loops, readiness, queued

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._loop_gauges()
        answer = self._readiness.answer()
        yield GaugeMetricFamily(
            "watcher_ready", "1 while store and queue are reachable, else 0.", value=float(answer.ready)
        )
        if answer.overdue is not None:
            yield GaugeMetricFamily(
                "watcher_delivery_overdue_seconds",
                "How long the next delivery of any process has been due; 0 if none is due.",
                value=answer.overdue,
            )
            yield _refused(answer)
        if answer.queue:
            messages = GaugeMetricFamily(
                "watcher_queue_messages",
                "Messages in the SQS queue (waiting, in flight) and in its dead-letter queue (dead), "
                "as SQS estimates them.",
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
                "Age of the oldest message in this process's last receive; 0 if it returned none.",
                value=self._queued.oldest_s,
            )

    def _loop_gauges(self) -> Iterator[GaugeMetricFamily]:
        lag = GaugeMetricFamily(
            "watcher_loop_lag_seconds", "Time since a loop last made progress.", labels=["loop"]
        )
        bound = GaugeMetricFamily(
            "watcher_loop_bound_seconds",
            "A loop that makes no progress for longer than this counts as hanging.",
            labels=["loop"],
        )
        for one in self._loops.lags():
            lag.add_metric([one.loop], one.seconds)
            bound.add_metric([one.loop], one.bound)
        yield from (lag, bound)


def _refused(answer: Answer) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(
        "watcher_refused_deliveries",
        "Alerts that a destination refuses at present, by the kind of the destination.",
        labels=["destination"],
    )
    refused = Counter(delivery.to.partition(":")[0] for delivery in answer.refused)
    for kind in sorted({*map(str, DestinationKind), *refused}):
        gauge.add_metric([kind], refused[kind])
    return gauge
