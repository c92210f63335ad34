"""What Prometheus is told of this process.

The names are a contract with dashboards and alert rules (`deploy/grafana.json`, `deploy/alerts.yml`), and
each label has few values: a rule is told by what it invokes, as its owner may have made up a name for each
job, and a destination by its kind, as its address may be a secret. Counters count what this process did; of
several on one store, sum them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from watcher import __version__
from watcher.config.destination import DestinationKind
from watcher.model import (
    STOP_DESTINATION,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Finding,
    FindingKind,
    JobSnapshot,
    Outcome,
)

UNNAMED = "custom"
"""A rule whose configuration does not say what it invokes."""
LATENCIES = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)
"""Seconds: an alert takes less than one, and is given up after a day."""


ENDS = (DeliveryState.DELIVERED, DeliveryState.PENDING, DeliveryState.SKIPPED, DeliveryState.DEAD)
"""How an attempt may end."""


class Instruments:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Info("watcher_build", "The version that runs.", registry=self.registry).info({"version": __version__})
        ProcessCollector(registry=self.registry)
        self._watched_jobs = Gauge(
            "watcher_watched_jobs",
            "Training jobs that are watched, as the last reconciliation left them; absent in a process that "
            "another has relieved of it.",
            ["status"],
            registry=self.registry,
        )
        self._reconciled = Gauge(
            "watcher_last_reconcile_timestamp_seconds",
            "When this process last looked at all jobs in progress without being refused; 0 before it has.",
            registry=self.registry,
        )
        self._outcomes = Counter(
            "watcher_rule_outcomes",
            "Rules of training jobs that came to this status.",
            ["rule", "source", "status"],
            registry=self.registry,
        )
        self._findings = Counter(
            "watcher_findings", "What was found and is told.", ["kind"], registry=self.registry
        )
        self._deliveries = Counter(
            "watcher_deliveries",
            "Attempts of deliveries, by the state that they ended in: pending ones are tried again.",
            ["kind", "destination", "state"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "watcher_delivery_latency_seconds",
            "From the detection of a finding until its destination has the alert.",
            ["destination"],
            buckets=LATENCIES,
            registry=self.registry,
        )
        self._requests = Counter(
            "watcher_aws_requests",
            "Requests to AWS, each repetition of the SDK's counted; result is ok or the code of the error.",
            ["service", "operation", "result"],
            registry=self.registry,
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """A counter that appears with its first event shows no increase to Prometheus."""
        for kind in FindingKind:
            self._findings.labels(kind)
        for state in ENDS:
            self._deliveries.labels(DeliveryKind.STOP, STOP_DESTINATION, state)
            for destination in DestinationKind:
                self._deliveries.labels(DeliveryKind.ALERT, destination, state)

    def reconciled(self, at: datetime) -> None:
        self._reconciled.set(at.timestamp())

    def watched(self, statuses: Iterable[str]) -> None:
        """One status for each job; none at all where another process knows."""
        self._watched_jobs.clear()
        for status in statuses:
            self._watched_jobs.labels(status).inc()

    def outcomes(self, job: JobSnapshot, changed: Iterable[Outcome]) -> None:
        for outcome in changed:
            self._outcomes.labels(_invoked(job, outcome), outcome.source, outcome.status).inc()

    def found(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._findings.labels(finding.kind).inc()

    def attempted(self, delivery: Delivery, seconds: float) -> None:
        """`delivery` as the attempt left it, `seconds` after its finding was detected."""
        destination = (
            STOP_DESTINATION if delivery.kind is DeliveryKind.STOP else delivery.to.partition(":")[0]
        )
        self._deliveries.labels(delivery.kind, destination, delivery.state).inc()
        if delivery.kind is DeliveryKind.ALERT and delivery.state is DeliveryState.DELIVERED:
            self._latency.labels(destination).observe(seconds)

    def aws_answered(self, service: str, operation: str, result: str) -> None:
        self._requests.labels(service, operation, result).inc()


def _invoked(job: JobSnapshot, outcome: Outcome) -> str:
    """A rule that Watcher's own settings attach has no configuration in the job, and a built-in name."""
    configured = next((rule for rule in job.rules if rule.name == outcome.rule), None)
    return configured.parameters.get("rule_to_invoke", UNNAMED) if configured else outcome.rule
