"""`run`, the daemon, and `check`, which tries everything that `run` will need."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from watcher.cli.terminal import ConfigFile, Json, Verbose, err, load_settings, now, out, print_json


def run(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Watch only these jobs, and exit when they are finished."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Make one pass over all jobs, send the alerts, exit.")
    ] = False,
    config: ConfigFile = None,
    verbose: Verbose = False,
) -> int:
    """Watch training jobs and send alerts."""
    settings = load_settings(config, verbose=verbose, log_level=logging.INFO)
    if unused := settings.not_used_yet():
        import structlog

        structlog.get_logger(__name__).warning("settings_not_used", keys=unused)
    from watcher.aws.accounts import Accounts
    from watcher.cli.job_names import whole_name
    from watcher.daemon.run import run as run_daemon

    accounts = Accounts(settings.region, settings.account)
    return run_daemon(settings, [whole_name(job, settings, accounts) for job in jobs or ()], once)


def check(
    *,
    send: Annotated[
        bool, typer.Option("--send", help="Also post a test message to each destination of alerts.")
    ] = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Try everything that `run` needs, and say what is missing."""
    from watcher.cli.check_result import State
    from watcher.cli.preflight import preflight
    from watcher.config.load import DEFAULT_FILE, source

    settings = load_settings(config, verbose=verbose)
    found = source(config, os.environ)
    origin = str(found) if found else f"no {DEFAULT_FILE} here: all settings have their defaults"
    done = []
    with err().status("checking …") as status:
        test_clock = now if send else None
        for result in preflight(settings, origin, test_clock=test_clock, stdout_is_data=as_json):
            done.append(result)
            status.update(f"checked {result.name} …")
    if as_json:
        from dataclasses import asdict

        print_json([asdict(result) for result in done])
    else:
        from watcher.cli.tables import Table

        rows = [(result.state, result.name, result.found, result.fix) for result in done]
        columns = ("state", "check", "found", "fix")
        Table(columns, rows, names=("state", "check"), prose=("found", "fix")).print(out())
    return 1 if any(result.state is State.FAILED for result in done) else 0
