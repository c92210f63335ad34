"""Reads and writes the log of a rule's evaluation, in Debugger's own format. Pure.

    [2026-11-20 09:59:59.345 ip-10-0-1-7:1 INFO loss_decrease.py:305] Loss is not decreasing over the last
    10 steps at step 140

is one line as smdebug's logger writes it (`smdebug/core/logger.py`). Between such records is what does not go
through the logger: tracebacks, and what a container prints while it starts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from watcher.arn import job_name
from watcher.logs import terminal_lines
from watcher.redaction import redacted
from watcher.text import clean, in_row, truncated

if TYPE_CHECKING:
    from rules import Recovered, Rule, Verdict
    from rules.profiler import ProfilerRule
    from rules.profiler import Verdict as ProfilerVerdict

MAX_LINE_CHARACTERS = 300
"""Longer lines are cut: a custom rule may print a tensor."""
_BEFORE_CHARACTERS = 60
"""Of a line that is cut on both sides: how much of it precedes what matters."""

_TRACEBACK = "Traceback (most recent call last)"
_RECORD = re.compile(
    r"\[\d{4}-\d\d-\d\d [\d:.,]+ \S+ (?P<smdebug>[A-Z]+)\b[^\]]*\] "
    r"|(?P<logging>DEBUG|INFO|WARNING|ERROR|CRITICAL):[\w.]+:"  # logging.basicConfig's; pip writes "ERROR: "
)
_ERRORS = ("ERROR", "CRITICAL")
FAILURE_PREFIX = "Exception during rule evaluation: "
"""The last line of Debugger's log, both when a rule fired and when it could not run."""
_FIRED = re.compile(
    r"RuleEvaluationConditionMet\b|resulted in the condition being met|over the last \d+ steps at step \d"
)
_STEP = re.compile(r"\bstep[ :=]+(\d{1,18})", re.IGNORECASE)


# -- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleLog:
    """What a rule's log says so far. Small, however long the log is."""

    last_at: datetime | None = None
    """The time of the newest line that is not blank; None before the first."""
    last_line: str = ""
    """Its text, without the time and place of a record."""
    step: int | None = None
    """The highest step that the log mentions."""
    fired: bool = False
    """The log says that the rule's condition is met."""
    error: str = ""
    """The last error, unless the rule went on after it: its record, or the exception at a traceback's end."""
    error_at: datetime | None = None
    in_traceback: bool = False

    def after(self, at: datetime, message: str) -> RuleLog:
        """The log with one more event. CloudWatch may deliver an event late: then it is older than the last.

        An error is cleared when the rule goes on: with the next record that is not an error, or with a line
        that mentions a higher step. Other lines (the rest of a long message, a container's last line) do not
        show that the rule goes on.
        """
        log = self
        for line in terminal_lines.lines(message):
            if line.strip():
                log = log._late(line) if log.last_at and at < log.last_at else log._next(at, line)
        return log

    def _late(self, line: str) -> RuleLog:
        """A late line can still mention a step, or say that the rule fired; the rest is known from later
        lines."""
        return replace(self, step=self._newest(line), fired=self.fired or bool(_FIRED.search(line)))

    def _next(self, at: datetime, line: str) -> RuleLog:
        record = _RECORD.match(line)
        said = line[record.end() :] if record else line
        # A single new value for each line: a new process reads every log from its start.
        return replace(
            self,
            last_at=at,
            last_line=said.strip()[:MAX_LINE_CHARACTERS],
            **self._changes(at, line, said, record),
        )

    def _changes(self, at: datetime, line: str, said: str, record: re.Match[str] | None) -> dict[str, Any]:
        """The fields that change with the content of a line."""
        if record is None and self.in_traceback:
            return {} if line[0].isspace() else self._failed(at, line)
        if _TRACEBACK in line:
            return {"in_traceback": True, "error": line.strip()[:MAX_LINE_CHARACTERS], "error_at": at}
        if record is None:
            return (
                self._failed(at, line) if line.startswith(FAILURE_PREFIX) else self._said(line, goes_on=False)
            )
        if (record["smdebug"] or record["logging"]) in _ERRORS:
            return self._failed(at, said)
        return self._said(said, goes_on=True)

    def _failed(self, at: datetime, said: str) -> dict[str, Any]:
        """A rule that fires ends with an exception, too, but that is not an error."""
        if _FIRED.search(said):
            return self._said(said, goes_on=True)
        return {"in_traceback": False, "error": said.strip()[:MAX_LINE_CHARACTERS], "error_at": at}

    def _said(self, said: str, *, goes_on: bool) -> dict[str, Any]:
        step = self._newest(said)
        changes = {"in_traceback": False, "step": step, "fired": self.fired or bool(_FIRED.search(said))}
        over = {"error": "", "error_at": None} if goes_on or step != self.step else {}
        return changes | over

    def _newest(self, said: str) -> int | None:
        steps = [int(step) for step in _STEP.findall(said)]
        return max((step for step in (self.step, *steps) if step is not None), default=None)


LINES_SHOWN, LINES_AFTER = 10, 2
"""Lines of an excerpt, and how many of them may follow the one that matters."""

_MATTERS = re.compile(
    r"RuleEvaluationConditionMet|resulted in the condition|not decreasing|over the last \d+ steps at step"
    r"|Error\b|Exception\b|Traceback| (?:ERROR|CRITICAL) "
)
_NOISE = re.compile(
    r"\s*$"
    # pip
    r"|\s*(?:Collecting|Downloading|Requirement already satisfied|Installing collected packages"
    r"|Successfully (?:un)?installed|Building wheels?|Attempting uninstall|Found existing installation"
    r"|Uninstalling|Looking in indexes|Preparing metadata|Using cached)\b"
    r"|WARNING: (?:Running pip|You are using pip|The script|There was an error checking)"
    r"|\[notice\] "
    # what importing TensorFlow, NumPy and CUDA warn of
    r"|\S+\.py:\d+: (?:Future|Deprecation|User)Warning:|\s+_?np_\w+ = np\.dtype"
    r"|\d{4}-\d\d-\d\d [\d:.]+: [IWE] (?:\S*/)?tensorflow/"
)


def excerpt(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines that matter, without start-up noise and at most `LINES_SHOWN`: the last firing or error, the
    lines before it, and a few after it. Of a long traceback, the first line and the last ones. If the log has
    no firing and no error: its end.

    `lines` are the messages of log events. They become lines as a terminal shows them, each of at most
    `MAX_LINE_CHARACTERS`, and without what looks like a secret.
    """
    shown = [line for message in lines for line in terminal_lines.lines(message, _MATTERS) if line.strip()]
    chosen = _chosen([line for line in shown if not _NOISE.match(line)] or shown)
    return tuple(redacted(_bounded(line)) for line in chosen)


def _chosen(lines: Sequence[str]) -> Sequence[str]:
    if not lines:
        return ()
    matter = [index for index, line in enumerate(lines) if _MATTERS.search(line)]
    # A long line may mention an error anywhere: a printed tensor, a configuration, JSON.
    sure = [index for index in matter if not _is_dump(lines[index])]
    last = max(sure or matter, default=len(lines) - 1)
    first, last = _traceback_around(lines, last)
    end = min(last + 1 + LINES_AFTER, len(lines))
    begin = max(end - LINES_SHOWN, 0)
    if first < begin:
        return (lines[first], "…", *lines[begin + 2 : end])
    return lines[begin:end]


def _is_dump(line: str) -> bool:
    if len(line) <= MAX_LINE_CHARACTERS:
        return False
    return line.lstrip()[:1] in ("{", "[") or not _MATTERS.search(line[:MAX_LINE_CHARACTERS])


def _bounded(line: str) -> str:
    """The line's beginning; or, if what matters comes later, that."""
    found = _MATTERS.search(line)
    if len(line) > MAX_LINE_CHARACTERS and found and found.end() > MAX_LINE_CHARACTERS:
        line = f"… {line[max(found.start() - _BEFORE_CHARACTERS, 0) :]}"
    return truncated(line, MAX_LINE_CHARACTERS)


def _traceback_around(lines: Sequence[str], index: int) -> tuple[int, int]:
    """The first and last line of the traceback that a line belongs to; or the line itself, if there is
    none."""
    first = last = index
    if _TRACEBACK not in lines[index]:  # an exception at its end
        first = next((at for at in range(index - 1, -1, -1) if not lines[at][:1].isspace()), index)
    if _TRACEBACK not in lines[first]:
        return index, index
    if first == last:
        last = next(
            (at for at in range(index + 1, len(lines)) if not lines[at][:1].isspace()), len(lines) - 1
        )
    return first, last


# -- writing --------------------------------------------------------------------------------------


class Record(NamedTuple):
    """What one line of a rule's log says."""

    level: str
    text: str


def loading(place: str) -> Record:
    """`place` is where the rule's input is, such as `s3://bucket/JOB/debug-output`."""
    return Record("INFO", f"Loading trial base_trial at path {place}")


def started(rule: Rule, step: int) -> Record:
    return Record("INFO", f"Started execution of rule {rule.name} at step {step}")


def skipped(reason: str) -> Record:
    return Record("WARNING", f"Skipping a file that cannot be read: {reason}")


def failed(details: str) -> Record:
    return Record("ERROR", f"{FAILURE_PREFIX}{details.rstrip()}")


def condition_met(rule: str, step: int | None) -> str:
    """The StatusDetails of a rule that fired; `rule` is the name of its configuration."""
    return (
        f"RuleEvaluationConditionMet: Evaluation of the rule {rule} at step {step}"
        " resulted in the condition being met\n"
    )


def concluded(rule: Rule, configuration: str, verdict: Verdict) -> tuple[Record, ...]:
    """How an evaluation ended; empty while it goes on."""
    match verdict.status:
        case "issues_found":
            complaint = f"{rule.complaint}{_span(verdict)} at step {verdict.step}. {verdict.explanation}"
            return Record("WARNING", complaint), failed(condition_met(configuration, verdict.step))
        case "error":
            return (failed(verdict.explanation),)
        case "in_progress":
            return ()
    checked = f"Training job has ended. The rule {rule.name} has checked {verdict.steps_checked} steps"
    if verdict.status == "no_issues_found":
        return (Record("INFO", checked),)
    # Debugger has no such status, and reports NoIssuesFound
    nothing = f"The rule {rule.name} has evaluated nothing: {verdict.explanation}"
    return Record("INFO", checked), Record("WARNING", nothing)


def profile_condition_met(rule: str) -> str:
    """The StatusDetails of a profiler rule that fired; `rule` is the name of its configuration."""
    return f"RuleEvaluationConditionMet: Evaluation of the rule {rule} resulted in the condition being met"


def profile_judged(rule: ProfilerRule, configuration: str, verdict: ProfilerVerdict) -> tuple[Record, ...]:
    """How the evaluation of a profiler rule ended; empty while it goes on."""
    match verdict.status:
        case "issues_found":
            complaint = f"{rule.complaint}. {verdict.explanation}"
            return Record("WARNING", complaint), failed(profile_condition_met(configuration))
        case "error":
            return (failed(verdict.explanation),)
        case "in_progress":
            return ()
    checked = f"Training job has ended. The rule {rule.name} has checked {verdict.values_checked} values"
    if verdict.status == "no_issues_found":
        return (Record("INFO", checked),)
    nothing = f"The rule {rule.name} has evaluated nothing: {verdict.explanation}"
    return Record("INFO", checked), Record("WARNING", nothing)


def recovered(rule: Rule, news: Recovered) -> Record:
    """What the rule found is well again."""
    return Record("INFO", f"The rule {rule.name} has recovered at step {news.step}. {news.explanation}")


def fires_again(rule: Rule, configuration: str, verdict: Verdict) -> tuple[Record, ...]:
    """The rule has fired again after it had recovered."""
    again = Record("WARNING", f"The rule {rule.name} fires again")
    return again, *concluded(rule, configuration, verdict)


def _span(verdict: Verdict) -> str:
    """The number of steps between the two that were compared, if the verdict comes from such a comparison."""
    decided = verdict.evidence[0] if verdict.evidence else None
    if decided is None or decided.previous_step is None:
        return ""
    return f" over the last {decided.step - decided.previous_step} steps"


def formatted(record: Record, at: datetime, host: str, rule: str) -> str:
    """The line as it is in the log. `host` is the host's name and the process id (`ip-10-0-1-7:1`). The rule
    takes the place of smdebug's file and line."""
    when = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"
    return f"[{when} {host} {record.level} {in_row(rule)}] {clean(record.text)}"


# -- names ----------------------------------------------------------------------------------------


def local_stream(job_arn: str, rule: str, created_at: datetime) -> str:
    """The log stream of Watcher's own evaluation, named like that of a rule's processing job:
    `<job[:26]>-<rule[:26]>-<8 hex>/local-<ms>`. Every process computes the same name."""
    job = job_name(job_arn)
    suffix = hashlib.sha256(f"{job_arn}\n{rule}".encode()).hexdigest()[:8]
    name = f"{job[:26]}-{rule[:26]}-{suffix}/local-{int(created_at.timestamp() * 1000)}"
    return name.translate(_NOT_IN_A_STREAM)


_NOT_IN_A_STREAM = str.maketrans(":*", "--")
"""CloudWatch's pattern for a stream's name is `[^:*]*`, but a rule may have any name."""
