"""What `incidents` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console

from watcher.alerts import in_brief
from watcher.cli.tables import TERMINAL_ROWS_LIMIT, Table, print_line
from watcher.model import Case
from watcher.text import ago


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
            ", ".join(in_brief.what(finding, now) for finding in case.findings),
            in_brief.stop(case.incident),
            ", ".join(map(in_brief.told, in_brief.alerts(case))),
            in_brief.who_has_it(case.incident, now),
            case.incident.id,
        )
        for case in shown_cases
    ]
    columns = ("job", "state", "severity", "since", "what is wrong", "stop", "told", "who has it", "incident")
    prose, optional = ("what is wrong", "told", "who has it"), ("incident", "severity", "stop")
    Table(columns, rows, prose=prose, optional=optional).print(console)
    if len(shown_cases) < len(cases):
        print_line(console, f"… and {len(cases) - len(shown_cases)} more: use --all, --state or --since")
