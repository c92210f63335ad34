"""The document that `show --json` prints: what the store knows of a run, what SageMaker says of it now, and
what the settings would do. Pure.

Scripts rely on the keys, so they do not change. Those of `watcher.store.views.ShownJob` come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from watcher.alerts.cost import runtime, spend
from watcher.alerts.hyperparameters import shown_hyperparameters
from watcher.aws import links
from watcher.config.destination import shown
from watcher.config.settings import Config
from watcher.model import AlertEvidence, Finding, FindingKind, JobSnapshot, Reading, RuleFamily
from watcher.policy.evaluated_rules import local_rules
from watcher.policy.kinds import KINDS
from watcher.policy.routing import decide
from watcher.redaction import without_secrets
from watcher.store.base import JobRecord, Store
from watcher.store.views import ShownJob, show_run


class PhaseView(TypedDict):
    status: str
    """A secondary status, such as `Starting`, `Downloading` or `Training`."""
    message: str
    began_at: datetime
    ended_at: datetime | None
    """None while the job is in this phase."""
    seconds: float


class CostView(TypedDict):
    so_far: float
    an_hour: float
    saved_by_stopping: float | None
    currency: str
    """`USD`, or empty: the amounts are instance-hours, because no price is configured."""
    basis: str
    at_most: bool


class ReadingView(TypedDict):
    tensor: str
    step: int
    value: float


class ValuesView(TypedDict):
    finding: str
    explanation: str
    deciding: list[ReadingView]
    needed: list[ReadingView]
    not_read: list[str]


class RouteView(TypedDict):
    finding: str | None
    """None for what has not been found: where it would go."""
    rule: str | None
    kind: str
    to: list[str]
    routing: str
    route: str
    """The route that matches; empty if none does."""
    stop: str


class LinkView(TypedDict):
    what: str
    url: str


class JobDocument(ShownJob):
    known: bool
    """Whether the store has the run."""
    read_from: str
    """`sagemaker`, or `store` if SageMaker did not describe the run."""
    not_read: list[str]
    """What could not be read, and why."""
    started_at: datetime | None
    training_seconds: float | None
    billable_seconds: int | None
    max_runtime_seconds: int | None
    spot: bool
    image: str
    experiment: str
    trial: str
    tuning_job: str
    phases: list[PhaseView]
    cost: CostView | None
    hyperparameters: dict[str, str]
    hidden_hyperparameters: list[str]
    """The names of those that may hold a secret."""
    values: list[ValuesView]
    """The numbers that decided each finding."""
    routes: list[RouteView]
    links: list[LinkView]


@dataclass(frozen=True, slots=True)
class Shown:
    """What `show` has read."""

    record: JobRecord
    """The run, as new as it could be read."""
    known: bool
    description: Mapping[str, Any] | None
    """The answer of `DescribeTrainingJob` about this run; None if there is none."""
    not_read: Sequence[str] = ()
    values: Mapping[str, AlertEvidence] = field(default_factory=dict)
    """By the id of the finding."""


def document(read: Shown, store: Store, config: Config, now: datetime) -> JobDocument:
    """`store` may be empty."""
    job, description = read.record.snapshot, read.description or {}
    trained, cost = runtime(job, now), spend(job, config.prices, now)
    findings = store.findings(job.run)
    shown_ones = without_secrets(job.hyperparameters)
    return {
        **show_run(store, read.record),
        "known": read.known,
        "read_from": "store" if read.description is None else "sagemaker",
        "not_read": list(read.not_read),
        "started_at": job.started_at,
        "training_seconds": None if trained is None else trained.total_seconds(),
        "billable_seconds": job.billable_time or None,
        "max_runtime_seconds": job.max_runtime or None,
        "spot": job.spot,
        "image": job.image,
        "experiment": job.experiment,
        "trial": job.trial,
        "tuning_job": description.get("TuningJobArn", "").rpartition("/")[2],
        "phases": list(phases(description, now)),
        "cost": None
        if cost is None
        else {
            "so_far": cost.so_far,
            "an_hour": cost.an_hour,
            "saved_by_stopping": cost.saved_by_stopping,
            "currency": cost.currency,
            "basis": cost.basis,
            "at_most": cost.at_most,
        },
        # Those that the owner chose come first, the most informative at the top.
        "hyperparameters": {**shown_hyperparameters(job.hyperparameters), **shown_ones},
        "hidden_hyperparameters": sorted(job.hyperparameters.keys() - shown_ones.keys()),
        "values": [_values(id_, evidence) for id_, evidence in read.values.items()],
        "routes": list(_routes(job, findings, config, now)),
        "links": list(_links(job, description)),
    }


def phases(description: Mapping[str, Any], now: datetime) -> Iterator[PhaseView]:
    """The phases of `SecondaryStatusTransitions`, in order. One that SageMaker gives no end has ended when
    the next began."""
    transitions: Sequence[Mapping[str, Any]] = description.get("SecondaryStatusTransitions", ())
    for number, transition in enumerate(transitions):
        following = transitions[number + 1]["StartTime"] if number + 1 < len(transitions) else None
        began, ended = transition["StartTime"], transition.get("EndTime") or following
        yield {
            "status": transition["Status"],
            "message": transition.get("StatusMessage", ""),
            "began_at": began,
            "ended_at": ended,
            "seconds": max(((ended or now) - began).total_seconds(), 0.0),
        }


def _values(finding: str, evidence: AlertEvidence) -> ValuesView:
    return {
        "finding": finding,
        "explanation": evidence.explanation,
        "deciding": [_reading(reading) for reading in evidence.deciding],
        "needed": [_reading(reading) for reading in evidence.needed],
        "not_read": list(evidence.missing),
    }


def _reading(reading: Reading) -> ReadingView:
    return {"tensor": reading.tensor, "step": reading.step, "value": reading.value}


def _routes(
    job: JobSnapshot, findings: Iterable[Finding], config: Config, now: datetime
) -> Iterator[RouteView]:
    """Where each finding goes; then where an issue of each other rule would go, and a failure of the job."""
    found = list(findings)
    for finding in found:
        yield _route(finding, finding.id, job, config)
    about = {(finding.kind, finding.rule, finding.family) for finding in found}
    configured = {(rule.name, rule.family): None for rule in (*job.rules, *local_rules(job, config.rules))}
    possible = [(FindingKind.RULE_ISSUE, name, family) for name, family in configured]
    for kind, rule, family in (*possible, (FindingKind.JOB_FAILED, None, None)):
        if (kind, rule, family) not in about:
            yield _route(_possible(job, kind, rule, family, now), None, job, config)


def _possible(
    job: JobSnapshot, kind: FindingKind, rule: str | None, family: RuleFamily | None, now: datetime
) -> Finding:
    """A finding that there is not."""
    return Finding(
        id="",
        kind=kind,
        run=job.run,
        job=job.name,
        status="",
        opened_at=now,
        incident="",
        severity=KINDS[kind].severity,
        rule=rule,
        family=family,
    )


def _route(finding: Finding, id_: str | None, job: JobSnapshot, config: Config) -> RouteView:
    decision = decide(finding, job, config)
    return {
        "finding": id_,
        "rule": finding.rule,
        "kind": finding.kind,
        "to": [shown(to) for to in decision.to],
        "routing": decision.routing,
        "route": decision.route,
        "stop": decision.stop,
    }


def _links(job: JobSnapshot, description: Mapping[str, Any]) -> Iterator[LinkView]:
    yield {"what": "job", "url": links.training_job(job.arn)}
    yield {"what": "log", "url": links.log_streams(job.arn, links.TRAINING_LOGS, f"{job.name}/")}
    if job.debug_output:
        yield {"what": "debug output", "url": links.s3_prefix(job.arn, job.debug_output)}
    if model := description.get("ModelArtifacts", {}).get("S3ModelArtifacts"):
        folder = model.rpartition("/")[0]
        yield {"what": "model", "url": links.s3_prefix(job.arn, folder)}
    for outcome in job.outcomes:
        if outcome.evaluation_job_arn:
            yield {"what": outcome.rule, "url": links.processing_job(outcome.evaluation_job_arn)}
