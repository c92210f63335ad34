"""The documents of `watcher.store.views` as people like to read them.

On a terminal rich draws them; anywhere else they are plain columns, never cut, so that grep and awk work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from watcher.store.views import DeliveryDetail, DeliveryView, FindingView, JobView, ShownJob, StatusView
from watcher.text import ago, counts, instances, roughly

if TYPE_CHECKING:
    from rules import Verdict
    from watcher.debug_output.series import Series, Value
    from watcher.evaluation.backtest import Backtest

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
    "no_issues_found": "green",
    "issues_found": "bold red",
    "error": "bold red",
    "not_evaluated": "yellow",
    "in_progress": "cyan",
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
        when = f"in {roughly(wait)}" if wait > 0 else "now"
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


# -- what was saved -------------------------------------------------------------------------------


def print_tensors(series: Sequence[Series], console: Console, *, show_all: bool) -> None:
    """A tensor has the same shape in all series, of which not each has been read."""
    shapes = {one.tensor: one.shape for one in series if one.shape is not None}
    rows = [
        (
            one.tensor,
            one.mode,
            one.worker,
            str(len(one.steps)),
            f"{one.steps[0]}" if len(one.steps) == 1 else f"{one.steps[0]} to {one.steps[-1]}",
            _shape(shapes.get(one.tensor)),
        )
        for one in series
    ]
    columns = ("tensor", "mode", "worker", "steps", "global steps", "shape")
    _print_some(columns, rows, "tensors: --all, or --name REGEX", console, show_all=show_all)


def print_values(series: Sequence[Series], console: Console, *, show_all: bool) -> None:
    """A line for each value, in order of step; a terminal shows the newest."""
    rows = sorted(
        (
            (step, mode_step, one, value)
            for one in series
            for step, mode_step, value in zip(one.steps, one.mode_steps, one.values, strict=True)
        ),
        key=lambda row: row[0],
    )
    kept = rows if show_all or not console.is_terminal else rows[-MOST_ROWS:]
    if len(kept) < len(rows):
        _plain_line(console, f"{len(rows) - len(kept)} earlier ones are not shown: --all")
    lines = [
        (str(step), one.mode, str(mode_step), one.worker, one.tensor, _value(value))
        for step, mode_step, one, value in kept
    ]
    Table(("step", "mode", "mode step", "worker", "tensor", "value"), lines).print(console)


def _shape(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return ""
    return " × ".join(map(str, shape)) if shape else "scalar"


def _value(value: Value | None) -> str:
    match value:
        case None:
            return ""
        case float() | int():
            return _number(value)
        case tuple():
            shape, low, high, mean = value
            numbers = "" if low is None else f", {_number(low)} to {_number(high)}, mean {_number(mean)}"
            return _shape(shape) + numbers
        case _:
            return str(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def print_evaluation(run: Backtest, verdict: Verdict, console: Console) -> None:
    place = run.saved.output.uri
    facts(
        [
            ("rule", run.rule),
            ("on", place if run.saved.job is None else f"{run.saved.name} ({place})"),
            ("parameters", _settings(run.settings[0])),
            ("verdict", verdict.status),
            ("why", verdict.explanation),
            ("step", "" if verdict.step is None else str(verdict.step)),
            ("steps checked", str(verdict.steps_checked)),
            ("tensors", ", ".join(verdict.tensors)),
            *(("note", note) for note in verdict.notes),
        ],
        console,
    )
    rows = [
        (
            row.tensor,
            str(row.step),
            _number(row.value),
            "" if row.previous_step is None else str(row.previous_step),
            _number(row.previous_value),
            _number(row.threshold),
            _number(row.missed_by),
        )
        for row in verdict.evidence
    ]
    if rows:
        columns = ("tensor", "step", "value", "compared with step", "its value", "threshold", "missed by")
        Table(columns, rows, title="Evidence").print(console)


def _settings(parameters: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={text}" for name, text in parameters.items())


def print_sweep(rows: Sequence[Mapping[str, Any]], swept: Sequence[str], console: Console) -> None:
    """`rows` are those of `watcher.backtest`."""
    lines = [
        (
            row["job"],
            *(row["parameters"][name] for name in swept),
            row["verdict"],
            "" if row["step"] is None else str(row["step"]),
            row["reason"],
        )
        for row in rows
    ]
    Table(("job", *swept, "verdict", "fires at step", "reason"), lines).print(console)


def _print_some(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    more: str,
    console: Console,
    *,
    show_all: bool,
) -> None:
    shown = rows if show_all or not console.is_terminal else rows[:MOST_ROWS]
    Table(columns, shown).print(console)
    if len(shown) < len(rows):
        _plain_line(console, f"… and {len(rows) - len(shown)} more {more}")


def _exactly(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""
