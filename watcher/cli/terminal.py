"""What the commands share: common options, loading settings, opening the store, and output.

Data goes to stdout. Logs, questions and messages to a person go to stderr.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watcher.errors import OptionsError, UsageError, install_extra
from watcher.text import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from watcher.config.settings import Config
    from watcher.debug_output.event_files import SavedStep
    from watcher.store.base import Store

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The settings file. Default: $WATCHER_TOML as text, else watcher.toml."
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also log decisions.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PlotFile = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw a plot: .png, .svg or .pdf.")
]
All = Annotated[bool, typer.Option("--all", help="Show long lists in full on a terminal, too.")]


def load_settings(file: Path | None, *, verbose: bool, log_level: int = logging.WARNING) -> Config:
    """Load the settings, and set up logging so that no log line shows one of their secrets.

    `log_level` applies unless `verbose`. Commands that print their result log only problems.
    """
    from watcher import log
    from watcher.config.load import load

    settings = load(file, os.environ)
    credentials = (os.environ.get(name, "") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
    level = logging.DEBUG if verbose else log_level
    log.configure(sys.stderr, level=level, secrets=[*settings.secrets(), *credentials])
    return settings


@contextmanager
def existing_store(settings: Config) -> Iterator[Store]:
    """Open the store of an earlier `watcher run`. Raises `StoreError` if there is none; it is not created."""
    from watcher.store import open_store

    store = open_store(settings.store.url, create=False, region=settings.region)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def reading_progress(job: str) -> Iterator[Callable[[SavedStep], object]]:
    """Show on a terminal which step is being read; yields the function to call with each step."""
    with err().status(f"reading {job} …") as status:
        yield lambda step: status.update(f"reading {job} … step {step.step}")


def require_plot(file: Path) -> None:
    """Raises `UsageError` if no plot can be written to this file. Called first, before minutes of reading."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise UsageError(f"matplotlib is missing, which --plot needs; {install_extra('plot')}")
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise OptionsError(f"--plot {file}: the name must end in .png, .svg or .pdf")
    if not file.parent.is_dir():
        raise UsageError(f"--plot {file}: no such folder: {file.parent}")


def print_json(document: Any) -> None:
    from watcher.store.views import to_json

    write(f"{to_json(document)}\n")


def say(sentence: str, *, to_stderr: bool = False) -> None:
    """Print one line. Text from outside may be part of it: it can neither begin another line nor control the
    terminal."""
    typer.echo(one_line(sentence), err=to_stderr)


def write(data: str) -> None:
    """Print data that its format has made safe already, such as JSON."""
    typer.echo(data, nl=False)


def out() -> Console:
    from watcher.cli.console import GatedConsole

    return GatedConsole()


def err() -> Console:
    from watcher.cli.console import GatedConsole

    return GatedConsole(stderr=True)


def now() -> datetime:
    return datetime.now(UTC)


def user() -> str:
    """Who runs this command, for the history of an incident."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container often has no name
        return f"user {os.getuid()}"
