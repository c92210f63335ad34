"""What the store knows: `status`, `jobs`, `show`, `findings`."""

from __future__ import annotations

from typing import Annotated

import typer

from watcher.cli.terminal import All, ConfigFile, Json, Verbose, known, now, out, print_json, start


def status(config: ConfigFile = None, as_json: Json = False, verbose: Verbose = False) -> None:
    """Counts of jobs and findings, and what could not be delivered."""
    from watcher.cli import tables
    from watcher.store import views

    settings = start(config, verbose=verbose)
    with known(settings) as store:
        document = views.status(store, settings.store.url)
    if as_json:
        print_json(document)
    else:
        tables.print_status(document, now(), out())


def jobs(
    pattern: Annotated[str, typer.Argument(help="Glob on the job's name.")] = "*",
    show_all: All = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """The jobs that Watcher knows, newest first."""
    from watcher.cli import tables
    from watcher.store import views

    with known(start(config, verbose=verbose)) as store:
        document = views.jobs(store, pattern)
    if as_json:
        print_json(document)
    else:
        tables.print_jobs(document, now(), out(), show_all=show_all)


def show(
    job: Annotated[str, typer.Argument(help="The job's name or ARN.")],
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """One job: its rules, its findings, where they were told.

    Also who stopped it, and how each delivery ended.
    """
    from watcher.cli import tables
    from watcher.store import views

    with known(start(config, verbose=verbose)) as store:
        document = views.show(store, job)
    if as_json:
        print_json(document)
    else:
        tables.print_job(document, now(), out())


def findings(
    job: Annotated[str, typer.Option("--job", help="Glob on the job's name.")] = "*",
    show_all: All = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """What was found, newest first, and where it was told."""
    from watcher.cli import tables
    from watcher.store import views

    with known(start(config, verbose=verbose)) as store:
        document = views.findings(store, job)
    if as_json:
        print_json(document)
    else:
        tables.print_findings(document, now(), out(), show_all=show_all)
