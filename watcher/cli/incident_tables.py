"""What `incidents` prints for people, and how incidents and findings are put in words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console

from watcher.cli.tables import TERMINAL_ROWS_LIMIT, Table, print_line
from watcher.config.destination import shown
from watcher.model import Case, Closing, Finding, IncidentState
from watcher.policy.kinds import KINDS
from watcher.store.incident_views import listed
from watcher.text import ago

_CLOSINGS = {
    Closing.RECOVERED: "recovered",
    Closing.RUN_ENDED: "ended with the job",
    Closing.UNWATCHED: "no longer watched,",
}


def print_incidents(cases: Sequence[Case], now: datetime, console: Console, *, show_all: bool) -> None:
    if not cases:
        print_line(console, "No incidents.")
        return
    shown_cases = cases if show_all or not console.is_terminal else cases[:TERMINAL_ROWS_LIMIT]
    rows = [
        (
            case.incident.job,
            case.incident.state,
            case.incident.severity,
            ago(case.incident.opened_at, now),
            ", ".join(in_words(finding, now) for finding in case.findings),
            ", ".join(f"{shown(each.to)} {each.state}" for each in listed(case.deliveries)),
            who_has_it(case, now),
            case.incident.id,
        )
        for case in shown_cases
    ]
    columns = ("job", "state", "severity", "since", "what is wrong", "told", "who has it", "incident")
    prose, optional = ("what is wrong", "told"), ("incident", "severity", "who has it")
    Table(columns, rows, prose=prose, optional=optional).print(console)
    if len(shown_cases) < len(cases):
        print_line(console, f"… and {len(cases) - len(shown_cases)} more: use --all, --state or --since")


def in_words(finding: Finding, now: datetime) -> str:
    """`LossNotDecreasing found an issue at step 24 (recovered 5 min ago)`."""
    step = f" at step {finding.step}" if finding.step is not None else ""
    notes = []
    if finding.episode > 1:
        notes.append(f"episode {finding.episode}")
    if not finding.open:
        notes.append(over(finding, now))
    return f"{what(finding)}{step}" + (f" ({', '.join(notes)})" if notes else "")


def what(finding: Finding) -> str:
    return KINDS[finding.kind].phrase.format(rule=finding.rule)


def over(finding: Finding, now: datetime) -> str:
    """`recovered 5 min ago`; empty while the finding is open."""
    if finding.closing is None:
        return ""
    return f"{_CLOSINGS[finding.closing]} {ago(finding.closed_at, now)}"


def who_has_it(case: Case, now: datetime) -> str:
    incident = case.incident
    parts = []
    if incident.state is IncidentState.ACKNOWLEDGED:
        parts.append(incident.acknowledged_by)
    if incident.snoozed_until and incident.snoozed_until > now:
        parts.append(f"snoozed by {incident.snoozed_by} until {incident.snoozed_until:%Y-%m-%d %H:%M} UTC")
    return ", ".join(parts)
