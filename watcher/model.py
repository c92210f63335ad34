"""The values that flow through Watcher. They are frozen and do no I/O; times are aware and in UTC.

Statuses are plain strings, as SageMaker writes them: one that a later API adds is kept and shown like any
other. The sets below say which ones Watcher acts on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from watcher.arn import Arn, run_arn, run_id

IN_PROGRESS: Final = "InProgress"
TRAINING: Final = "Training"
"""The secondary status of a job that runs its training code."""
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


class RuleFamily(StrEnum):
    """What a rule judges. Rules of different families may have the same name."""

    DEBUGGER = "debugger"
    """How a job trains: its tensors or, instead, its training metrics."""
    PROFILER = "profiler"
    """How a job uses its instances. These rules advise; they never stop a job."""


class Judge(StrEnum):
    """Who evaluated a rule."""

    DEBUGGER = "debugger"
    """SageMaker's service, by a processing job."""
    WATCHER = "watcher"


class RuleSource(StrEnum):
    """How JSON, webhooks and metrics name who evaluated a rule. Scripts rely on these words."""

    DEBUGGER = "debugger"
    PROFILER = "profiler"
    LOCAL = "local"

    @classmethod
    def of(cls, family: RuleFamily, judge: Judge) -> RuleSource:
        return cls.LOCAL if judge is Judge.WATCHER else cls(family)


@dataclass(frozen=True, slots=True)
class RuleConfiguration:
    """A rule as it is configured: in the job's `DebugRuleConfigurations` or `ProfilerRuleConfigurations`, or
    in Watcher's settings."""

    name: str
    family: RuleFamily
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
    family: RuleFamily
    judge: Judge
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

    @property
    def key(self) -> tuple[RuleFamily, Judge, str]:
        """What tells it apart from the job's other outcomes."""
        return self.family, self.judge, self.rule

    @property
    def source(self) -> RuleSource:
        return RuleSource.of(self.family, self.judge)


@dataclass(frozen=True, slots=True)
class FinalMetric:
    """The newest value of one of a training job's metrics."""

    name: str
    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Phase:
    """One of a job's `SecondaryStatusTransitions`."""

    status: str
    began: datetime
    ended: datetime | None = None
    """None for the phase in which the job is."""


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
    profiler_path: str = ""
    """`S3OutputPath` of `ProfilerConfig`; empty if the profiler is off."""
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
    phases: tuple[Phase, ...] = ()
    """Oldest first. A managed spot job that was interrupted has the same ones several times."""

    @property
    def run(self) -> str:
        """The identity of the run: ARN and CreationTime, because a name can be used again."""
        return run_id(self.arn, self.created_at)

    @property
    def debug_output(self) -> str:
        """`s3://bucket/path/JOB/debug-output`; empty if the job has no hook configuration."""
        return f"{self.hook.output.rstrip('/')}/{self.name}/debug-output" if self.hook else ""

    @property
    def profiler_output(self) -> str:
        """`s3://bucket/path/JOB/profiler-output`; empty if the profiler is off."""
        return f"{self.profiler_path.rstrip('/')}/{self.name}/profiler-output" if self.profiler_path else ""

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
    def training_phases(self) -> tuple[Phase, ...]:
        """When it trained, and not when it waited for instances or downloaded data."""
        training = tuple(phase for phase in self.phases if phase.status == TRAINING)
        if self.secondary_status == TRAINING and not (training and training[-1].ended is None):
            since = training[-1].ended if training else self.started_at
            return (*training, Phase(TRAINING, since)) if since else training
        if not training and self.started_at:
            return (Phase(TRAINING, self.started_at, self.ended_at or self.modified_at),)
        return training

    def trained(self, until: datetime) -> timedelta:
        """For how long it has trained up to this time."""
        spans = (min(phase.ended or until, until) - phase.began for phase in self.training_phases)
        return sum((max(span, timedelta(0)) for span in spans), timedelta(0))

    @property
    def settled(self) -> bool:
        """Ended, and all its rules final: SageMaker has nothing new about it."""
        return self.ended and all(o.final for o in self.outcomes if o.judge is Judge.DEBUGGER)

    def rule(self, name: str, family: RuleFamily) -> RuleConfiguration | None:
        return next((rule for rule in self.rules if (rule.name, rule.family) == (name, family)), None)


class Reads(StrEnum):
    """What Watcher's own evaluation of a job reads."""

    TENSORS = "tensors"
    METRICS = "metrics"
    """Training metrics, if the job saves no tensors."""
    PROFILER_OUTPUT = "profiler_output"
    INSTANCE_METRICS = "instance_metrics"
    """Of the job's instances, if the job has no profiler output."""

    @property
    def family(self) -> RuleFamily:
        """The rules that are evaluated on it."""
        return RuleFamily.DEBUGGER if self in (Reads.TENSORS, Reads.METRICS) else RuleFamily.PROFILER

    @property
    def together(self) -> bool:
        """Whether it comes from CloudWatch, where many jobs are read in one request."""
        return self in (Reads.METRICS, Reads.INSTANCE_METRICS)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The progress of Watcher's own evaluation of a job's rules of one family. A job has one for each family
    of which it has rules. What it reads may change, but stays of its family."""

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
    """Of its family. Their judge is Watcher."""
    failures: int = 0
    """How often in a row it could not be continued."""

    @property
    def family(self) -> RuleFamily:
        return self.reads.family


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
    """How bad a finding is, and an incident: as bad as the worst of its findings that are open."""

    CRITICAL = "critical"
    """The training job itself failed, or trains to no effect."""
    WARNING = "warning"
    """A rule is not evaluated as it should be, or something other than Watcher stopped the job."""
    INFO = "info"

    @property
    def rank(self) -> int:
        """Grows with the severity."""
        return _RANKS[self]


_RANKS: Final = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class Closing(StrEnum):
    """Why a finding is closed."""

    RECOVERED = "recovered"
    RUN_ENDED = "run_ended"
    """The run has ended in a way that settles it."""
    UNWATCHED = "unwatched"
    """The run is no longer watched, so nothing more will be known."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a comparison of two snapshots found: something opened, or closed."""

    kind: FindingKind
    rule: str | None = None
    """None, and `family` and `judge` as well, if it is about the job itself."""
    family: RuleFamily | None = None
    judge: Judge | None = None
    status: str = ""
    """The status of the rule, or of the job, as SageMaker writes it."""
    step: int | None = None
    reason: str = ""
    """SageMaker's StatusDetails or FailureReason, or Watcher's explanation. If closing, why it is over."""
    closing: Closing | None = None
    """None if it opened."""


@dataclass(frozen=True, slots=True)
class Says:
    """What one judge found."""

    judge: Judge
    status: str
    at: datetime
    step: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is or was wrong with a run, whoever found it."""

    id: str
    kind: FindingKind
    run: str
    job: str
    status: str
    """The status of the rule, or of the job, as SageMaker writes it."""
    opened_at: datetime
    """When the present episode began."""
    incident: str
    severity: Severity
    rule: str | None = None
    """None, and `family` and `judge` as well, if it is about the job itself."""
    family: RuleFamily | None = None
    judge: Judge | None = None
    """Who found it first."""
    step: int | None = None
    reason: str = ""
    """SageMaker's StatusDetails or FailureReason, or Watcher's explanation."""
    says: tuple[Says, ...] = ()
    """What each judge found, first found first; empty if the finding is about the job itself."""
    episode: int = 1
    """What recovered can break again."""
    closed_at: datetime | None = None
    closing: Closing | None = None
    closing_reason: str = ""
    """A sentence, with the numbers where it recovered."""

    @property
    def open(self) -> bool:
        return self.closed_at is None

    @property
    def job_arn(self) -> str:
        return run_arn(self.run)

    @property
    def source(self) -> RuleSource | None:
        """Who found it first; None if it is about the job itself."""
        return RuleSource.of(self.family, self.judge) if self.family and self.judge else None

    def source_of(self, says: Says) -> RuleSource:
        """`says` is one of the finding's."""
        return RuleSource.of(self.family or RuleFamily.DEBUGGER, says.judge)


def finding_id(run: str, kind: FindingKind, rule: str | None, family: RuleFamily | None) -> str:
    """The same finding gets the same id in every process, whoever of Debugger and Watcher found it.

    A profiler rule may have the name of another rule, so it is told apart.
    """
    told_apart = family if family is RuleFamily.PROFILER else ""
    return _digest(run, rule or "", told_apart, kind)


class IncidentState(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    """A person has it."""
    RESOLVED = "resolved"
    """None of its findings is open."""


class StopPhase(StrEnum):
    """How far the stop of a run is."""

    WAITING = "waiting"
    """For the end of its grace."""
    ASKED = "asked"
    STOPPING = "stopping"
    """SageMaker was asked."""
    STOPPED = "stopped"
    """SageMaker confirms it."""
    NOT_STOPPED = "not_stopped"
    CANCELLED = "cancelled"
    """A person cancelled it before SageMaker was asked. No route stops this run any more."""


@dataclass(frozen=True, slots=True)
class RunStop:
    """What Watcher does about stopping an incident's run."""

    phase: StopPhase
    actor: str
    """`route job prod-*`, or the person who asked."""
    at: datetime
    """When the phase began."""
    due_at: datetime | None = None
    """When a waiting stop is requested; None if that is not known yet."""
    reason: str = ""
    """A sentence: when it stopped, or why not."""


@dataclass(frozen=True, slots=True)
class Incident:
    """What a person deals with: all findings of one run."""

    id: str
    run: str
    job: str
    state: IncidentState
    severity: Severity
    revision: int
    """Grows by one with each change."""
    opened_at: datetime
    telling_revision: int = 0
    """The revision of the last change that is worth a message of its own."""
    resolved_at: datetime | None = None
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
    snoozed_until: datetime | None = None
    snoozed_by: str = ""
    stop: RunStop | None = None
    """None: nobody asked for it."""
    group: str = ""
    """What the incident stands for, if that is more than one run; empty today."""

    @property
    def job_arn(self) -> str:
        return run_arn(self.run)


def incident_id(run: str) -> str:
    return _digest("incident", run)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class ChangeKind(StrEnum):
    """What happened to an incident."""

    OPENED = "opened"
    WORSE = "worse"
    """Another finding opened."""
    ADDED = "added"
    """Another finding opened that is no news: the run has failed or was stopped already."""
    AGREED = "agreed"
    """The other evaluator found the same."""
    RECOVERED = "recovered"
    CLOSED = "closed"
    """A finding is over, but did not recover."""
    RUN_ENDED = "run_ended"
    """The run has ended, and what was found stays open."""
    RESOLVED = "resolved"
    STOP_ASKED = "stop_asked"
    STOP_SCHEDULED = "stop_scheduled"
    STOPPING = "stopping"
    STOPPED = "stopped"
    NOT_STOPPED = "not_stopped"
    CANCELLED = "cancelled"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    UNSNOOZED = "unsnoozed"
    REFUSED = "refused"
    """A destination does not take the alert."""
    REDELIVERED = "redelivered"


TELLING: Final = frozenset(
    {
        ChangeKind.OPENED,
        ChangeKind.WORSE,
        ChangeKind.RECOVERED,
        ChangeKind.RESOLVED,
        ChangeKind.STOP_ASKED,
        ChangeKind.STOPPED,
        ChangeKind.NOT_STOPPED,
        ChangeKind.CANCELLED,
        ChangeKind.REFUSED,
    }
)
"""The changes of which a destination that cannot edit its messages is sent another one."""


class Door(StrEnum):
    """By which door a change came in."""

    WATCHER = "watcher"
    ROUTE = "route"
    CLI = "cli"
    SLACK = "slack"


@dataclass(frozen=True, slots=True)
class Change:
    """A line of an incident's history; or, without an incident, an action that concerns none."""

    revision: int
    """The incident's after this change."""
    at: datetime
    kind: ChangeKind
    text: str
    actor: str = ""
    """Who did it; empty if it just happened."""
    door: Door = Door.WATCHER
    incident: str = ""
    run: str = ""
    finding: str = ""
    """The finding's id, if the change is about one."""

    @property
    def telling(self) -> bool:
        return self.kind in TELLING


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
    """Brings one destination up to date with one incident."""
    PLOT = "plot"
    """The picture of a finding's curve, next to an alert that was sent."""
    STOP = "stop"


class DeliveryState(StrEnum):
    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    DELIVERED = "delivered"
    REFUSED = "refused"
    """The destination does not take it. It is tried again, but seldom."""
    SNOOZED = "snoozed"
    """Told, and to be told the rest when the snooze ends."""
    DEAD = "dead"
    """A dead letter: it will not be retried. `error` says why."""
    SKIPPED = "skipped"
    """A stop that a guard refused. `error` says which."""
    CANCELLED = "cancelled"


class Form(StrEnum):
    """How much of an alert a destination takes, the longest first."""

    FULL = "full"
    WITHOUT_EVIDENCE = "without_evidence"
    PLAIN = "plain"
    """The same as text alone, without the channel's own layout."""


STOP_DESTINATION = "stop"
"""`Delivery.to` of a stop."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One incident for one destination, or the stop of its run: a row of the outbox."""

    id: str
    incident: str
    kind: DeliveryKind
    to: str
    """`slack:#channel`, `webhook:URL`, `sns:ARN`, `console`, or `stop`."""
    lane: str
    """Deliveries in the same lane are sent one at a time, in the order in which they became open. The first
    message of an alert is in the lane `to`, an edit in `edits_lane`. What would hold back others has a lane
    of its own: `refused_lane`, `snoozed:ID`, or `failing:ID` if its destination receives it and does not
    confirm it."""
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
    told: int = 0
    """The incident's revision that the destination knows; 0 if it knows nothing."""
    wanted: int = 1
    """The revision that it is to know."""
    trying: int = 0
    """The revision that the present attempt brings it to."""
    failures: int = 0
    """Attempts since the last success."""
    refused_at: datetime | None = None
    """Since when no attempt has succeeded, because the destination refuses it or cannot be reached."""
    form: Form = Form.FULL
    """The form in which the destination took the message last."""
    run: str = ""
    """For a stop: which run."""
    finding: str = ""
    """For a stop: the finding that asks for it. For a picture: the finding that it shows."""
    actor: str = ""
    """For a stop: who asks for it."""

    @property
    def open(self) -> bool:
        """Whether it will be tried within minutes."""
        return self.state in (DeliveryState.PENDING, DeliveryState.IN_FLIGHT)

    @property
    def key(self) -> str:
        """Identifies the message that the present attempt sends, so that its destination recognizes a
        repetition: the same for each attempt that may repeat one."""
        return f"{self.id}-{self.trying}"


def delivery_id(incident: str, kind: DeliveryKind, to: str, *more: str) -> str:
    """`more`: what else distinguishes it, if there can be several."""
    return _digest(incident, kind, to, *more)


def alert_to(to: str, among: Iterable[Delivery]) -> Delivery | None:
    """The alert of an incident for this destination, among the incident's deliveries. Not by its id, because
    a store that was upgraded keeps the ids of the alerts that were sent."""
    return next((row for row in among if row.kind is DeliveryKind.ALERT and row.to == to), None)


def edits_lane(to: str) -> str:
    """The lane of an alert that has been told: an edit that waits holds back no first message."""
    return f"{to} edits"


def refused_lane(id_: str) -> str:
    """The lane of an alert that its destination refuses: it holds back no other."""
    return f"refused:{id_}"


def stop_lane(run: str) -> str:
    """Each run has its own, so that one which does not stop delays no other."""
    return f"{STOP_DESTINATION}:{run}"


@dataclass(frozen=True, slots=True)
class Case:
    """An incident with all that belongs to it."""

    incident: Incident
    findings: tuple[Finding, ...] = ()
    """In the order in which they were first found."""
    deliveries: tuple[Delivery, ...] = ()
    """In the order in which they were created."""
    changes: tuple[Change, ...] = ()
    """The history, oldest first; or only the changes that were just made."""

    def finding(self, id_: str) -> Finding | None:
        return next((finding for finding in self.findings if finding.id == id_), None)

    def delivery(self, id_: str) -> Delivery | None:
        return next((delivery for delivery in self.deliveries if delivery.id == id_), None)


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
    """The last values of the tensors that decided, up to the deciding step; of a finding that has recovered,
    the newest values, too. For a tensor with several elements, the mean of their absolute values. A tensor
    that was saved in several modes has a curve for each: "loss TRAIN", "loss EVAL"."""
    curve_from: str = ""
    """What the curve shows, and what a step is, unless it shows saved tensors as they are."""
    missing: tuple[str, ...] = ()
