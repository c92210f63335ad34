"""The documents of `watcher.views` as people like to read them.

On a terminal rich draws them; anywhere else they are plain columns, never cut, so that grep and awk work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from watcher.views import DeliveryDetail, DeliveryView, FindingView, JobView, ShownJob, StatusView

MOST_ROWS = 50
"""How many rows of a long list a terminal shows unless asked for all."""

_STYLES = {
    "InProgress": "cyan",
    "Completed": "green",
    "NoIssuesFound": "green",
    "delivered": "green",
    "ok": "green",
    "IssuesFound": "bold red",
    "Failed": "bold red",
    "dead": "bold red",
    "failed": "bold red",
    "Error": "yellow",
    "Stopped": "yellow",
    "warning": "yellow",
}
"""Of a cell that holds exactly this word."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""

    def print(self, console: Console) -> None:
        rows = [[_CONTROL.sub(" ", cell) for cell in row] for row in self.rows]
        if console.is_terminal:
            console.print(self._drawn(rows))
        else:
            for line in self._plain(rows):
                _plain_line(console, line)

    def _drawn(self, rows: Sequence[Sequence[str]]) -> RichTable:
        table = RichTable(
            title=f"\n{self.title}" if self.title else None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
        )
        for column in self.columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        return table

    def _plain(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        if self.title:
            yield f"\n{self.title}"
        lines = [[column.upper() for column in self.columns], *rows]
        widths = [max(map(len, cells)) for cells in zip_longest(*lines, fillvalue="")]
        for line in lines:
            yield "  ".join(
                (cell or "-").ljust(width) for cell, width in zip(line, widths, strict=True)
            ).rstrip()


def _plain_line(console: Console, line: str) -> None:
    """As it is: neither wrapped nor read as markup."""
    console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def facts(pairs: Iterable[tuple[str, str]], console: Console) -> None:
    """A label and a value a line; those without a value are left out."""
    shown = [(label, _CONTROL.sub(" ", value)) for label, value in pairs if value]
    width = max((len(label) for label, _ in shown), default=0)
    for label, value in shown:
        line = Text.assemble((label.ljust(width), "bold"), "  ", (value, _STYLES.get(value, "")))
        console.print(line, soft_wrap=True, highlight=False)


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago, in the unit people would use. A moment to come (a clock that lags) is just now."""
    if then is None:
        return ""
    seconds = max((now - then).total_seconds(), 0)
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def counts(of: dict[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in of.items())


# -- one document each ----------------------------------------------------------------------------


def print_status(status: StatusView, now: datetime, console: Console) -> None:
    facts(
        [
            ("store", status["store"]),
            ("jobs", counts(status["jobs"]) or "none yet"),
            ("watching", str(status["watching"])),
            ("findings", f"{status['findings']} ({status['undelivered']} not delivered yet)"),
            ("deliveries", counts(status["deliveries"])),
            ("last change", ago(status["changed_at"], now)),
        ],
        console,
    )
    if status["dead_letters"]:
        rows = [
            (
                letter["job"],
                letter["rule"] or "",
                letter["to"],
                ago(letter["created_at"], now),
                letter["error"],
            )
            for letter in status["dead_letters"]
        ]
        Table(("job", "rule", "to", "since", "why"), rows, title="Given up (dead letters)").print(console)


def print_jobs(jobs: Sequence[JobView], now: datetime, console: Console, *, show_all: bool) -> None:
    shown = jobs if show_all or not console.is_terminal else jobs[:MOST_ROWS]
    rows = [
        (
            job["job"],
            job["status"],
            job["secondary_status"] if job["secondary_status"] != job["status"] else "",
            ago(job["created_at"], now),
            instances(job["instance_type"], job["instance_count"]),
            counts(job["rules"]),
            str(job["findings"] or ""),
        )
        for job in shown
    ]
    Table(("job", "status", "doing", "created", "instances", "rules", "findings"), rows).print(console)
    if len(shown) < len(jobs):
        _plain_line(
            console, f"… and {len(jobs) - len(shown)} older ones: --all, or a pattern such as 'prod-*'"
        )


def instances(kind: str, count: int) -> str:
    return f"{count} × {kind}" if kind else ""


def print_job(job: ShownJob, now: datetime, console: Console) -> None:
    stop = job["stop"]
    facts(
        [
            ("job", job["job"]),
            ("status", job["status"]),
            ("doing", job["secondary_status"] if job["secondary_status"] != job["status"] else ""),
            ("why", job["failure_reason"]),
            ("created", f"{_exactly(job['created_at'])} ({ago(job['created_at'], now)})"),
            (
                "ended",
                f"{_exactly(job['ended_at'])} ({ago(job['ended_at'], now)})" if job["ended_at"] else "",
            ),
            ("instances", instances(job["instance_type"], job["instance_count"])),
            ("tags", ", ".join(f"{key}={value}" for key, value in (job["tags"] or {}).items())),
            ("debug output", job["debug_output"]),
            ("watched", "yes" if job["watching"] else "no, nothing more can be learnt from it"),
            ("stopped by", f"{stop['actor']}, {_exactly(stop['at'])}" if stop else ""),
            ("arn", job["arn"]),
        ],
        console,
    )
    if job["evaluations"]:
        evaluations = [
            (rule["rule"], rule["source"], rule["status"], ago(rule["updated_at"], now), rule["details"])
            for rule in job["evaluations"]
        ]
        Table(("rule", "source", "status", "since", "details"), evaluations, title="Rules").print(console)
    deliveries = [
        (finding["rule"] or "", finding["kind"], *_delivery(delivery, now))
        for finding in job["told"]
        for delivery in finding["deliveries"]
    ]
    if deliveries:
        columns = ("rule", "finding", "kind", "to", "state", "attempts", "when", "error")
        Table(columns, deliveries, title="Told").print(console)


def _delivery(delivery: DeliveryDetail, now: datetime) -> tuple[str, ...]:
    if delivery["delivered_at"]:
        when = ago(delivery["delivered_at"], now)
    elif delivery["state"] in ("pending", "in_flight"):
        wait = (delivery["due_at"] - now).total_seconds()
        when = f"in {duration(wait)}" if wait > 0 else "now"
    else:
        when = ""
    return (
        delivery["kind"],
        delivery["to"],
        delivery["state"],
        str(delivery["attempts"]),
        when,
        delivery["error"],
    )


def print_findings(
    findings: Sequence[FindingView], now: datetime, console: Console, *, show_all: bool
) -> None:
    shown = findings if show_all or not console.is_terminal else findings[:MOST_ROWS]
    rows = [
        (
            ago(finding["opened_at"], now),
            finding["job"],
            finding["rule"] or "",
            finding["status"],
            "" if finding["step"] is None else str(finding["step"]),
            ", ".join(_told(delivery) for delivery in finding["deliveries"]),
        )
        for finding in shown
    ]
    Table(("found", "job", "rule", "status", "step", "told"), rows).print(console)
    if len(shown) < len(findings):
        _plain_line(console, f"… and {len(findings) - len(shown)} older ones: --all, or --job 'prod-*'")


def _told(delivery: DeliveryView) -> str:
    return f"{delivery['to']} {delivery['state']}"


def _exactly(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""
