"""Gathers the evidence for an alert: the end of the log, and the numbers that decided.

Gathering is best effort. If something cannot be read in a few seconds, the alert goes out without it, and
says so.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import structlog

from watcher.alerts.job_facts import debugger_outcome
from watcher.alerts.kinds import KINDS, Log
from watcher.aws.accounts import Accounts
from watcher.aws.links import PROCESSING_LOGS, TRAINING_LOGS
from watcher.config.settings import Rules
from watcher.errors import NotFound, WatcherError
from watcher.logs.rule_log import FAILURE_PREFIX, excerpt, local_stream
from watcher.logs.streams import LogStreams
from watcher.lru import LruCache
from watcher.model import (
    AlertEvidence,
    Closing,
    Finding,
    FindingKind,
    JobSnapshot,
    Judge,
    Reading,
    RuleFamily,
)
from watcher.policy import evaluated_rules

if TYPE_CHECKING:
    from rules import Collection as TensorCollection
    from rules import Rule, Verdict
    from watcher.aws.session import Aws
    from watcher.debug_output.event_files import SavedStep, UnreadableStep
    from watcher.debug_output.reader import DebugOutput
    from watcher.evaluation.steps import JobMetrics

log = structlog.get_logger(__name__)

EVIDENCE_TIMEOUT_S = 4.0
"""How long an alert waits for its evidence."""
MAX_LOG_LINES_READ = 100
"""From the end of the log. `excerpt` chooses the lines that the alert shows."""
OWN_LOG_DELAYS_S = (0.0, 0.2, 0.8, 2.0)
"""Pauses before the attempts to read the log that Watcher itself is writing. Their sum is less than
EVIDENCE_TIMEOUT_S."""
MAX_CURVE_POINTS = 40
MAX_METRIC_CURVES = 6
MAX_STEPS_READ = 2000
"""Saved steps that are read to find the deciding one. Reading more would take longer than an alert waits."""
EVIDENCE_CACHE_SIZE = 64
"""Episodes of findings whose complete evidence is kept."""

_CURVE_IS_MEAN = "Of tensors with several elements, the curve is the mean of their absolute values."
_FROM_CLOUDWATCH = "From the job's metrics in CloudWatch"


@dataclass(frozen=True, slots=True)
class Part:
    """What was read from one place: fields of `AlertEvidence`, and what is missing."""

    values: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


NO_COLLECTIONS: Mapping[str, TensorCollection] = MappingProxyType({})


class Gatherer:
    """Safe to use from several threads.

    Caches complete evidence, because a finding with two destinations, an edit or a retry needs it again. What
    breaks again has other evidence, and what recovered has a longer curve.
    """

    def __init__(
        self,
        accounts: Accounts,
        rules: Rules,
        clock: Callable[[], datetime],
        logs_of: Callable[[Aws], LogStreams] = LogStreams,
        since: Callable[[JobSnapshot], datetime | None] = lambda job: None,  # noqa: ARG005
    ) -> None:
        """`since`: see `EarlierRuns`."""
        self._since = since
        self._accounts = accounts
        self._rules = rules
        self._clock = clock
        self._logs_of = logs_of
        self._complete = LruCache[AlertEvidence](EVIDENCE_CACHE_SIZE)

    def gather(self, finding: Finding, job: JobSnapshot | None) -> AlertEvidence:
        """Does not raise if AWS refuses, and takes at most about EVIDENCE_TIMEOUT_S."""
        episode = f"{finding.id} {finding.episode} {finding.closing}"
        if cached := self._complete.get(episode):
            return cached
        evidence = self._gather(finding, job)
        if not evidence.missing:
            self._complete.put(episode, evidence)
        return evidence

    def values(self, finding: Finding, job: JobSnapshot) -> AlertEvidence:
        """Only the numbers that decided, without a log. As `gather`, but not cached; nothing if numbers did
        not decide this kind of finding."""
        if not KINDS[finding.kind].has_values:
            return AlertEvidence()
        [part] = at_once({"values": lambda: self._values(finding, job)}, EVIDENCE_TIMEOUT_S)
        return AlertEvidence(**part.values, missing=part.missing)

    def _gather(self, finding: Finding, job: JobSnapshot | None) -> AlertEvidence:
        if job is None:
            return AlertEvidence(missing=("all evidence: the store no longer has the job",))
        places: dict[str, Callable[[], Part]] = {}
        kind = KINDS[finding.kind]
        if kind.log is Log.RULE:
            places["log of the rule's processing job"] = lambda: self._rule_log(finding, job)
        if kind.log is Log.TRAINING:
            places["log of the training job"] = lambda: self._training_log(job)
        if kind.has_values and finding.family is RuleFamily.PROFILER:
            places["values"] = lambda: self._instance_curve(finding, job)
        elif kind.has_values:
            places["values"] = lambda: self._values(finding, job)
            if finding.closing is Closing.RECOVERED:
                places["values since then"] = lambda: self._values_since(finding, job)
        parts = at_once(places, EVIDENCE_TIMEOUT_S)
        values = {name: value for part in parts for name, value in part.values.items()}
        since = values.pop("since", ())
        missing = tuple(sentence for part in parts for sentence in part.missing)
        return _continued(AlertEvidence(**values, missing=missing), since)

    # -- logs -------------------------------------------------------------------------------------

    def _rule_log(self, finding: Finding, job: JobSnapshot) -> Part:
        own = finding.judge is Judge.WATCHER and finding.kind is not FindingKind.DIVERGENCE
        if own and finding.rule and self._rules.log_group:
            return self._own_log(finding.rule, job)
        outcome = debugger_outcome(finding, job)
        if outcome is None:  # SageMaker has no job that evaluates it, so no log is missing
            return Part()
        if not outcome.evaluation_job_arn:
            return Part(missing=("log: the rule has no processing job yet",))
        logs = self._logs_of(self._accounts.of(job.arn))
        stream = logs.rule_stream(job.name, outcome.rule, outcome.evaluation_job_arn)
        return _excerpt(logs, PROCESSING_LOGS, stream)

    def _own_log(self, rule: str, job: JobSnapshot) -> Part:
        """The log of Watcher's own evaluation. Watcher wrote its last lines just before it stored the
        finding, and CloudWatch may take seconds to show them."""
        group, stream = self._rules.log_group, local_stream(job.arn, rule, job.created_at)
        logs = self._logs_of(self._accounts.home)
        for pause in OWN_LOG_DELAYS_S:
            time.sleep(pause)
            with suppress(NotFound):
                lines = logs.tail(group, stream, MAX_LOG_LINES_READ)
                if any(FAILURE_PREFIX in line for line in lines):
                    return Part({"log_group": group, "log_stream": stream, "log_lines": excerpt(lines)})
        return Part(missing=(f"log: Watcher's own log is not in {group} yet",))

    def _training_log(self, job: JobSnapshot) -> Part:
        logs = self._logs_of(self._accounts.of(job.arn))
        return _excerpt(logs, TRAINING_LOGS, logs.training_stream(job.name, self._since(job)))

    # -- values -----------------------------------------------------------------------------------

    def _values(self, finding: Finding, job: JobSnapshot) -> Part:
        rule = self._rule(finding, job)
        if isinstance(rule, Part):
            return rule
        return self._of_tensors(finding, job, rule) or self._of_metrics(finding, job, rule)

    def _instance_curve(self, finding: Finding, job: JobSnapshot) -> Part:
        """The numbers that decided are in the finding's reason."""
        from rules import RuleError, profiler
        from watcher.alerts import instance_curves
        from watcher.aws.metrics import Metrics

        configured = self._configuration(finding, job)
        if configured is None:
            return Part()
        metrics = Metrics(self._accounts.of(job.arn))
        try:
            rule = profiler.load(*configured, profiler.Source.INSTANCE_METRICS)
            curve = instance_curves.curve(finding, job, rule, metrics, self._clock)
        except (RuleError, WatcherError) as error:
            # Nothing is missing that the alert needs: the rule may be a custom one, and not everyone lets
            # Watcher read metrics.
            log.debug("no_instance_curve", job=job.name, error=str(error))
            return Part()
        return Part({"curve": curve, "curve_from": instance_curves.CURVE_FROM}) if curve else Part()

    def _configuration(self, finding: Finding, job: JobSnapshot) -> tuple[str, Mapping[str, str]] | None:
        """The rule that the finding's invokes, and its parameters; None if the job's record does not say."""
        evaluated = (*evaluated_rules.local_rules(job, self._rules), *job.rules)
        key = (finding.rule, finding.family)
        configured = next((rule for rule in evaluated if (rule.name, rule.family) == key), None)
        return (configured.invokes, configured.parameters) if configured else None

    def _values_since(self, finding: Finding, job: JobSnapshot) -> Part:
        """The newest saved values of what the rule reads, of a finding that has recovered. Nothing if the job
        saves no tensors."""
        rule = self._rule(finding, job)
        saved_by_job = None if isinstance(rule, Part) else self._output(job, rule)
        if isinstance(rule, Part) or saved_by_job is None:
            return Part()
        from watcher.evaluation import feed

        output, _ = saved_by_job
        last = _LastSteps()
        newest = output.steps(last=MAX_CURVE_POINTS, wanted=rule.wants)
        for saved in feed.for_rules(newest, unreadable=lambda _: None):
            last.take(saved)
        return Part({"since": last.curve()})

    def _rule(self, finding: Finding, job: JobSnapshot) -> Rule | Part:
        import rules  # imports numpy, so only once a rule has fired

        configured = self._configuration(finding, job)
        if configured is None:
            return Part(missing=("values: the job's record has no configuration of this rule",))
        try:
            return rules.load(*configured)
        except rules.RuleError as error:
            return Part(missing=(f"values: {error}",))

    def _output(
        self, job: JobSnapshot, rule: Rule
    ) -> tuple[DebugOutput, Mapping[str, TensorCollection]] | None:
        """What the job has saved, and the collections, which `rule` learns; None if it saved no tensors."""
        from watcher.debug_output.reader import of_job

        if not job.debug_output:
            return None
        output = of_job(self._accounts.of(job.arn).s3, job, self._since(job))
        collections = output.collections()
        if collections is None:
            return None
        rule.learn(collections.by_name)
        return output, collections.by_name

    def _of_tensors(self, finding: Finding, job: JobSnapshot, rule: Rule) -> Part | None:
        """None if the job has saved no tensors."""
        saved_by_job = self._output(job, rule)
        if saved_by_job is None:
            return None
        output, collections = saved_by_job
        saved = output.steps(until=finding.step, last=MAX_STEPS_READ, wanted=rule.wants)
        verdict, last = _replay(rule, saved, collections, until=_earliest(finding))
        if verdict is None:
            return Part(missing=("values: on the saved tensors the rule does not fire for Watcher",))
        return _decided(finding, verdict, last)

    def _of_metrics(self, finding: Finding, job: JobSnapshot, rule: Rule) -> Part:
        """From CloudWatch: the values that decided, if the rule was evaluated on metrics; otherwise only a
        curve."""
        from watcher.aws.metrics import Metrics
        from watcher.evaluation import metric_steps
        from watcher.evaluation.steps import JobMetrics

        where = f"nothing is saved in {job.debug_output}" if job.debug_output else "the job saves no tensors"
        if not metric_steps.names(job):
            return Part(missing=(f"values: {where}, and it has no metrics",))
        metrics = JobMetrics(Metrics(self._accounts.of(job.arn)), job, self._clock)
        collections = metrics.collections()
        rule.learn(collections)
        on_metrics = finding.judge is Judge.WATCHER and evaluated_rules.reads_metrics(job)
        if on_metrics:
            steps = metrics.steps(until=finding.step, last=MAX_STEPS_READ, wanted=rule.wants)
            verdict, last = _replay(rule, steps, collections, until=_earliest(finding))
            if verdict is not None:
                part = _decided(finding, verdict, last)
                return replace(
                    part, values={**part.values, "curve_from": f"{_FROM_CLOUDWATCH}: {metrics.note(rule)}"}
                )
        names = {name for name in metric_steps.names(job) if rule.wants(name)}
        part = _metric_curves(metrics, job, rule, names or collections["losses"].tensor_names)
        return part if on_metrics else replace(part, missing=(f"values: {where}", *part.missing))


def _continued(evidence: AlertEvidence, since: Iterable[Reading]) -> AlertEvidence:
    """With the values that the same tensors had later."""
    newest = {reading.tensor: reading.step for reading in evidence.curve}
    later = tuple(
        reading for reading in since if reading.tensor in newest and reading.step > newest[reading.tensor]
    )
    return replace(evidence, curve=(*evidence.curve, *later)) if later else evidence


def _excerpt(logs: LogStreams, group: str, stream: str) -> Part:
    if not stream:
        return Part(missing=(f"log: no stream in {group} yet",))
    lines = excerpt(logs.tail(group, stream, MAX_LOG_LINES_READ))
    missing = () if lines else ("log: the stream is empty",)
    return Part({"log_stream": stream, "log_lines": lines}, missing)


def _earliest(finding: Finding) -> int:
    """The step before which the rule fired for earlier episodes of the finding."""
    return finding.step or 0 if finding.episode > 1 else 0


def _replay(
    rule: Rule,
    steps: Iterable[SavedStep | UnreadableStep],
    collections: Mapping[str, TensorCollection] = NO_COLLECTIONS,
    *,
    until: int = 0,
) -> tuple[Verdict | None, _LastSteps]:
    """Evaluate the rule again, until it fires at the step `until` or later. Returns its last verdict, and the
    numbers of the last steps up to it."""
    from watcher.evaluation import feed

    verdict: Verdict | None = None
    last = _LastSteps()
    for saved in feed.for_rules(steps, unreadable=lambda _: None):
        last.take(saved)
        if not (fired := feed.observe(rule, saved)):
            continue
        verdict = fired
        successor = rule.successor(fired) if (fired.step or 0) < until else None
        if successor is None:
            break
        successor.learn(collections)
        rule = successor
    return verdict, last


@dataclass(slots=True)
class _LastSteps:
    """The tensors of the last steps, as single numbers for a curve."""

    steps: deque[dict[tuple[str, str], Reading]] = field(
        default_factory=lambda: deque(maxlen=MAX_CURVE_POINTS)
    )
    modes: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By tensor. One that is saved in several modes, such as training and validation, has a curve for
    each."""
    means: set[str] = field(default_factory=set)
    """Tensors with several elements, whose curve is a mean."""

    newest: int | None = None

    def take(self, saved: SavedStep) -> None:
        if saved.step != self.newest:
            self.steps.append({})
        self.newest = saved.step
        for name, value in saved.tensors.items():
            self._add(name, saved, value)

    def _add(self, name: str, saved: SavedStep, value: Any) -> None:
        import numpy as np

        array = np.asarray(value)
        if array.dtype.kind not in "biuf" or not array.size:
            return
        if array.size > 1:
            self.means.add(name)
        self.modes[name].add(saved.mode)
        with np.errstate(over="ignore"):
            number = array.item() if array.size == 1 else np.abs(array, dtype=float).mean()
        self.steps[-1][name, saved.mode] = Reading(name, saved.step, float(number))

    def curve(self, tensors: Collection[str] | None = None) -> tuple[Reading, ...]:
        """Of these tensors, or of all."""
        return tuple(
            replace(reading, tensor=f"{name} {mode}") if len(self.modes[name]) > 1 else reading
            for step in self.steps
            for (name, mode), reading in step.items()
            if tensors is None or name in tensors
        )


def _decided(finding: Finding, verdict: Verdict, last: _LastSteps) -> Part:
    tensors = {row.tensor for row in verdict.evidence}
    values = {
        "explanation": verdict.explanation,
        "deciding": _deciding(verdict),
        "needed": tuple(
            Reading(row.tensor, row.step, row.needed) for row in verdict.evidence if row.needed is not None
        ),
        "curve": last.curve(tensors),
        "curve_from": _CURVE_IS_MEAN if tensors & last.means else "",
    }
    if verdict.step == finding.step:
        return Part(values)
    return Part(values, (f"values: for Watcher the rule fires at step {verdict.step} already",))


def _metric_curves(metrics: JobMetrics, job: JobSnapshot, rule: Rule, names: Collection[str]) -> Part:
    """The newest values of metrics, for a rule that was evaluated on something else. The job's record has the
    last value of each, which CloudWatch may not show yet."""
    from watcher.evaluation.metric_steps import step_at

    curves: defaultdict[str, deque[Reading]] = defaultdict(lambda: deque(maxlen=MAX_CURVE_POINTS))
    missing: tuple[str, ...] = ()
    try:
        for saved in metrics.steps(last=MAX_STEPS_READ, wanted=names.__contains__):
            for name, value in saved.tensors.items():
                curves[name].append(Reading(name, saved.step, float(value)))
    except WatcherError as error:
        missing = (f"values: {error}",)
    for metric in job.final_metrics:
        if metric.name in names and job.started_at:
            final = Reading(metric.name, step_at(metric.at, job.started_at), metric.value)
            if not curves[metric.name] or curves[metric.name][-1].step < final.step:
                curves[metric.name].append(final)
    shown = sorted(name for name, curve in curves.items() if curve)[:MAX_METRIC_CURVES]
    if not shown:
        return Part(missing=missing or ("values: CloudWatch has no metrics of the job yet",))
    curve = tuple(reading for name in shown for reading in curves[name])
    return Part({"curve": curve, "curve_from": f"{_FROM_CLOUDWATCH}: {metrics.note(rule)}"}, missing)


def _deciding(verdict: Verdict) -> tuple[Reading, ...]:
    readings = []
    for row in verdict.evidence:
        if row.previous_step is not None and row.previous_value is not None:
            readings.append(Reading(row.tensor, row.previous_step, row.previous_value))
        readings.append(Reading(row.tensor, row.step, row.value))
    return tuple(readings)


def at_once(places: dict[str, Callable[[], Part]], timeout_s: float) -> list[Part]:
    """Read all places at the same time. The part of one that fails or takes longer than `timeout_s` says what
    is missing.

    The threads are daemon threads, so one that hangs delays neither the alert nor the end of the process.
    """
    answers: queue.SimpleQueue[tuple[str, Part]] = queue.SimpleQueue()

    def ask(name: str, place: Callable[[], Part]) -> None:
        try:
            part = place()
        except WatcherError as error:
            part = Part(missing=(f"{name}: {error}",))
        except Exception:
            log.exception("evidence_failed", place=name)
            part = Part(missing=(f"{name}: Watcher failed to read it; its log says why",))
        answers.put((name, part))

    for name, place in places.items():
        threading.Thread(target=ask, args=(name, place), name="evidence", daemon=True).start()
    until = time.monotonic() + timeout_s
    got: dict[str, Part] = {}
    while len(got) < len(places):
        try:
            name, part = answers.get(timeout=max(until - time.monotonic(), 0))
        except queue.Empty:
            break
        got[name] = part
    return [got.get(name, Part(missing=(f"{name}: no answer within {timeout_s:.0f} s",))) for name in places]
