"""What `show` prints for people: the document of one run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from rich.console import Console

from watcher.alerts import in_brief
from watcher.alerts.cost import formatted
from watcher.cli.show_document import JobDocument, RouteView
from watcher.cli.tables import Table, print_facts
from watcher.model import (
    ENDED_STATUSES,
    DeliveryKind,
    DeliveryState,
    FindingKind,
    IncidentState,
    Routing,
    StopChoice,
    StopPhase,
)
from watcher.policy.kinds import KINDS
from watcher.store.incident_views import ShownIncident
from watcher.store.views import DeliveryDetail, FindingDetail
from watcher.text import ago, counts, duration, instances, roughly, truncated

MAX_VALUE_LENGTH = 200
"""Characters of a hyperparameter's value on a terminal: a list of columns has thousands."""


def print_job(job: JobDocument, now: datetime, console: Console) -> None:
    known = job["known"]
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
            ("created", _moment(job["created_at"], now)),
            ("started", _moment(job["started_at"], now)),
            ("ended", _moment(job["ended_at"], now)),
            ("trained for", _trained(job)),
            ("instances", _instances(job)),
            ("cost", _cost(job)),
            (
                "experiment",
                job["experiment"] and ", trial ".join(filter(None, (job["experiment"], job["trial"]))),
            ),
            ("tuning job", job["tuning_job"]),
            ("image", job["image"]),
            ("tags", ", ".join(f"{key}={value}" for key, value in (job["tags"] or {}).items())),
            ("debug output", job["debug_output"]),
            ("watched", "yes" if job["watching"] else not_watched),
            ("incident", _incident(incident, now) if incident else ""),
            ("stop", _stop(job)),
            ("arn", job["arn"]),
            *(("not read", sentence) for sentence in job["not_read"]),
        ],
        console,
    )
    _print_phases(job, console)
    _print_hyperparameters(job, console)
    _print_rules(job, now, console)
    _print_findings(job, now, console)
    _print_values(job, console)
    _print_routes(job, console)
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
    links = [(link["what"], link["url"]) for link in job["links"]]
    Table(("page", "link"), links, title="Links", names=("page", "link")).print(console)


def _moment(at: datetime | None, now: datetime) -> str:
    return f"{_exactly(at)} ({ago(at, now)})" if at else ""


def _trained(job: JobDocument) -> str:
    """`12 min 4 s of 1 d at most`."""
    if job["training_seconds"] is None:
        return ""
    limit = job["max_runtime_seconds"]
    at_most = f" of {duration(timedelta(seconds=limit))} at most" if limit else ""
    return duration(timedelta(seconds=job["training_seconds"])) + at_most


def _instances(job: JobDocument) -> str:
    shown = instances(job["instance_type"], job["instance_count"])
    return f"{shown} (spot)" if shown and job["spot"] else shown


def _cost(job: JobDocument) -> str:
    cost = job["cost"]
    if cost is None:
        return ""
    amount = formatted(cost["so_far"], cost["currency"])
    return f"{'at most ' if cost['at_most'] else ''}{amount} ({cost['basis']})"


def _print_phases(job: JobDocument, console: Console) -> None:
    rows = [
        (
            phase["status"],
            f"{phase['began_at']:%Y-%m-%d %H:%M:%S}",
            duration(timedelta(seconds=phase["seconds"])) + ("" if phase["ended_at"] else " so far"),
            phase["message"],
        )
        for phase in job["phases"]
    ]
    if rows:
        columns = ("phase", "began (UTC)", "took", "message")
        names = ("phase", "began (UTC)", "took")
        Table(columns, rows, title="Phases", names=names, prose=("message",)).print(console)


def _print_hyperparameters(job: JobDocument, console: Console) -> None:
    terminal = console.is_terminal
    rows = [
        *(
            (name, truncated(value, MAX_VALUE_LENGTH) if terminal else value)
            for name, value in job["hyperparameters"].items()
        ),
        *((name, "(not shown: it may be a secret)") for name in job["hidden_hyperparameters"]),
    ]
    if rows:
        columns = ("name", "value")
        Table(columns, rows, title="Hyperparameters", names=("name",), prose=("value",)).print(console)


def _print_values(job: JobDocument, console: Console) -> None:
    rules = {finding["id"]: finding["rule"] or "" for finding in job["told"]}
    rows = []
    for values in job["values"]:
        needed = {(each["tensor"], each["step"]): each["value"] for each in values["needed"]}
        for each in values["deciding"]:
            limit = needed.get((each["tensor"], each["step"]))
            rows.append(
                (
                    rules[values["finding"]],
                    each["tensor"],
                    str(each["step"]),
                    f"{each['value']:.6g}",
                    "" if limit is None else f"{limit:.6g}",
                )
            )
    if rows:
        columns = ("rule", "tensor", "step", "value", "needed")
        Table(columns, rows, title="Values that decided", names=("tensor",)).print(console)
    missing = [("not read", f"{rules[v['finding']]}: {why}") for v in job["values"] for why in v["not_read"]]
    print_facts(missing, console)


def _print_routes(job: JobDocument, console: Console) -> None:
    """What goes the same way is one row."""
    about: dict[tuple[str, str, str], list[str]] = {}
    for route in job["routes"]:
        decision = (", ".join(route["to"]), _decided_by(route), _STOPS.get(route["stop"], "no"))
        about.setdefault(decision, []).append(_about(route))
    rows = [(", ".join(dict.fromkeys(what)), *decision) for decision, what in about.items()]
    columns = ("finding", "goes to", "decided by", "stops the job")
    Table(columns, rows, title="Routes", names=("goes to",), prose=("finding",)).print(console)


def _about(route: RouteView) -> str:
    return KINDS[FindingKind(route["kind"])].phrase.format(rule=route["rule"])


def _decided_by(route: RouteView) -> str:
    return f"[[route]] {route['route']}" if route["route"] else _DEFAULTS.get(route["routing"], "")


_STOPS = {StopChoice.STOP.value: "yes", StopChoice.PROFILER.value: "no: a profiler rule never does"}
_DEFAULTS = {
    Routing.SLACK_CHANNEL.value: "slack.channel",
    Routing.CONSOLE.value: "no route, no slack.channel",
}


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


def _stop(job: JobDocument) -> str:
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


def _print_rules(job: JobDocument, now: datetime, console: Console) -> None:
    if job["evaluations"]:
        rows = [
            (rule["rule"], rule["source"], rule["status"], ago(rule["updated_at"], now), rule["details"])
            for rule in job["evaluations"]
        ]
        columns = ("rule", "source", "status", "since", "details")
        Table(columns, rows, title="Rules", prose=("details",)).print(console)


def _print_findings(job: JobDocument, now: datetime, console: Console) -> None:
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


def _print_deliveries(job: JobDocument, now: datetime, console: Console) -> None:
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
