"""The Prometheus metrics of this process. Counters count its own work: sum them over all processes.

The names are a contract with dashboards and alert rules (`deploy/grafana.json`, `deploy/alerts.yml`). Labels
have few values, whatever the owners of jobs write: the label of a rule is the built-in rule that it invokes,
else `custom`, and no metric has more than `MAX_SERIES` combinations of labels. The label of a destination is
its kind, because its address may be a secret.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from watcher import __version__
from watcher.config.destination import DestinationKind
from watcher.model import (
    STOP_DESTINATION,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Finding,
    FindingKind,
    IncidentState,
    JobSnapshot,
    Outcome,
)

CUSTOM_RULE = "custom"
"""Label of a rule that is not one of SageMaker's built-in rules."""
BUILT_IN_RULES = frozenset(
    {
        "AllZero",
        "BatchSize",
        "CPUBottleneck",
        "CheckInputImages",
        "ClassImbalance",
        "Confusion",
        "Dataloader",
        "DeadRelu",
        "ExplodingTensor",
        "FeatureImportanceOverweight",
        "GPUMemoryIncrease",
        "IOBottleneck",
        "LoadBalancing",
        "LossNotDecreasing",
        "LowGPUUtilization",
        "MaxInitializationTime",
        "NLPSequenceRatio",
        "OverallFrameworkMetrics",
        "OverallSystemUsage",
        "Overfit",
        "Overtraining",
        "PoorWeightInitialization",
        "ProfilerReport",
        "SaturatedActivation",
        "SimilarAcrossRuns",
        "StalledTrainingRule",
        "StepOutlier",
        "TensorVariance",
        "TreeDepth",
        "UnchangedTensor",
        "VanishingGradient",
        "WeightUpdateRatio",
    }
)
"""The values that the label of a rule can have, besides `custom`. Written out, because importing `rules`
would load numpy."""
_BY_LOWER_NAME = {name.lower(): name for name in BUILT_IN_RULES}
MAX_SERIES = 1000
"""Combinations of label values in one metric. What is beyond is counted in one series whose labels are all
`other`."""
OTHER = "other"
LATENCY_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)
"""An alert usually takes less than a second, and is given up after seven days."""
STATES_AFTER_AN_ATTEMPT = (
    DeliveryState.DELIVERED,
    DeliveryState.PENDING,
    DeliveryState.REFUSED,
    DeliveryState.SKIPPED,
    DeliveryState.DEAD,
)
UPDATE = "update"
"""Label of an alert that a destination has already: this attempt tells it what has changed since."""


_Metric = TypeVar("_Metric", bound=MetricWrapperBase)


class _Capped(Generic[_Metric]):
    """A metric with at most `MAX_SERIES` series besides `other`. Safe to use from several threads."""

    def __init__(self, metric: _Metric) -> None:
        self._metric = metric
        self._known: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()

    def labels(self, *values: str) -> _Metric:
        with self._lock:
            if values not in self._known and len(self._known) >= MAX_SERIES:
                return self._metric.labels(*(OTHER for _ in values))
            self._known.add(values)
        return self._metric.labels(*values)

    def clear(self) -> None:
        """Remove all series."""
        with self._lock:
            self._known.clear()
            self._metric.clear()


class Instruments:
    """Counts things as they happen. Safe to use from several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Info("watcher_build", "Version of Watcher.", registry=self.registry).info({"version": __version__})
        ProcessCollector(registry=self.registry)
        self._watched_jobs = _Capped(
            Gauge(
                "watcher_watched_jobs",
                "Watched training jobs by status, after the last reconciliation. Absent if another process "
                "made it.",
                ["status"],
                registry=self.registry,
            )
        )
        self._reconciled = Gauge(
            "watcher_last_reconcile_timestamp_seconds",
            "When this process last completed a reconciliation, as a Unix time; 0 if it has not yet.",
            registry=self.registry,
        )
        self._incidents = Gauge(
            "watcher_incidents",
            "Incidents by state, counted every few minutes. Absent if another process made the last "
            "reconciliation.",
            ["state"],
            registry=self.registry,
        )
        self._outcomes = _Capped(
            Counter(
                "watcher_rule_outcomes",
                "Rules of training jobs that reached this status.",
                ["rule", "source", "status"],
                registry=self.registry,
            )
        )
        self._findings = Counter("watcher_findings", "Findings, by kind.", ["kind"], registry=self.registry)
        self._deliveries = _Capped(
            Counter(
                "watcher_deliveries",
                "Attempts to deliver, by the state of the delivery afterwards. Pending and refused ones are "
                "tried again. The kind is alert for a first message and update for each later one.",
                ["kind", "destination", "state"],
                registry=self.registry,
            )
        )
        self._latency = _Capped(
            Histogram(
                "watcher_delivery_latency_seconds",
                "Time from the detection of a finding to the delivery of its first alert.",
                ["destination"],
                buckets=LATENCY_BUCKETS_S,
                registry=self.registry,
            )
        )
        self._requests = _Capped(
            Counter(
                "watcher_aws_requests",
                "Requests to AWS, retries included. The result is ok or the error code.",
                ["service", "operation", "result"],
                registry=self.registry,
            )
        )
        self._ignored = Counter(
            "watcher_ignored_messages",
            "Messages of the queue that led to no look: unreadable, or about an account or a region that no "
            "setting names (elsewhere).",
            ["reason"],
            registry=self.registry,
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Prometheus sees no increase in a counter that appears with its first event."""
        for kind in FindingKind:
            self._findings.labels(kind)
        for state in STATES_AFTER_AN_ATTEMPT:
            self._deliveries.labels(DeliveryKind.STOP, STOP_DESTINATION, state)
            for destination in DestinationKind:
                for message in (DeliveryKind.ALERT, UPDATE):
                    self._deliveries.labels(message, destination, state)

    def reconciled(self, at: datetime) -> None:
        self._reconciled.set(at.timestamp())

    def watched(self, statuses: Iterable[str]) -> None:
        """One status for each watched job; none if another process reconciles."""
        self._watched_jobs.clear()
        for status in statuses:
            self._watched_jobs.labels(status).inc()

    def incidents(self, counts: Mapping[IncidentState, int]) -> None:
        """How many are in each state; empty if another process reconciles."""
        self._incidents.clear()
        for state, number in counts.items():
            self._incidents.labels(state).set(number)

    def outcomes(self, job: JobSnapshot, changed: Iterable[Outcome]) -> None:
        for outcome in changed:
            self._outcomes.labels(_invoked(job, outcome), outcome.source, outcome.status).inc()

    def found(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._findings.labels(finding.kind).inc()

    def attempted(self, delivery: Delivery, seconds: float, *, first: bool = False) -> None:
        """`delivery` as it is after the attempt, `seconds` after it was decided. `first`: the alert has just
        arrived for the first time."""
        destination = (
            STOP_DESTINATION if delivery.kind is DeliveryKind.STOP else delivery.to.partition(":")[0]
        )
        later = delivery.kind is DeliveryKind.ALERT and delivery.told and not first
        kind = UPDATE if later else delivery.kind
        self._deliveries.labels(kind, destination, delivery.state).inc()
        if first:
            self._latency.labels(destination).observe(seconds)

    def ignored(self, reason: str) -> None:
        """A message of the queue led to no look."""
        self._ignored.labels(reason).inc()

    def aws_answered(self, service: str, operation: str, result: str) -> None:
        self._requests.labels(service, operation, result).inc()


def _invoked(job: JobSnapshot, outcome: Outcome) -> str:
    """The label of the outcome's rule. A rule that Watcher's settings attach is not in the job's
    configuration, and has the name of the rule that it invokes. The case of a name does not matter, because
    the pages of AWS spell some in two ways, such as `DataLoader`."""
    configured = next((rule for rule in job.rules if rule.name == outcome.rule), None)
    invoked = configured.parameters.get("rule_to_invoke", "") if configured else outcome.rule
    return _BY_LOWER_NAME.get(invoked.lower(), CUSTOM_RULE)
