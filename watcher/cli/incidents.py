"""Commands that read incidents: `incidents` and `audit`."""

from __future__ import annotations

from watcher.cli.filters import ChangedSince, OpenedSince, State, moment, words
from watcher.cli.terminal import (
    All,
    ConfigFile,
    Json,
    Verbose,
    existing_store,
    load_settings,
    now,
    out,
    print_json,
    write,
)


def incidents(
    state: State = None,
    *,
    since: OpenedSince = None,
    show_all: All = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List incidents: what is wrong, where it was told, who has it."""
    from watcher.cli import incident_tables
    from watcher.model import IncidentState
    from watcher.store import incident_views

    begin = moment(since, now())
    states = words("--state", state, IncidentState)
    with existing_store(load_settings(config, verbose=verbose)) as store:
        cases = [
            case
            for case in incident_views.cases(store)
            if case.incident.state in states and (begin is None or case.incident.opened_at >= begin)
        ]
    if as_json:
        print_json([incident_views.incident(case) for case in cases])
    else:
        incident_tables.print_incidents(cases, now(), out(), show_all=show_all)


def audit(
    since: ChangedSince = None,
    config: ConfigFile = None,
    as_json: Json = False,  # noqa: ARG001 - every command that reads has it
    verbose: Verbose = False,
) -> None:
    """Print who did what and when, as one line of JSON each."""
    from watcher.store import incident_views

    begin = moment(since, now())
    with existing_store(load_settings(config, verbose=verbose)) as store:
        for line in incident_views.history(store, begin):
            write(f"{line}\n")
