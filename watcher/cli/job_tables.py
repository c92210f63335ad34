"""What `show` prints for people: the document of one run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Console

from watcher.alerts import in_brief
from watcher.cli.tables import Table, print_facts
from watcher.model import ENDED_STATUSES, DeliveryKind, DeliveryState, FindingKind, IncidentState, StopPhase
from watcher.policy.kinds import KINDS
from watcher.store.incident_views import ShownIncident
from watcher.store.views import DeliveryDetail, FindingDetail, ShownJob
from watcher.text import ago, counts, instances, roughly


def print_job(job: ShownJob, now: datetime, console: Console, *, known: bool = True) -> None:
    """`known`: whether the store has it."""
    why_not = (
        "finished" if job["status"] in ENDED_STATUSES else "deleted, or no longer matched by the settings"
    )
    not_watched = f"no ({why_not if known else 'the store does not know it'})"
    incident = job["incident"]
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
            ("watched", "yes" if job["watching"] else not_watched),
            ("incident", _incident(incident, now) if incident else ""),
            ("stop", _stop(job)),
            ("arn", job["arn"]),
        ],
        console,
    )
    _print_rules(job, now, console)
    _print_findings(job, now, console)
    _print_deliveries(job, now, console)
    if incident and incident["history"]:
        happened = [
            (ago(change["at"], now), change["text"], change["actor"] or "", change["door"])
            for change in incident["history"]
        ]
        columns = ("when", "what happened", "who", "through")
        Table(
            columns, happened, title="History", prose=("what happened",), optional=("through", "who")
        ).print(console)
    if job["other_runs"]:
        runs = [
            (
                run["run"],
                run["status"],
                ago(run["created_at"], now),
                counts(run["rules"]),
                str(run["findings"]),
            )
            for run in job["other_runs"]
        ]
        other = ("run", "status", "created", "rules", "findings")
        Table(other, runs, title="Other runs of this name", names=("run",)).print(console)


def _incident(incident: ShownIncident, now: datetime) -> str:
    """`acknowledged by anna, critical, opened 5 min ago (6c0f2d0a1b9e4f37)`."""
    by = f" by {incident['acknowledged_by']}" if incident["state"] == IncidentState.ACKNOWLEDGED else ""
    snoozed = incident["snoozed_until"]
    parts = [f"{incident['state']}{by}", incident["severity"], f"opened {ago(incident['opened_at'], now)}"]
    if incident["resolved_at"]:  # who had it has not resolved it: the end of the run has, or a recovery
        parts.append(f"resolved {ago(incident['resolved_at'], now)}")
    if snoozed and snoozed > now:
        parts.append(f"snoozed by {incident['snoozed_by']} until {_exactly(snoozed)}")
    return f"{', '.join(parts)} ({incident['id']})"


def _stop(job: ShownJob) -> str:
    """What is known of the run's stop: from its incident, or else that Watcher asked for it."""
    stop = job["incident"]["stop"] if job["incident"] else None
    if stop is None:
        return f"asked by {job['stop']['actor']}, {_exactly(job['stop']['at'])}" if job["stop"] else ""
    if stop["phase"] in _SAID_BY_ITS_REASON and stop["reason"]:
        return stop["reason"]
    due = f", due at {_exactly(stop['due_at'])}" if stop["due_at"] else ""
    reason = f": {stop['reason']}" if stop["reason"] else ""
    return f"{stop['phase'].replace('_', ' ')} ({stop['actor']}){due}{reason}"


_SAID_BY_ITS_REASON = frozenset({StopPhase.STOPPED, StopPhase.NOT_STOPPED, StopPhase.CANCELLED})


def _print_rules(job: ShownJob, now: datetime, console: Console) -> None:
    if job["evaluations"]:
        rows = [
            (rule["rule"], rule["source"], rule["status"], ago(rule["updated_at"], now), rule["details"])
            for rule in job["evaluations"]
        ]
        columns = ("rule", "source", "status", "since", "details")
        Table(columns, rows, title="Rules", prose=("details",)).print(console)


def _print_findings(job: ShownJob, now: datetime, console: Console) -> None:
    """One row for each source that found it; the first one says what was found, and whether it is over."""
    rows = [row for finding in job["told"] for row in _says(finding, now)]
    if rows:
        columns = ("what is wrong", "found", "over", "source", "status", "step", "reason")
        prose, optional = ("reason", "over"), ("status",)
        Table(
            columns, rows, title="Findings", names=("what is wrong",), prose=prose, optional=optional
        ).print(console)


def _says(finding: FindingDetail, now: datetime) -> Iterator[tuple[str, ...]]:
    what = KINDS[FindingKind(finding["kind"])].phrase.format(rule=finding["rule"])
    if finding["episode"] > 1:
        what += f" (episode {finding['episode']})"
    over = in_brief.over(finding["closing"], finding["closed_at"], now)
    if not finding["says"]:
        yield (what, ago(finding["opened_at"], now), over, "", finding["status"], "", finding["reason"])
    for number, says in enumerate(finding["says"]):
        yield (
            "" if number else what,
            ago(says["at"], now),
            "" if number else over,
            says["source"],
            says["status"],
            "" if says["step"] is None else str(says["step"]),
            says["reason"],
        )


def _print_deliveries(job: ShownJob, now: datetime, console: Console) -> None:
    """Each once, although several findings may share an alert. The end of a stop is among the facts."""
    deliveries = {
        each["id"]: each
        for finding in job["told"]
        for each in finding["deliveries"]
        if each["kind"] != DeliveryKind.STOP or each["state"] in _TRIED_AGAIN
    }
    if deliveries:
        rows = [_delivery(each, now) for each in deliveries.values()]
        columns = ("kind", "to", "state", "attempts", "when", "error")
        least = ("attempts", "kind")
        Table(columns, rows, title="Deliveries", names=("to",), prose=("error",), optional=least).print(
            console
        )


_TRIED_AGAIN = frozenset(
    {DeliveryState.PENDING, DeliveryState.IN_FLIGHT, DeliveryState.REFUSED, DeliveryState.SNOOZED}
)


def _delivery(delivery: DeliveryDetail, now: datetime) -> tuple[str, ...]:
    when = ""
    if delivery["state"] in _TRIED_AGAIN:
        wait = (delivery["due_at"] - now).total_seconds()
        when = f"in {roughly(wait)}" if wait > 0 else "now"
    elif delivery["delivered_at"]:
        when = ago(delivery["delivered_at"], now)
    return (
        delivery["kind"],
        delivery["to"],
        delivery["state"],
        str(delivery["attempts"]),
        when,
        delivery["error"],
    )


def _exactly(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""
