"""How a command begins, and how it speaks: settings and store in, documents out.

stdout is data, stderr is logs and everything that is said to a person about the work.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from watcher.config.settings import Config
    from watcher.store.base import Store

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The settings; else $WATCHER_TOML holds them, or watcher.toml here."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log what is decided, too.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PlotFile = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw a picture: .png, .svg or .pdf.")
]
All = Annotated[bool, typer.Option("--all", help="Show long lists whole, on a terminal too.")]


def start(file: Path | None, *, verbose: bool, usual: int = logging.WARNING) -> Config:
    """The settings, with the log set up so that it shows none of their secrets.

    Commands that print what they did usually log only what went wrong.
    """
    from watcher import log
    from watcher.config.load import load

    settings = load(file, os.environ)
    credentials = (os.environ.get(name, "") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
    level = logging.DEBUG if verbose else usual
    log.configure(sys.stderr, level=level, secrets=[*settings.secrets(), *credentials])
    return settings


@contextmanager
def known(settings: Config) -> Iterator[Store]:
    """The store, to read what is known; it is not created by somebody who only asks."""
    from watcher.store import open_store

    store = open_store(settings.store.url, create=False, region=settings.region)
    try:
        yield store
    finally:
        store.close()


def print_json(document: Any) -> None:
    from watcher.store.views import to_json

    typer.echo(to_json(document))


def out() -> Console:
    from rich.console import Console

    return Console()


def err() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def now() -> datetime:
    return datetime.now(UTC)
