"""Composes a message from an incident as it is now and the evidence, the same for every channel.

`compose` sanitises text from outside (StatusDetails, log lines, tensor names), so that channels need not: it
removes terminal escapes, control characters and characters that change the direction of writing. What is
markup differs between channels, so each one escapes that itself.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from types import MappingProxyType

from watcher.alerts import kinds, sentences
from watcher.alerts.advice import built_in_rule
from watcher.alerts.job_facts import Facts, cost, debugger_outcome, facts, particulars
from watcher.alerts.sentences import Ending, headline
from watcher.arn import Arn
from watcher.aws import links
from watcher.model import (
    RECOVERED,
    AlertEvidence,
    Case,
    Change,
    ChangeKind,
    Closing,
    Delivery,
    Finding,
    Form,
    Incident,
    JobSnapshot,
    Reading,
    Severity,
)
from watcher.text import one_line, printable, truncated

TITLE_LIMIT = 140
"""Characters. Slack's header takes 150, and a channel may put a sign before the title."""

_FOUND = frozenset({ChangeKind.OPENED, ChangeKind.WORSE})

NO_PRICES: Mapping[str, float] = MappingProxyType({})

POSSIBLE_DUPLICATE = "Possible duplicate: Watcher restarted while sending this alert."


@dataclass(frozen=True, slots=True)
class Message:
    """One incident as it is at one time, for one destination."""

    key: str
    """The same for each attempt at the same message: `Delivery.key`."""
    delivery_id: str
    """The same for all messages about this incident to this destination."""
    incident: Incident
    finding: Finding
    """The headline: see `sentences.headline`."""
    findings: tuple[Finding, ...]
    """All of the incident, the headline included."""
    changes: tuple[Change, ...]
    """Those worth telling that are new in this message; all of them in a first one."""
    is_update: bool
    """Whether the destination knows of the incident already."""
    at: datetime
    """When this attempt composed the message."""
    ending: Ending | None
    """None as long as the incident is open."""
    title: str
    """At most `TITLE_LIMIT` characters, on one line; begins with how it ended."""
    text: str
    """The message in one plain line, for notifications."""
    news: tuple[str, ...] = ()
    """What changed, one line each, true now; empty in a first message."""
    status: str = ""
    """One line: open, acknowledged, snoozed, recovered or resolved, since when and by whom."""
    stop: str = ""
    """What Watcher does, or did, to the job."""
    fields: tuple[tuple[str, str], ...] = ()
    """Label and value: the job and what it costs."""
    details: tuple[tuple[str, str], ...] = ()
    """Label and value: the headline's rule and what it says."""
    others: tuple[str, ...] = ()
    """The incident's other findings, one line each."""
    undelivered: tuple[str, ...] = ()
    """Other destinations that refuse the alert, one line each."""
    advice: str = ""
    """What to do about it."""
    evidence: AlertEvidence = field(default_factory=AlertEvidence)
    job: Facts | None = None
    """The job itself, as data; None if the store no longer has it."""
    particulars: tuple[tuple[str, str], ...] = ()
    """Label and value: what distinguishes this run from others. Small print."""
    links: tuple[tuple[str, str], ...] = ()
    """Label and URL."""
    repeat: bool = False
    """Whether it may be a duplicate: an earlier attempt may have arrived, and the channel cannot be asked."""
    form: Form = Form.FULL
    left_out: str = ""
    """What a shorter form leaves out, and how to see it."""

    @property
    def severity(self) -> Severity:
        return self.finding.severity

    @property
    def headline_is_new(self) -> bool:
        """Whether the destination does not know of the headline yet."""
        return any(one.kind in _FOUND and one.finding == self.finding.id for one in self.changes)

    @property
    def subject(self) -> str:
        """The title, for a destination that gets another message for each change."""
        return f"Update: {self.title}" if self.is_update and not self.ending else self.title

    @property
    def log_label(self) -> str:
        log = kinds.KINDS[self.finding.kind].log
        return "End of the training log" if log is kinds.Log.TRAINING else "End of the rule's log"

    def shortened(self, form: Form) -> Message:
        """Without what a destination may refuse it for: log, values, curve and small print."""
        if form is Form.FULL:
            return self
        return replace(
            self,
            form=form,
            evidence=AlertEvidence(explanation=self.evidence.explanation),
            particulars=(),
            left_out="The evidence is left out, because the destination refused the message with it. "
            f"To see it: {_command(self.finding)}",
        )


def _command(finding: Finding) -> str:
    """Shows what a short form leaves out."""
    kind = kinds.KINDS[finding.kind]
    if kind.log is kinds.Log.RULE and finding.rule:
        return f"watcher logs {finding.job} --rule {shlex.quote(finding.rule)}"
    if kind.log is kinds.Log.TRAINING:
        return f"watcher logs {finding.job} --training"
    return f"watcher show {finding.job}"


def compose(
    case: Case,
    alert: Delivery,
    snapshot: JobSnapshot | None,
    evidence: AlertEvidence,
    now: datetime,
    *,
    prices: Mapping[str, float] = NO_PRICES,
) -> Message:
    """The complete message that `alert` is to send now. `snapshot` is None if the store no longer has the
    run. `prices` are US dollars an hour, by instance type.

    All of it says how things are now, in an update too: a channel that can edit replaces the alert with it.
    """
    snapshot = sentences.as_known(snapshot, case.incident.stop) if snapshot else None
    finding = headline(case)
    evidence = _printable_evidence(evidence)
    job = _printable_facts(facts(snapshot, prices, now)) if snapshot else None
    changes = sentences.told_now(case, alert)
    ending = sentences.ending(case, snapshot)
    title = one_line(kinds.title(finding))
    title = truncated(f"{ending}: {title}" if ending else title, TITLE_LIMIT)
    news = sentences.news(case, changes, snapshot, alert, now)
    stop = sentences.stop_sentence(case, snapshot, now)
    step = "" if finding.step is None else f" at step {finding.step}"
    new = sentences.notification(case, news, stop, now)
    return Message(
        key=alert.key,
        delivery_id=alert.id,
        incident=_printable_incident(case.incident),
        finding=_printable_finding(finding),
        findings=tuple(map(_printable_finding, case.findings)),
        changes=tuple(replace(one, text=one_line(one.text), actor=one_line(one.actor)) for one in changes),
        is_update=alert.told > 0,
        at=now,
        ending=ending,
        title=title,
        text=one_line(f"{title}{step}. {new}"),
        news=news,
        status=sentences.status(case, now),
        stop=stop,
        fields=_rows(_job_fields(finding, None if sentences.is_left(case) else job)),
        details=_rows(_details(finding, snapshot)),
        others=sentences.others(case, now),
        undelivered=sentences.undelivered(case, alert.to, now),
        advice=kinds.advice_on(finding, snapshot),
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
        message.subject,
        POSSIBLE_DUPLICATE if message.repeat else "",
        summary(message),
        evidence.explanation,
        _columns((*message.fields, *message.details)),
        also_found(message),
        not_delivered(message),
        values_table(evidence, curves=not plot),
        plot,
        titled(message.log_label, evidence.log_lines),
        message.advice,
        _columns(message.particulars),
        missing_line(evidence),
        message.left_out,
        "\n".join(f"{label}: {url}" for label, url in message.links),
    )
    return "\n\n".join(section for section in sections if section)


def summary(message: Message) -> str:
    """What is new, how it is, and what happens to the job: a line each, none of them twice."""
    return "\n".join(dict.fromkeys(filter(None, (*message.news, message.status, message.stop))))


def also_found(message: Message) -> str:
    """The other findings, but those of which the news above tells."""
    return titled("Also found", [line for line in message.others if line not in message.news])


def not_delivered(message: Message) -> str:
    """The same for the destinations that refuse the alert."""
    return titled(
        "Not delivered everywhere", [line for line in message.undelivered if line not in message.news]
    )


def titled(label: str, lines: Sequence[str]) -> str:
    """The lines below a label; empty if there are none."""
    return "\n".join((f"{label}:", *lines)) if lines else ""


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


def _rows(rows: Iterator[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((label, value) for label, text in rows if (value := printable(text).strip()))


def _job_fields(finding: Finding, job: Facts | None) -> Iterator[tuple[str, str]]:
    yield "Job", finding.job
    if job and finding.rule:
        yield "Job's status", _job_status(job)
    elif job and job.secondary_status != finding.status:
        yield "Secondary status", job.secondary_status
    if job:
        yield from cost(job)


def _details(finding: Finding, snapshot: JobSnapshot | None) -> Iterator[tuple[str, str]]:
    if finding.rule:
        built_in = built_in_rule(finding, snapshot)
        yield "Rule", finding.rule if built_in == finding.rule else f"{finding.rule} ({built_in})"
    if finding.step is not None:
        yield "Step", str(finding.step)
    yield "Status", RECOVERED if finding.closing is Closing.RECOVERED else finding.status
    yield "Found by", sentences.found_by(finding)
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
        curve_from=one_line(evidence.curve_from),
        missing=tuple(one_line(text) for text in evidence.missing),
    )


def _printable_incident(incident: Incident) -> Incident:
    stop = incident.stop
    return replace(
        incident,
        run=one_line(incident.run),
        job=one_line(incident.job),
        acknowledged_by=one_line(incident.acknowledged_by),
        snoozed_by=one_line(incident.snoozed_by),
        stop=stop and replace(stop, actor=one_line(stop.actor), reason=one_line(stop.reason)),
    )


def _printable_finding(finding: Finding) -> Finding:
    return replace(
        finding,
        run=one_line(finding.run),
        job=one_line(finding.job),
        status=one_line(finding.status),
        rule=finding.rule and one_line(finding.rule),
        reason=printable(finding.reason),
        closing_reason=one_line(finding.closing_reason),
        says=tuple(
            replace(says, status=one_line(says.status), reason=printable(says.reason))
            for says in finding.says
        ),
    )


def _printable_readings(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    return tuple(replace(reading, tensor=one_line(reading.tensor)) for reading in readings)


def _printable_facts(job: Facts) -> Facts:
    return replace(
        job,
        status=one_line(job.status),
        secondary_status=one_line(job.secondary_status),
        instances=tuple((one_line(type_), count) for type_, count in job.instances),
        spend=job.spend and replace(job.spend, basis=one_line(job.spend.basis)),
        hyperparameters=_one_line_each(job.hyperparameters),
        experiment=one_line(job.experiment),
        trial=one_line(job.trial),
        tags=None if job.tags is None else _one_line_each(job.tags),
        debug_output=one_line(job.debug_output),
    )


def _one_line_each(named: Mapping[str, str]) -> dict[str, str]:
    return {one_line(name): one_line(value) for name, value in named.items()}
