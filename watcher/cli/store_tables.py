"""What `status`, `jobs` and `findings` print for people: the documents of `watcher.store.views`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console

from watcher.cli.tables import TERMINAL_ROWS_LIMIT, Table, print_facts, print_line
from watcher.model import DeliveryKind
from watcher.store.incident_views import DeliveryView, Refusal
from watcher.store.views import DeadLetter, FindingView, JobView, StatusView
from watcher.text import ago, counts, instances, roughly


def print_status(status: StatusView, now: datetime, console: Console) -> None:
    late = f" ({status['undelivered']} not delivered everywhere)" if status["undelivered"] else ""
    print_facts(
        [
            ("store", status["store"]),
            ("jobs", counts(status["jobs"]) or "none yet"),
            ("watching", str(status["watching"])),
            ("incidents", f"{counts(status['incidents']) or 'none yet'}{late}"),
            ("findings", str(status["findings"])),
            ("deliveries", counts(status["deliveries"])),
            ("last change", ago(status["changed_at"], now)),
        ],
        console,
    )
    _print_refused(status["refused"], now, console)
    _print_retrying(status["retrying"], now, console)
    _print_dead(status["dead_letters"], now, console)


def _print_refused(refused: Sequence[Refusal], now: datetime, console: Console) -> None:
    if refused:
        _print_failing("Refused", "why, and how to fix it", refused, now, console)
        print_line(
            console,
            f"Watcher tries again {_soonest(refused, now)}. "
            "After fixing the cause, send at once: watcher redeliver",
        )


def _print_retrying(retrying: Sequence[Refusal], now: datetime, console: Console) -> None:
    if retrying:
        _print_failing("Not delivered yet", "last error", retrying, now, console)
        print_line(console, f"Watcher tries again {_soonest(retrying, now)}.")


def _print_failing(title: str, why: str, failing: Sequence[Refusal], now: datetime, console: Console) -> None:
    rows = [
        (each["to"], ago(each["since"], now), str(len(each["incidents"])), each["error"]) for each in failing
    ]
    Table(("to", "since", "incidents", why), rows, title=title, names=("to",), prose=(why,)).print(console)


def _soonest(failing: Sequence[Refusal], now: datetime) -> str:
    wait = (min(each["retry_at"] for each in failing) - now).total_seconds()
    return f"in {roughly(wait)}" if wait > 0 else "now"


def _print_dead(letters: Sequence[DeadLetter], now: datetime, console: Console) -> None:
    if not letters:
        return
    rows = [
        (letter["job"], letter["kind"], letter["to"], ago(letter["created_at"], now), letter["error"])
        for letter in letters
    ]
    columns = ("job", "kind", "to", "since", "why")
    Table(columns, rows, title="Given up (dead letters)", prose=("why",)).print(console)
    if any(letter["kind"] == DeliveryKind.ALERT for letter in letters):
        print_line(console, "Send the alerts again: watcher redeliver --all-dead")


def print_jobs(jobs: Sequence[JobView], now: datetime, console: Console, *, show_all: bool) -> None:
    shown = jobs if show_all or not console.is_terminal else jobs[:TERMINAL_ROWS_LIMIT]
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
    columns = ("job", "status", "doing", "created", "instances", "rules", "findings")
    Table(columns, rows, optional=("doing", "instances")).print(console)
    if len(shown) < len(jobs):
        print_line(
            console,
            f"… and {len(jobs) - len(shown)} older ones: use --all, --status, --since or a pattern such as "
            "'prod-*'",
        )


def print_findings(
    findings: Sequence[FindingView], now: datetime, console: Console, *, show_all: bool
) -> None:
    shown = findings if show_all or not console.is_terminal else findings[:TERMINAL_ROWS_LIMIT]
    rows = [
        (
            finding["job"],
            finding["kind"],
            finding["rule"] or "",
            ago(finding["opened_at"], now),
            ", ".join(finding["sources"]),
            finding["status"],
            ago(finding["closed_at"], now),
            "" if finding["step"] is None else str(finding["step"]),
            ", ".join(_sent_to(delivery) for delivery in finding["deliveries"]),
            finding["reason"],
        )
        for finding in shown
    ]
    columns = ("job", "kind", "rule", "found", "source", "status", "over", "step", "sent to", "reason")
    Table(columns, rows, optional=("source", "over", "sent to", "step", "status")).print(console)
    if len(shown) < len(findings):
        print_line(
            console,
            f"… and {len(findings) - len(shown)} older ones: use --all, --kind, --since or --job 'prod-*'",
        )


def _sent_to(delivery: DeliveryView) -> str:
    return f"{delivery['to']} {delivery['state']}"
