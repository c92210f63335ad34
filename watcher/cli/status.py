"""Commands that only read the store: `status`, `jobs`, `findings`."""

from __future__ import annotations

from typing import Annotated

import typer

from watcher.cli.filters import CreatedSince, FindingStatus, FoundSince, JobStatus, Kind, moment, words
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
)


def status(config: ConfigFile = None, as_json: Json = False, verbose: Verbose = False) -> None:
    """Count jobs and incidents, and list refused alerts."""
    from watcher.cli import store_tables
    from watcher.store import views

    settings = load_settings(config, verbose=verbose)
    with existing_store(settings) as store:
        document = views.status(store, settings.store.url)
    if as_json:
        print_json(document)
    else:
        store_tables.print_status(document, now(), out())


def jobs(
    pattern: Annotated[str, typer.Argument(help="Glob on the name of the job.")] = "*",
    *,
    status: JobStatus = None,
    since: CreatedSince = None,
    show_all: All = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List the jobs that Watcher knows, newest first."""
    from watcher.cli import store_tables
    from watcher.model import KNOWN_STATUSES
    from watcher.store import views

    begin = moment(since, now())
    with existing_store(load_settings(config, verbose=verbose)) as store:
        found = views.jobs(store, pattern)
    statuses = words("--status", status, KNOWN_STATUSES | {job["status"] for job in found})
    document = [
        job for job in found if job["status"] in statuses and (begin is None or job["created_at"] >= begin)
    ]
    if as_json:
        print_json(document)
    else:
        store_tables.print_jobs(document, now(), out(), show_all=show_all)


def findings(
    job: Annotated[str, typer.Option("--job", help="Glob on the name of the job.")] = "*",
    *,
    kind: Kind = None,
    status: FindingStatus = None,
    since: FoundSince = None,
    show_all: All = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List findings, newest first, and where they were sent."""
    from watcher.cli import store_tables
    from watcher.model import ENDED_STATUSES, KNOWN_RULE_STATUSES, FindingKind
    from watcher.store import views

    begin = moment(since, now())
    kinds = words("--kind", kind, FindingKind)
    with existing_store(load_settings(config, verbose=verbose)) as store:
        found = views.findings(store, job)
    known = KNOWN_RULE_STATUSES | ENDED_STATUSES | {finding["status"] for finding in found}
    statuses = words("--status", status, known)
    document = [
        finding
        for finding in found
        if finding["kind"] in kinds
        and finding["status"] in statuses
        and (begin is None or finding["opened_at"] >= begin)
    ]
    if as_json:
        print_json(document)
    else:
        store_tables.print_findings(document, now(), out(), show_all=show_all)
