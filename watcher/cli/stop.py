"""`stop`: stops training jobs, with the same guards as the daemon."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.terminal import (
    ConfigFile,
    Json,
    Verbose,
    err,
    existing_store,
    load_settings,
    now,
    out,
    print_json,
    say,
    user,
)
from watcher.errors import NoSuchJob, OptionsError, WatcherError

if TYPE_CHECKING:
    from watcher.cli.manual_stop import Stopped
    from watcher.config.settings import Config
    from watcher.model import JobSnapshot
    from watcher.store.base import Store

ASKED_ONE_BY_ONE = 20
"""For the findings of more jobs, the whole store is read."""


def stop(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Names or ARNs of the jobs, the beginning of a name, or latest."),
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all-in-progress", help="Stop every watched job in progress.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be stopped.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel a stop that waits for the end of stop.grace.")
    ] = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Stop training jobs, with the daemon's guards; asks first."""
    if bool(names) == everything:
        raise OptionsError("name the jobs to stop, or use --all-in-progress")
    if cancel:
        if everything or dry_run:
            raise OptionsError("--cancel takes only the names of jobs")
        return _cancel(names or (), load_settings(config, verbose=verbose), as_json=as_json)
    if not (yes or dry_run or sys.stdin.isatty()):
        raise OptionsError("cannot ask for confirmation, because stdin is not a terminal: use --yes")
    settings = load_settings(config, verbose=verbose)

    from contextlib import closing

    from watcher.aws.accounts import Accounts
    from watcher.cli import manual_stop
    from watcher.cli.job_names import completed
    from watcher.delivery.stop import Stopper
    from watcher.jobs.find import find_jobs
    from watcher.store import open_store

    accounts = Accounts(settings.region, settings.account)
    with closing(open_store(settings.store.url, region=settings.region)) as store:
        with err().status("looking up the jobs …"):
            chosen = (
                list(manual_stop.all_in_progress(accounts, settings.watch))
                if everything
                else find_jobs(accounts, [completed(name, store, accounts) for name in names or ()])
            )
        if chosen:
            _print_jobs_to_stop(chosen, store)
        if chosen and not (yes or dry_run):
            typer.confirm(
                f"Stop {'this job' if len(chosen) == 1 else f'these {len(chosen)} jobs'}?",
                abort=True,
                err=True,
            )
        stopper = Stopper(accounts, store, settings.stop, now)
        manual = manual_stop.ManualStop(stopper, user(), dry_run=dry_run)
        outcomes = _with_progress(manual.stop(chosen), len(chosen))
    if as_json:
        print_json([_document(each) for each in outcomes])
    elif not chosen:
        say("No watched job is in progress.")
    else:
        from watcher.cli.tables import Table

        rows = [(each.job.name, each.state, each.sentence) for each in outcomes]
        Table(("job", "state", "what happened"), rows, prose=("what happened",)).print(out())
    return 0 if all(each.succeeded for each in outcomes) else 1


def _print_jobs_to_stop(chosen: Sequence[JobSnapshot], store: Store) -> None:
    from collections import Counter

    from watcher.cli.tables import Table
    from watcher.text import ago, instances

    if len(chosen) <= ASKED_ONE_BY_ONE:
        findings = Counter({job.run: len(store.findings(job.run)) for job in chosen})
    else:
        findings = Counter(finding.run for finding in store.findings())
    rows = [
        (
            job.name,
            job.status,
            ago(job.started_at or job.created_at, now()),
            instances(job.instance_type, job.instance_count),
            str(findings[job.run] or ""),
        )
        for job in chosen
    ]
    Table(("job", "status", "started", "instances", "findings"), rows).print(err())


def _with_progress(stops: Iterator[Stopped], total: int) -> list[Stopped]:
    from rich.progress import Progress

    with Progress(console=err(), transient=True, disable=not sys.stderr.isatty()) as progress:
        return list(progress.track(stops, total=total, description="stopping"))


def _document(each: Stopped) -> Mapping[str, str]:
    return {"job": each.job.name, "arn": each.job.arn, "state": each.state, "sentence": each.sentence}


def _cancel(names: Sequence[str], settings: Config, *, as_json: bool) -> int:
    from watcher.cli import manual_stop

    with existing_store(settings) as store:
        jobs = [_known_job(name, store, settings) for name in names]
        cancelled = [(job, manual_stop.cancel(store, job, user(), now())) for job in jobs]
    if as_json:
        print_json([{"job": job.name, "arn": job.arn, "cancelled": done} for job, done in cancelled])
    else:
        for job, done in cancelled:
            say(
                f"The stop of {job.name} is cancelled: the job continues."
                if done
                else f"No stop of {job.name} is waiting: nothing to cancel."
            )
    return 0 if all(done for _, done in cancelled) else 1


def _known_job(name: str, store: Store, settings: Config) -> JobSnapshot:
    """The job as the store has it, or else as SageMaker has it: then no stop of it waits."""
    from watcher.aws.accounts import Accounts
    from watcher.jobs.find import find_job
    from watcher.store.lookup import find_run

    try:
        return find_run(store, name).snapshot
    except NoSuchJob as unknown:
        try:
            return find_job(Accounts(settings.region, settings.account), name)
        except WatcherError:
            raise unknown from None
