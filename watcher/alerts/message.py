"""Composes a message from a finding and its evidence, the same for every channel.

`compose` sanitises text from outside (StatusDetails, log lines, tensor names), so that channels need not: it
removes terminal escapes, control characters and characters that change the direction of writing. What is
markup differs between channels, so each one escapes that itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from types import MappingProxyType

from watcher.alerts import kinds
from watcher.alerts.advice import built_in_rule
from watcher.alerts.job_facts import Facts, cost, debugger_outcome, facts, particulars
from watcher.arn import Arn
from watcher.aws import links
from watcher.model import (
    AlertEvidence,
    Delivery,
    DeliveryKind,
    Finding,
    JobSnapshot,
    Reading,
    RuleSource,
    Severity,
)
from watcher.text import printable, truncated

TITLE_LIMIT = 140
"""Characters. Slack's header takes 150, and a channel may put a sign before the title."""

NO_PRICES: Mapping[str, float] = MappingProxyType({})

POSSIBLE_DUPLICATE = "Possible duplicate: Watcher restarted while sending this alert."


_EVALUATORS = {
    RuleSource.DEBUGGER: "Debugger",
    RuleSource.PROFILER: "Debugger's profiler",
    RuleSource.LOCAL: "Watcher",
}


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    """The delivery's id: the same for each attempt at the same delivery."""
    kind: DeliveryKind
    finding: Finding
    at: datetime
    """When this attempt composed the message."""
    severity: Severity
    title: str
    """At most `TITLE_LIMIT` characters, on one line."""
    text: str
    """The alert in one plain line, for notifications."""
    fields: tuple[tuple[str, str], ...] = ()
    """Label and value, most important first."""
    advice: str = ""
    """What to do about it."""
    stop: str = ""
    """What Watcher does, or did, to the job."""
    evidence: AlertEvidence = field(default_factory=AlertEvidence)
    job: Facts | None = None
    """The job itself, as data; None if the store no longer has it."""
    particulars: tuple[tuple[str, str], ...] = ()
    """Label and value: what distinguishes this run from others. Small print."""
    links: tuple[tuple[str, str], ...] = ()
    """Label and URL."""
    repeat: bool = False
    """Whether it may be a duplicate: an earlier attempt may have arrived, and the channel cannot be asked."""

    @property
    def is_update(self) -> bool:
        return self.kind is DeliveryKind.UPDATE

    @property
    def log_label(self) -> str:
        log = kinds.KINDS[self.finding.kind].log
        return "End of the training log" if log is kinds.Log.TRAINING else "End of the rule's log"


def compose(
    delivery: Delivery,
    finding: Finding,
    snapshot: JobSnapshot | None,
    evidence: AlertEvidence,
    now: datetime,
    *,
    prices: Mapping[str, float] = NO_PRICES,
) -> Message:
    """The complete message. `snapshot` is None if the store no longer has the job. `prices` are US dollars an
    hour, by instance type.

    An update contains everything that the alert did, and the outcome of the stop, because a channel that can
    edit replaces the alert with it.
    """
    evidence = _printable_evidence(evidence)
    job = _printable_facts(facts(snapshot, prices, now)) if snapshot else None
    title = truncated(_one_line(kinds.title(finding)), TITLE_LIMIT)
    step = "" if finding.step is None else f" at step {finding.step}"
    return Message(
        id=delivery.id,
        kind=delivery.kind,
        finding=finding,
        at=now,
        severity=kinds.KINDS[finding.kind].severity,
        title=title,
        text=_one_line(f"{title}{step}. {delivery.text}"),
        fields=tuple(
            (label, value)
            for label, text in _fields(finding, snapshot, job)
            if (value := printable(text).strip())
        ),
        advice=kinds.advice_on(finding, snapshot),
        stop=printable(delivery.text),
        evidence=evidence,
        job=job,
        particulars=tuple(particulars(job)) if job else (),
        links=tuple(_links(finding, snapshot, evidence)),
    )


def plain_text(message: Message, plot: str = "") -> str:
    """The message as plain text, for an email, a pipe or a file. `plot`: the curves drawn as text, instead of
    the one-line curves."""
    evidence = message.evidence
    sections = (
        f"Update: {message.title}" if message.is_update else message.title,
        POSSIBLE_DUPLICATE if message.repeat else "",
        message.stop,
        evidence.explanation,
        _columns(message.fields),
        values_table(evidence, curves=not plot),
        plot,
        "\n".join((f"{message.log_label}:", *evidence.log_lines)) if evidence.log_lines else "",
        message.advice,
        _columns(message.particulars),
        missing_line(evidence),
        "\n".join(f"{label}: {url}" for label, url in message.links),
    )
    return "\n\n".join(section for section in sections if section)


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    width = max((len(label) for label, _ in rows), default=0) + 2
    return "\n".join(f"{label:<{width}}{value}" for label, value in rows)


def missing_line(evidence: AlertEvidence) -> str:
    return f"Not available: {'; '.join(evidence.missing)}." if evidence.missing else ""


def values_table(evidence: AlertEvidence, *, curves: bool = True) -> str:
    """The numbers that decided, one on each line; then those that the rule needed; then a one-line curve of
    each tensor, unless `curves` is False because they are drawn elsewhere. Empty if there is no number."""
    rows = [(reading.tensor, f"step {reading.step}", f"{reading.value:.6g}") for reading in evidence.deciding]
    rows += [(reading.tensor, "needed", f"{reading.value:.6g}") for reading in evidence.needed]
    by_name = sorted(evidence.curve if curves else (), key=lambda reading: (reading.tensor, reading.step))
    for tensor, group in groupby(by_name, key=lambda reading: reading.tensor):
        curve = list(group)
        steps = f"steps {curve[0].step} to {curve[-1].step}"
        rows.append((tensor, steps, sparkline([reading.value for reading in curve])))
    names, steps_width = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    lines = [f"{name:<{names}}  {steps:<{steps_width}}  {value}" for name, steps, value in rows]
    return "\n".join([*lines, evidence.curve_from] if rows and evidence.curve_from else lines)


def sparkline(values: Sequence[float]) -> str:
    """A curve in one line of text, one character for each value; `!` for one that is not finite."""
    bars = "▁▂▃▄▅▆▇█"
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return "!"
        if low == high:
            return bars[0]
        # Halved, because the difference of two huge values would be infinite.
        return bars[round((value / 2 - low / 2) / (high / 2 - low / 2) * (len(bars) - 1))]

    return "".join(map(bar, values))


def _fields(finding: Finding, snapshot: JobSnapshot | None, job: Facts | None) -> Iterator[tuple[str, str]]:
    yield "Job", finding.job
    if job and finding.rule:
        yield "Job's status", _job_status(job)
    elif job and job.secondary_status != finding.status:
        yield "Secondary status", job.secondary_status
    if job:
        yield from cost(job)
    if finding.rule:
        built_in = built_in_rule(finding, snapshot)
        yield "Rule", finding.rule if built_in == finding.rule else f"{finding.rule} ({built_in})"
    if finding.step is not None:
        yield "Step", str(finding.step)
    yield "Status", finding.status
    if finding.source:
        yield "Evaluated by", _EVALUATORS[finding.source]
    job_arn = Arn.parse(finding.job_arn)
    yield "Region", f"{job_arn.region} (account {job_arn.account})"
    yield "Details", finding.reason


def _job_status(job: Facts) -> str:
    if job.secondary_status in ("", job.status):
        return job.status
    return f"{job.status} ({job.secondary_status})"


def _links(
    finding: Finding, snapshot: JobSnapshot | None, evidence: AlertEvidence
) -> Iterator[tuple[str, str]]:
    arn = finding.job_arn
    yield "Training job", links.training_job(arn)
    outcome = debugger_outcome(finding, snapshot) if snapshot and finding.rule else None
    if outcome and outcome.evaluation_job_arn:
        yield "Rule's processing job", links.processing_job(outcome.evaluation_job_arn)
    log = kinds.KINDS[finding.kind].log if evidence.log_stream else None
    if log is kinds.Log.RULE:
        group = evidence.log_group or links.PROCESSING_LOGS
        yield "Rule's log", links.log_stream(arn, group, evidence.log_stream)
    if log is kinds.Log.TRAINING:
        yield "Training log", links.log_stream(arn, links.TRAINING_LOGS, evidence.log_stream)
    else:
        prefix = f"{printable(finding.job)}/"
        yield "Training log", links.log_streams(arn, links.TRAINING_LOGS, prefix)
    if snapshot and snapshot.debug_output:
        yield "Debug output", links.s3_prefix(arn, printable(snapshot.debug_output))


def _printable_evidence(evidence: AlertEvidence) -> AlertEvidence:
    return replace(
        evidence,
        log_stream=printable(evidence.log_stream),
        log_lines=tuple(printable(line) for line in evidence.log_lines),
        explanation=printable(evidence.explanation),
        deciding=_printable_readings(evidence.deciding),
        needed=_printable_readings(evidence.needed),
        curve=_printable_readings(evidence.curve),
        curve_from=_one_line(evidence.curve_from),
        missing=tuple(_one_line(text) for text in evidence.missing),
    )


def _printable_readings(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    return tuple(replace(reading, tensor=_one_line(reading.tensor)) for reading in readings)


def _printable_facts(job: Facts) -> Facts:
    return replace(
        job,
        status=_one_line(job.status),
        secondary_status=_one_line(job.secondary_status),
        instances=tuple((_one_line(type_), count) for type_, count in job.instances),
        hyperparameters=_one_line_each(job.hyperparameters),
        experiment=_one_line(job.experiment),
        trial=_one_line(job.trial),
        tags=None if job.tags is None else _one_line_each(job.tags),
        debug_output=_one_line(job.debug_output),
    )


def _one_line_each(named: Mapping[str, str]) -> dict[str, str]:
    return {_one_line(name): _one_line(value) for name, value in named.items()}


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())
