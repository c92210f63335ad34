"""A finding with its evidence becomes a message, free of any channel.

`compose` is where text from outside (StatusDetails, log lines, tensor names) is made harmless: terminal
escapes, control characters and characters that turn the direction of writing are taken out, so that no
channel has to think of them. How a channel quotes the rest is its own business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby

from watcher import links
from watcher.advice import advice, built_in_rule
from watcher.model import Delivery, DeliveryKind, Evidence, Finding, FindingKind, JobSnapshot, RuleSource

TITLE_LIMIT = 140
"""In characters; Slack's header takes 150, and a channel may put a sign before the title."""

REPEATED = "This may have been told before: Watcher was interrupted while it was telling it."

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")

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
    """When this attempt was composed."""
    title: str
    """At most `TITLE_LIMIT` characters, on one line."""
    text: str
    """One plain line, for notifications and for those who see only one line."""
    fields: tuple[tuple[str, str], ...] = ()
    """Label and value, most important first."""
    advice: str = ""
    """What to do about it."""
    stop: str = ""
    """What happens, or happened, to the job."""
    evidence: Evidence = field(default_factory=Evidence)
    links: tuple[tuple[str, str], ...] = ()
    """Label and URL."""
    repeat: bool = False
    """It may have been told before: Watcher was interrupted, and this channel cannot be asked."""

    @property
    def is_update(self) -> bool:
        return self.kind is DeliveryKind.UPDATE

    @property
    def log_label(self) -> str:
        return "End of the rule's log" if self.finding.rule else "End of the training log"


def compose(
    delivery: Delivery, finding: Finding, snapshot: JobSnapshot | None, evidence: Evidence, now: datetime
) -> Message:
    """The whole of what there is to say. `snapshot` is None where the job is forgotten.

    An update carries all that the alert did, and what has become of the stop: a channel that can change
    the alert puts the update in its place.
    """
    evidence = _printable_evidence(evidence)
    title = _cut(_one_line(_title(finding)), TITLE_LIMIT)
    step = "" if finding.step is None else f" at step {finding.step}"
    return Message(
        id=delivery.id,
        kind=delivery.kind,
        finding=finding,
        at=now,
        title=title,
        text=_one_line(f"{title}{step}. {delivery.text}"),
        fields=tuple(
            (label, value)
            for label, text in _fields(finding, snapshot, now)
            if (value := printable(text).strip())
        ),
        advice=advice(finding, snapshot),
        stop=printable(delivery.text),
        evidence=evidence,
        links=tuple(_links(finding, snapshot, evidence)),
    )


def printable(text: str) -> str:
    """Without what a terminal would obey and what no reader sees; line ends and tabs stay."""
    lines = _ESCAPE_SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("", lines).strip("\n")


def duration(span: timedelta) -> str:
    """For people: the two largest units that matter (`2 d 3 h`, `12 min 4 s`)."""
    left = max(int(span.total_seconds()), 0)
    parts: list[tuple[int, str]] = []
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, seconds)
        if amount or parts:
            parts.append((amount, unit))
    return " ".join(f"{amount} {unit}" for amount, unit in parts[:2] if amount) or "0 s"


def plain_text(message: Message) -> str:
    """The message for those who get nothing but text: a mail, a pipe, a file."""
    evidence = message.evidence
    width = max((len(label) for label, _ in message.fields), default=0) + 2
    sections = (
        f"Update: {message.title}" if message.is_update else message.title,
        REPEATED if message.repeat else "",
        message.stop,
        "\n".join(f"{label:<{width}}{value}" for label, value in message.fields),
        evidence.explanation,
        values_table(evidence),
        "\n".join((f"{message.log_label}:", *evidence.log_lines)) if evidence.log_lines else "",
        message.advice,
        missing_line(evidence),
        "\n".join(f"{label}: {url}" for label, url in message.links),
    )
    return "\n\n".join(section for section in sections if section)


def missing_line(evidence: Evidence) -> str:
    return f"Could not be had: {'; '.join(evidence.missing)}." if evidence.missing else ""


def values_table(evidence: Evidence) -> str:
    """The numbers that decided, one a line, then the curve of each tensor; empty without any."""
    rows = [(reading.tensor, f"step {reading.step}", f"{reading.value:.6g}") for reading in evidence.deciding]
    by_name = sorted(evidence.curve, key=lambda reading: (reading.tensor, reading.step))
    for tensor, group in groupby(by_name, key=lambda reading: reading.tensor):
        curve = list(group)
        steps = f"steps {curve[0].step} to {curve[-1].step}"
        rows.append((tensor, steps, sparkline([reading.value for reading in curve])))
    names, steps_width = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return "\n".join(f"{name:<{names}}  {steps:<{steps_width}}  {value}" for name, steps, value in rows)


def sparkline(values: Sequence[float]) -> str:
    """A curve in one line of text, a character a value; `!` where a value is no finite number."""
    bars = "▁▂▃▄▅▆▇█"
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return "!"
        if low == high:
            return bars[0]
        # halves: the difference of two huge values would be infinite
        return bars[round((value / 2 - low / 2) / (high / 2 - low / 2) * (len(bars) - 1))]

    return "".join(map(bar, values))


def _title(finding: Finding) -> str:
    match finding.kind:
        case FindingKind.RULE_ISSUE:
            return f"{finding.rule} found an issue in {finding.job}"
        case FindingKind.RULE_ERROR:
            return f"{finding.rule} could not run on {finding.job}"
        case FindingKind.RULE_UNEVALUATED:
            return f"{finding.rule} had nothing to look at in {finding.job}"
        case FindingKind.DIVERGENCE:
            return f"Watcher and Debugger disagree on {finding.rule} in {finding.job}"
        case FindingKind.RULE_MUTE:
            return f"{finding.rule} is not doing its work on {finding.job}"
        case FindingKind.RULE_DEFECT:
            return f"{finding.rule} cannot do its work on {finding.job}"
        case FindingKind.JOB_FAILED:
            return f"{finding.job} failed"
        case FindingKind.JOB_STOPPED:
            return f"{finding.job} was stopped"
        case FindingKind.JOB_COMPLETED:
            return f"{finding.job} completed"


def _fields(finding: Finding, snapshot: JobSnapshot | None, now: datetime) -> Iterator[tuple[str, str]]:
    yield "Job", finding.job
    if finding.rule:
        built_in = built_in_rule(finding, snapshot)
        yield "Rule", finding.rule if built_in == finding.rule else f"{finding.rule} ({built_in})"
    if finding.source:
        yield "Evaluated by", _EVALUATORS[finding.source]
    if finding.step is not None:
        yield "Step", str(finding.step)
    yield "Status", finding.status
    if snapshot:
        if finding.rule:
            yield "Job's status", _job_status(snapshot)
        elif snapshot.secondary_status != finding.status:
            yield "Secondary status", snapshot.secondary_status
        if snapshot.started_at:
            label = "Ran for" if snapshot.ended_at else "Running for"
            yield label, duration((snapshot.ended_at or now) - snapshot.started_at)
        if snapshot.instance_type:
            yield "Instances", f"{snapshot.instance_count} × {snapshot.instance_type}"
    _, _, _, region, account, _ = finding.job_arn.split(":", 5)
    yield "Region", f"{region} (account {account})"
    yield "Details", finding.reason


def _job_status(snapshot: JobSnapshot) -> str:
    if snapshot.secondary_status in ("", snapshot.status):
        return snapshot.status
    return f"{snapshot.status} ({snapshot.secondary_status})"


def _links(finding: Finding, snapshot: JobSnapshot | None, evidence: Evidence) -> Iterator[tuple[str, str]]:
    arn = finding.job_arn
    yield "Training job", links.training_job(arn)
    if finding.rule:
        outcomes = snapshot.outcomes if snapshot else ()
        for outcome in outcomes:
            if (outcome.rule, outcome.source) == (
                finding.rule,
                finding.source,
            ) and outcome.evaluation_job_arn:
                yield "Rule's processing job", links.processing_job(outcome.evaluation_job_arn)
        if evidence.log_stream:
            yield "Rule's log", links.log_stream(arn, links.PROCESSING_LOGS, evidence.log_stream)
    yield "Training log", links.log_streams(arn, links.TRAINING_LOGS, f"{printable(finding.job)}/")


def _printable_evidence(evidence: Evidence) -> Evidence:
    return replace(
        evidence,
        log_stream=printable(evidence.log_stream),
        log_lines=tuple(printable(line) for line in evidence.log_lines),
        explanation=printable(evidence.explanation),
        deciding=tuple(replace(reading, tensor=_one_line(reading.tensor)) for reading in evidence.deciding),
        curve=tuple(replace(reading, tensor=_one_line(reading.tensor)) for reading in evidence.curve),
        missing=tuple(_one_line(text) for text in evidence.missing),
    )


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
