"""Says in plain sentences how an incident is now: its state, what became of its job, and what is new. Pure.

Everything is derived from the present state, never from the text of a change, which was true only when the
change was made. Text from outside is made printable here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from watcher.config.destination import shown
from watcher.model import (
    Case,
    Change,
    ChangeKind,
    Closing,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Finding,
    FindingKind,
    Incident,
    IncidentState,
    JobSnapshot,
    RuleFamily,
    RuleSource,
    RunStop,
    Says,
    StopPhase,
    refused_lane,
)
from watcher.policy import kinds
from watcher.redaction import MASK
from watcher.text import one_line, truncated

MAX_OTHERS = 10
"""Other findings of the incident that a message for people lists."""
MAX_UNDELIVERED = 5
"""Destinations that refuse the alert, of which it tells."""
MAX_ERROR = 300
"""Characters of why a destination refuses."""

_EVALUATORS = {
    RuleSource.DEBUGGER: "Debugger",
    RuleSource.PROFILER: "Debugger's profiler",
    RuleSource.LOCAL: "Watcher",
}
_ABOUT_THE_JOB = frozenset({FindingKind.JOB_FAILED, FindingKind.JOB_STOPPED, FindingKind.JOB_COMPLETED})
_OF_THE_STOP = frozenset(
    {ChangeKind.STOP_ASKED, ChangeKind.STOPPED, ChangeKind.NOT_STOPPED, ChangeKind.CANCELLED}
)
_GIVEN_UP = frozenset({DeliveryState.REFUSED, DeliveryState.DEAD})


def clock_time(at: datetime, now: datetime) -> str:
    """`10:00:05 UTC`, or with its date if that is another day than `now`."""
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"


# -- what it is about ------------------------------------------------------------------------------


def headline(case: Case) -> Finding:
    """The worst open finding, the newest among equals. If none is open: of the most severe, the one that
    closed last. Raises `ValueError` if the case has none."""
    if still_open := [finding for finding in case.findings if finding.open]:
        return max(still_open, key=lambda finding: (finding.severity.rank, finding.opened_at))
    return max(case.findings, key=lambda one: (one.severity.rank, one.closed_at or one.opened_at))


class Ending(StrEnum):
    """How an incident ended, as its title says it at once."""

    RECOVERED = "Recovered"
    STOPPED = "Stopped"
    UNWATCHED = "No longer watched"
    RESOLVED = "Resolved"


_ENDINGS = {Closing.RECOVERED: Ending.RECOVERED, Closing.UNWATCHED: Ending.UNWATCHED}


def ending(case: Case, job: JobSnapshot | None) -> Ending | None:
    """None if the incident is open, or if it reports what is over anyway, such as that the job completed."""
    finding = headline(case)
    if finding.kind in _ABOUT_THE_JOB:
        return None
    if case.incident.stop and case.incident.stop.phase is StopPhase.STOPPED:
        return Ending.STOPPED
    if finding.open or finding.closed_at == finding.opened_at:  # found after the end of the run
        return None
    if finding.closing in _ENDINGS:
        return _ENDINGS[finding.closing]
    return Ending.STOPPED if job and job.status == "Stopped" else Ending.RESOLVED


# -- its state -------------------------------------------------------------------------------------


def status(case: Case, now: datetime) -> str:
    """One line: the incident's state, since when, and by whom."""
    incident = case.incident
    if incident.state is IncidentState.RESOLVED:
        return _over(case, now)
    if incident.state is IncidentState.ACKNOWLEDGED:
        at = f" at {clock_time(incident.acknowledged_at, now)}" if incident.acknowledged_at else ""
        said = f"Acknowledged by {one_line(incident.acknowledged_by)}{at}"
    else:
        since = sorted(one.opened_at for one in case.findings if one.open) or [incident.opened_at]
        first = clock_time(since[0], now)
        several = f"{len(since)} findings are open, the first since {first}"
        said = several if len(since) > 1 else f"Open since {first}"
    if is_snoozed(incident, now):
        until = f"snoozed until {clock_time(incident.snoozed_until or now, now)}"
        said += f"; {until} by {one_line(incident.snoozed_by)}" if incident.snoozed_by else f"; {until}"
    return f"{said}."


def _over(case: Case, now: datetime) -> str:
    incident, finding = case.incident, headline(case)
    word = _ENDINGS.get(finding.closing, Ending.RESOLVED) if finding.closing else Ending.RESOLVED
    since = "since" if word is Ending.UNWATCHED else "at"
    at = f" {since} {clock_time(incident.resolved_at, now)}" if incident.resolved_at else ""
    stopped = incident.stop is not None and incident.stop.phase is StopPhase.STOPPED
    # That the job was stopped is what `stop_sentence` says.
    why = "" if stopped and finding.closing is Closing.RUN_ENDED else _sentence(finding.closing_reason)
    return f"{word}{at}: {why}" if why else f"{word}{at}."


def is_snoozed(incident: Incident, now: datetime) -> bool:
    return incident.snoozed_until is not None and incident.snoozed_until > now


def finding_line(finding: Finding, now: datetime) -> str:
    """What one finding is, and what became of it."""
    what = kinds.phrase(finding)
    said = one_line(what[:1].upper() + what[1:])
    if finding.kind in _ABOUT_THE_JOB or finding.closed_at == finding.opened_at:
        return f"{said}; found at {clock_time(finding.opened_at, now)}."
    if finding.closed_at is None:
        again = f" (episode {finding.episode})" if finding.episode > 1 else ""
        return f"{said}{again}; open since {clock_time(finding.opened_at, now)}."
    over = {Closing.RECOVERED: "recovered", Closing.UNWATCHED: "no longer watched"}
    word = over.get(finding.closing, "closed") if finding.closing else "closed"
    why = one_line(finding.closing_reason).rstrip(".")
    return f"{said}; {word} at {clock_time(finding.closed_at, now)}{f': {why}' if why else ''}."


def others(case: Case, now: datetime) -> tuple[str, ...]:
    """The other findings, one line each: first the open ones, the worst first; then those that closed last.
    At most `MAX_OTHERS`, and how many more there are."""
    first = headline(case)
    rest = [finding for finding in case.findings if finding.id != first.id]
    rest.sort(key=lambda one: (one.open, one.severity.rank, one.closed_at or one.opened_at), reverse=True)
    lines = [finding_line(finding, now) for finding in rest[:MAX_OTHERS]]
    if more := len(rest) - len(lines):
        lines.append(f"And {more} more: watcher show {one_line(case.incident.job)}")
    return tuple(lines)


def found_by(finding: Finding) -> str:
    """What each evaluator says: `Debugger at step 24, Watcher at step 22`. Empty if no rule found it."""
    says: Iterable[Says] = finding.says
    if not finding.says and finding.judge:
        says = (Says(finding.judge, finding.status, finding.opened_at, finding.step, finding.reason),)
    return ", ".join(
        _EVALUATORS[finding.source_of(one)] + (f" at step {one.step}" if one.step is not None else "")
        for one in says
    )


# -- its job ---------------------------------------------------------------------------------------


def as_known(job: JobSnapshot, stop: RunStop | None) -> JobSnapshot:
    """The job, with what its stop knows better: the snapshot may be older."""
    if stop is None or job.ended:
        return job
    if stop.phase is StopPhase.STOPPED:
        return replace(job, status="Stopped", secondary_status="Stopped", ended_at=stop.at)
    if stop.phase is StopPhase.STOPPING and job.in_progress:
        return replace(job, status="Stopping", secondary_status="Stopping")
    return job


def is_left(case: Case) -> bool:
    """Whether the run is no longer watched, so that its record is out of date: the job may have been deleted,
    and another run may have its name."""
    return headline(case).closing is Closing.UNWATCHED


def stop_sentence(case: Case, job: JobSnapshot | None, now: datetime) -> str:
    """What happens, or happened, to the job; empty if there is nothing to say. `job` is as `as_known` returns
    it."""
    stop, name = case.incident.stop, one_line(case.incident.job)
    runs = job is not None and job.in_progress and not is_left(case)
    if stop is None:
        return _continues(case, name) if runs else ""
    actor = one_line(stop.actor)
    by = f" ({actor})" if actor else ""
    reason = _sentence(stop.reason)
    match stop.phase:
        case _ if stop.phase in _UNDER_WAY and job and job.ended:
            return ""  # its status says how it ended; what that means for the stop is not decided yet
        case StopPhase.WAITING:
            return f"{_waiting(stop, by, reason, now)} To prevent that: watcher stop {name} --cancel"
        case StopPhase.ASKED if "dry run" in stop.reason.lower():
            return f"Dry run: Watcher checks whether it would stop this job{by}, and stops nothing."
        case StopPhase.ASKED:
            return f"Watcher is stopping this job{by}."
        case StopPhase.STOPPING:
            return f"Watcher is stopping this job{by}; SageMaker was asked at {clock_time(stop.at, now)}."
        case StopPhase.STOPPED:
            return reason or f"Stopped by Watcher{by} at {clock_time(stop.at, now)}."
        case StopPhase.CANCELLED:
            said = f"Not stopped: {actor or 'somebody'} cancelled the stop at {clock_time(stop.at, now)}."
        case StopPhase.NOT_STOPPED:
            said = reason or f"Not stopped{by}."
    return f"{said} The job continues. To stop it: watcher stop {name}" if runs else said


_UNDER_WAY = frozenset({StopPhase.WAITING, StopPhase.ASKED, StopPhase.STOPPING})


def _waiting(stop: RunStop, by: str, reason: str, now: datetime) -> str:
    if stop.due_at is None:
        return f"Watcher is going to stop this job{by}. {reason}".rstrip()
    if stop.due_at <= now:
        return f"Watcher is about to stop this job{by}."
    return f"Watcher stops this job at {clock_time(stop.due_at, now)}{by}."


def _continues(case: Case, name: str) -> str:
    """Nobody asked for a stop. That is worth a word only while a rule's issue is open."""
    issues = [one for one in case.findings if one.open and one.kind is FindingKind.RULE_ISSUE]
    if not issues:
        return ""
    if all(issue.family is RuleFamily.PROFILER for issue in issues):
        return "The job continues: profiler rules never stop a job."
    return f"The job continues: no route says to stop it. To stop it: watcher stop {name}"


def _sentence(text: str) -> str:
    text = one_line(text)
    return text if not text or text.endswith((".", "!", "?", "…")) else f"{text}."


# -- where it is not known -------------------------------------------------------------------------


def undelivered(case: Case, to: str, now: datetime) -> tuple[str, ...]:
    """The incident's other destinations that refuse the alert, since when, and why."""
    rows = [row for row in case.deliveries if row.to != to and _is_refused(row)]
    lines = [_refusal(row, now) for row in rows[:MAX_UNDELIVERED]]
    if more := len(rows) - len(lines):
        lines.append(f"{more} more destinations refuse it: watcher status")
    return tuple(lines)


def _is_refused(row: Delivery) -> bool:
    if row.kind is not DeliveryKind.ALERT:
        return False
    trying_again = row.state is DeliveryState.IN_FLIGHT and row.lane == refused_lane(row.id)
    return row.state in _GIVEN_UP or trying_again


def _refusal(row: Delivery, now: datetime) -> str:
    since = f" since {clock_time(row.refused_at, now)}" if row.refused_at else ""
    error = truncated(_without_secrets(one_line(row.error), row.to), MAX_ERROR)
    said = f"{shown(row.to)} has refused this alert{since}"
    return _sentence(f"{said}: {error}" if error else said)


def _without_secrets(error: str, to: str) -> str:
    address = to.partition(":")[2]
    public = shown(to).partition(":")[2]
    error = error.replace(address, public) if address else error
    user, query = address.partition("://")[2].rpartition("@")[0], address.partition("?")[2]
    for secret in (user, query):
        error = error.replace(secret, MASK) if len(secret) > 3 else error
    return error


# -- what is new -----------------------------------------------------------------------------------


def told_now(case: Case, alert: Delivery) -> tuple[Change, ...]:
    """The changes worth telling that are new in the present attempt; all of them in a first message."""
    return tuple(
        change for change in case.changes if change.telling and alert.told < change.revision <= alert.trying
    )


def news(
    case: Case,
    changes: Sequence[Change],
    job: JobSnapshot | None,
    alert: Delivery,
    now: datetime,
) -> tuple[str, ...]:
    """What changed, in lines that are true now: who reads a message hours later is told how it ended. Empty
    in a first message, in which everything is new."""
    if not alert.told:
        return ()
    said: dict[str, None] = {}
    for change in changes:
        if finding := case.finding(change.finding):
            said[_what_became_of(finding, case, now)] = None
    seen = {change.kind for change in changes}
    if ChangeKind.REFUSED in seen:
        said |= dict.fromkeys(undelivered(case, alert.to, now))
    if seen & _OF_THE_STOP and (sentence := stop_sentence(case, job, now)):
        said[sentence] = None
    if not said and ChangeKind.RESOLVED in seen:
        said[status(case, now)] = None
    return tuple(said)


def _what_became_of(finding: Finding, case: Case, now: datetime) -> str:
    """Of the one that the title names, once it is over, the incident's state says all."""
    resolved = case.incident.state is IncidentState.RESOLVED
    about_the_job = finding.kind in _ABOUT_THE_JOB
    if resolved and finding.id == headline(case).id and not about_the_job:
        return status(case, now)
    return finding_line(finding, now)


def notification(case: Case, news: Sequence[str], stop: str, now: datetime) -> str:
    """What follows the title where there is room for one line: what is new, else what happens to the job."""
    finding = headline(case)
    title_says = finding_line(finding, now)
    reason = _sentence(finding.reason) if finding.kind in _ABOUT_THE_JOB else ""
    return " ".join(line for line in news if line != title_says) or stop or reason or status(case, now)
