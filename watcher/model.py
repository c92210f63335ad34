"""The values that flow through Watcher. They are frozen and do no I/O; times are aware and in UTC.

Statuses are plain strings, as SageMaker writes them: one that a later API adds is kept and shown like any
other. The sets below say which ones Watcher acts on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from watcher.arn import Arn

IN_PROGRESS: Final = "InProgress"
ENDED_STATUSES = frozenset({"Completed", "Failed", "Stopped"})
"""A training job in one of these no longer changes (`Stopping` and `Deleting` still do)."""

ISSUES_FOUND: Final = "IssuesFound"
RECOVERED: Final = "Recovered"
"""Watcher's status for a rule that fired and whose issue is gone. It may fire again, so it is not final;
SageMaker ends a rule when it fires."""
RULE_ERROR: Final = "Error"
NO_ISSUES_FOUND: Final = "NoIssuesFound"
NOT_EVALUATED: Final = "NotEvaluated"
"""Watcher's status for a rule that had no data; SageMaker reports NoIssuesFound."""
FINAL_RULE_STATUSES = frozenset({ISSUES_FOUND, NO_ISSUES_FOUND, RULE_ERROR, "Stopped", NOT_EVALUATED})
"""A rule in one of these no longer changes."""

# A status that is in none of these sets is from a later API. It is logged.
KNOWN_STATUSES = ENDED_STATUSES | {IN_PROGRESS, "Stopping", "Deleting"}
KNOWN_RULE_STATUSES = FINAL_RULE_STATUSES | {"InProgress", "Stopping", RECOVERED}


class RuleSource(StrEnum):
    """Who evaluated a rule."""

    DEBUGGER = "debugger"
    PROFILER = "profiler"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class RuleConfiguration:
    """A rule as the job's owner configured it: in `DebugRuleConfigurations` or
    `ProfilerRuleConfigurations`."""

    name: str
    source: RuleSource
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def invokes(self) -> str:
        """The built-in rule behind the configuration's name, which the owner can choose freely."""
        return self.parameters.get("rule_to_invoke", self.name)


@dataclass(frozen=True, slots=True)
class HookConfiguration:
    """What smdebug's hook saves, and where: `DebugHookConfig`."""

    output: str
    """`s3://bucket/path`; the job's own folder is below it."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Parameters for all collections (`save_interval`, `train.save_interval` …)."""
    collections: tuple[tuple[str, Mapping[str, str]], ...] = ()
    """Name and parameters of each; a name can occur twice."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state of one rule on one job."""

    rule: str
    source: RuleSource
    status: str
    details: str = ""
    evaluation_job_arn: str = ""
    """The rule's processing job, in lower case; empty until SageMaker has started it."""
    updated_at: datetime | None = None
    step: int | None = None
    """The global step that decided; None if it is not known."""

    @property
    def final(self) -> bool:
        return self.status in FINAL_RULE_STATUSES


@dataclass(frozen=True, slots=True)
class FinalMetric:
    """The newest value of one of a training job's metrics."""

    name: str
    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """One training job as `Search` or `DescribeTrainingJob` shows it at one time."""

    arn: str
    name: str
    status: str
    secondary_status: str
    created_at: datetime
    modified_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure_reason: str = ""
    outcomes: tuple[Outcome, ...] = ()
    rules: tuple[RuleConfiguration, ...] = ()
    hook: HookConfiguration | None = None
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    """The training image's URI, or the name of a marketplace algorithm."""
    tags: Mapping[str, str] | None = None
    """None if the snapshot's API does not return them: only `Search` does."""
    instance_type: str = ""
    instance_count: int = 1
    instance_groups: tuple[tuple[str, int], ...] = ()
    """Instance type and count of each group of a heterogeneous cluster, which has no single type."""
    spot: bool = False
    """Managed spot training: cheaper than the list price; by how much is known only at the end."""
    max_runtime: int = 0
    """`MaxRuntimeInSeconds`; 0 if the job has no such limit."""
    billable_time: int = 0
    """`BillableTimeInSeconds` of each instance; 0 until SageMaker reports it at the end."""
    experiment: str = ""
    trial: str = ""
    """From `ExperimentConfig` (SageMaker Experiments)."""
    metrics: tuple[str, ...] = ()
    """The names of its `MetricDefinitions`, which SageMaker reads from the log and puts into CloudWatch."""
    final_metrics: tuple[FinalMetric, ...] = ()
    """The newest value of each metric, from `FinalMetricDataList`; changes while the job runs."""

    @property
    def debug_output(self) -> str:
        """`s3://bucket/path/JOB/debug-output`; empty if the job has no hook configuration."""
        return f"{self.hook.output.rstrip('/')}/{self.name}/debug-output" if self.hook else ""

    @property
    def region(self) -> str:
        return Arn.parse(self.arn).region

    @property
    def instances(self) -> tuple[tuple[str, int], ...]:
        """Type and count of each group; a cluster of one type is one group. Empty if SageMaker has not chosen
        a type yet."""
        if self.instance_groups or not self.instance_type:
            return self.instance_groups
        return ((self.instance_type, self.instance_count),)

    @property
    def in_progress(self) -> bool:
        return self.status == IN_PROGRESS

    @property
    def ended(self) -> bool:
        return self.status in ENDED_STATUSES

    @property
    def settled(self) -> bool:
        """Ended, and all its rules final: SageMaker has nothing new about it."""
        return self.ended and all(o.final for o in self.outcomes if o.source is not RuleSource.LOCAL)

    def rule(self, name: str, source: RuleSource) -> RuleConfiguration | None:
        return next((rule for rule in self.rules if (rule.name, rule.source) == (name, source)), None)


class Reads(StrEnum):
    """What Watcher's own evaluation of a job reads."""

    TENSORS = "tensors"
    METRICS = "metrics"
    """From CloudWatch, if the job saves no tensors. Those of many jobs are read together."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The progress of Watcher's own evaluation of a job's rules."""

    due_at: datetime | None
    """When to look for new data next; None once evaluation has ended."""
    reads: Reads = Reads.TENSORS
    interval: float = 0.0
    """Seconds between the last two looks; adapts to how often the job saves."""
    cursor: str = ""
    """Where reading continues, as JSON (`debug_output.position`, `metric_steps`); empty at the start."""
    states: Mapping[str, str] = field(default_factory=dict)
    """The state of each rule, as JSON, by the name of its configuration."""
    outcomes: tuple[Outcome, ...] = ()
    """Their source is `local`."""


class FindingKind(StrEnum):
    """What is wrong. `watcher.alerts.kinds` has a row for each kind."""

    RULE_ISSUE = "rule_issue"
    RULE_ERROR = "rule_error"
    RULE_UNEVALUATED = "rule_unevaluated"
    """A rule had no data, although Debugger reports NoIssuesFound or nothing."""
    DIVERGENCE = "divergence"
    """Watcher's verdict and Debugger's differ at the end."""
    RULE_STUCK = "rule_stuck"
    """The log of a rule's processing job ends with an error, or the job has stopped logging."""
    RULE_DEFECT = "rule_defect"
    """The job's configuration shows that a rule can never fire, always fires, or reads nothing."""
    JOB_FAILED = "job_failed"
    JOB_STOPPED = "job_stopped"
    JOB_COMPLETED = "job_completed"


class Severity(StrEnum):
    """How bad a finding is. A channel knows only this, not the finding's kind."""

    CRITICAL = "critical"
    """The training job itself failed, or trains to no effect."""
    WARNING = "warning"
    """A rule is not evaluated as it should be, or something other than Watcher stopped the job."""
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know."""

    id: str
    kind: FindingKind
    job_arn: str
    job: str
    status: str
    """The status of the rule, or of the job, as SageMaker writes it."""
    opened_at: datetime
    rule: str | None = None
    source: RuleSource | None = None
    step: int | None = None
    reason: str = ""
    """SageMaker's StatusDetails or FailureReason, or Watcher's explanation."""


def finding_id(job_arn: str, kind: FindingKind, rule: str | None, source: RuleSource | None) -> str:
    """The same finding gets the same id in every process, so that it is reported only once."""
    parts = "\n".join((job_arn, rule or "", source or "", kind))
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


class StopChoice(StrEnum):
    """Whether a finding stops its job, and why."""

    STOP = "stop"
    NOT_ASKED = "not_asked"
    """No route with `stop = true` matched."""
    NOT_AN_ISSUE = "not_an_issue"
    """Only a rule that found an issue stops a job."""
    PROFILER = "profiler"
    """Profiler rules never stop a job."""
    NOT_RUNNING = "not_running"


class Routing(StrEnum):
    """What decided a finding's destinations."""

    ROUTE = "route"
    SLACK_CHANNEL = "slack_channel"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy makes of a finding."""

    to: tuple[str, ...]
    routing: Routing
    stop: StopChoice
    route: str = ""
    """The route that matched (`job prod-*, rule LossNotDecreasing`)."""


class DeliveryKind(StrEnum):
    ALERT = "alert"
    STOP = "stop"
    UPDATE = "update"
    """News for an alert that was sent: what became of the stop, or that the other evaluator found the
    same."""
    PLOT = "plot"
    """A picture of the values that decided, as a file in the alert's thread."""


class DeliveryState(StrEnum):
    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    DELIVERED = "delivered"
    DEAD = "dead"
    """A dead letter: it will not be retried. `error` says why."""
    SKIPPED = "skipped"
    """A stop that a guard refused. `error` says which."""
    CANCELLED = "cancelled"


STOP_DESTINATION = "stop"
"""`Delivery.to` of a stop."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One finding for one destination: a row of the outbox."""

    id: str
    finding_id: str
    kind: DeliveryKind
    to: str
    """`slack:#channel`, `webhook:URL`, `sns:ARN`, `console`, or `stop`."""
    lane: str
    """Deliveries in the same lane are sent one at a time, in the order in which they were created."""
    created_at: datetime
    due_at: datetime
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    uncertain: bool = False
    """An attempt may have arrived although its answer was lost: look it up before sending again."""
    receipt: str = ""
    """What the destination returned. Needed to update the message."""
    error: str = ""
    delivered_at: datetime | None = None
    text: str = ""
    """For an alert or an update, what it says about stopping the job. For a stop, who asked for it."""
    follows: str = ""
    """For an update or a plot, the id of its alert."""

    @property
    def open(self) -> bool:
        return self.state in (DeliveryState.PENDING, DeliveryState.IN_FLIGHT)


def delivery_id(finding: str, kind: DeliveryKind, to: str) -> str:
    return hashlib.sha256(f"{finding}\n{kind}\n{to}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Reading:
    """One number that a rule looked at."""

    tensor: str
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class AlertEvidence:
    """What goes with a finding into its alerts. `missing` says what could not be read, and why."""

    log_group: str = ""
    """The log group of `log_stream`; empty if it is SageMaker's."""
    log_stream: str = ""
    log_lines: tuple[str, ...] = ()
    explanation: str = ""
    """A sentence with the numbers: what fell by how much between which steps, and what the rule requires."""
    deciding: tuple[Reading, ...] = ()
    needed: tuple[Reading, ...] = ()
    """The value that would just have satisfied the rule, if it is a single number."""
    curve: tuple[Reading, ...] = ()
    """The last values of the tensors that decided, up to the deciding step. For a tensor with several
    elements, the mean of their absolute values. A tensor that was saved in several modes has a curve for
    each: "loss TRAIN", "loss EVAL"."""
    curve_from: str = ""
    """What the curve shows, and what a step is, unless it shows saved tensors as they are."""
    missing: tuple[str, ...] = ()
