"""Commands that only read the store: `status`, `jobs`, `show`, `findings`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
from watcher.errors import UsageError, WatcherError

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.model import JobSnapshot


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


def show(
    job: Annotated[str, typer.Argument(help="The job's name or ARN, the beginning of its name, or latest.")],
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show one job: its rules, findings, deliveries and history."""
    from watcher.cli import job_tables
    from watcher.store import views
    from watcher.store.lookup import find_run

    settings = load_settings(config, verbose=verbose)
    with existing_store(settings) as store:
        known = True
        try:
            record = find_run(store, job)
        except UsageError as error:
            record, known = views.unknown_run(_described(job, settings, error), now()), False
        document = views.show_run(store, record)
    if as_json:
        print_json(document)
    else:
        job_tables.print_job(document, now(), out(), known=known)


def _described(job: str, settings: Config, unknown: UsageError) -> JobSnapshot:
    """The job as SageMaker shows it. Raises `unknown` if it shows none, or cannot be asked."""
    from watcher.aws.accounts import Accounts
    from watcher.jobs.find import find_job

    try:
        return find_job(Accounts(settings.region, settings.account), job)
    except WatcherError:
        raise unknown from None


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
