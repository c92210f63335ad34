"""What `status`, `jobs`, `show` and `findings` print for people: the documents of `watcher.store.views`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console

from watcher.cli.tables import TERMINAL_ROWS_LIMIT, Table, print_facts, print_line
from watcher.store.views import DeliveryDetail, DeliveryView, FindingView, JobView, ShownJob, StatusView
from watcher.text import ago, counts, instances, roughly


def print_status(status: StatusView, now: datetime, console: Console) -> None:
    print_facts(
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
        Table(
            ("job", "rule", "to", "since", "why"), rows, title="Given up (dead letters)", prose=("why",)
        ).print(console)


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


def print_job(job: ShownJob, now: datetime, console: Console) -> None:
    stop = job["stop"]
    print_facts(
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
            ("watched", "yes" if job["watching"] else "no (finished)"),
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
        columns: tuple[str, ...] = ("rule", "source", "status", "since", "details")
        Table(columns, evaluations, title="Rules", prose=("details",)).print(console)
    deliveries = [
        (finding["rule"] or "", finding["kind"], *_delivery(delivery, now))
        for finding in job["told"]
        for delivery in finding["deliveries"]
    ]
    if deliveries:
        columns = ("rule", "finding", "kind", "to", "state", "attempts", "when", "error")
        least = ("attempts", "kind")
        Table(columns, deliveries, title="Deliveries", prose=("error",), optional=least).print(console)


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
    shown = findings if show_all or not console.is_terminal else findings[:TERMINAL_ROWS_LIMIT]
    rows = [
        (
            finding["job"],
            finding["kind"],
            finding["rule"] or "",
            ago(finding["opened_at"], now),
            finding["source"] or "",
            finding["status"],
            "" if finding["step"] is None else str(finding["step"]),
            ", ".join(_sent_to(delivery) for delivery in finding["deliveries"]),
            finding["reason"],
        )
        for finding in shown
    ]
    columns = ("job", "kind", "rule", "found", "source", "status", "step", "sent to", "reason")
    Table(columns, rows, optional=("source", "sent to", "step", "status")).print(console)
    if len(shown) < len(findings):
        print_line(
            console,
            f"… and {len(findings) - len(shown)} older ones: use --all, --kind, --since or --job 'prod-*'",
        )


def _sent_to(delivery: DeliveryView) -> str:
    return f"{delivery['to']} {delivery['state']}"


def _exactly(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""
