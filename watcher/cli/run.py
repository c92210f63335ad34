"""Watching: `run`, and `check`, which tries beforehand what `run` will need."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from watcher.cli.terminal import ConfigFile, Json, Verbose, err, out, print_json, start


def run(
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="JOB", help="Watch only these, until they are settled.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One pass over everything, deliver, exit.")] = False,
    config: ConfigFile = None,
    verbose: Verbose = False,
) -> int:
    """Watch training jobs, and alert."""
    settings = start(config, verbose=verbose, usual=logging.INFO)
    if unused := settings.not_used_yet():
        import structlog

        structlog.get_logger(__name__).warning("not_used_yet", keys=unused)
    from watcher.daemon.run import run as run_daemon

    return run_daemon(settings, jobs or (), once)


def check(config: ConfigFile = None, as_json: Json = False, verbose: Verbose = False) -> int:
    """Try everything that `run` will need, and say what is missing."""
    from watcher.cli.preflight import State, preflight
    from watcher.config.load import DEFAULT_FILE, source

    settings = start(config, verbose=verbose)
    found = source(config, os.environ)
    origin = str(found) if found else f"no {DEFAULT_FILE} here: every setting has its default"
    done = []
    with err().status("checking …") as status:
        for result in preflight(settings, origin):
            done.append(result)
            status.update(f"checked {result.name} …")
    if as_json:
        from dataclasses import asdict

        print_json([asdict(result) for result in done])
    else:
        from watcher.cli.tables import Table

        rows = [(result.state, result.name, result.found, result.mend) for result in done]
        Table(("state", "check", "found", "mend"), rows).print(out())
    return 1 if any(result.state is State.FAILED for result in done) else 0
