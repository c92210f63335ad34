"""Programs that share a SQLite file with a test, each in a process of its own.

A process is forked from a server that has imported everything, so it starts in milliseconds. It sends
`ready`, waits until it is told to go, and then sends what it has done as it does it.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

from tests.contract.samples import NOON, alert, arn
from watcher.errors import StoreError
from watcher.model import DeliveryState
from watcher.store.sqlite import SqliteStore

LOOKS = 20
DESTINATIONS = ("console", "slack:#ml", "sns:arn")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


class Line:
    """A program's end of its line to the test."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def say(self, *words: object) -> None:
        self._connection.send(" ".join(map(str, words)))

    def start(self) -> None:
        self.say("ready")
        self._connection.recv()


Program = Callable[[Line, Path, str], None]


class Process:
    """A program that runs in a process of its own, up to its `ready`."""

    def __init__(self, program: Program, path: Path, name: str = "") -> None:
        self._connection, theirs = _context.Pipe()
        self._process = _context.Process(target=_run, args=(program, theirs, path, name), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends the line

    def ready(self) -> None:
        assert self._connection.recv() == "ready"

    def go(self) -> None:
        self._connection.send("go")

    def lines(self) -> Iterator[str]:
        """What it says, until it ends."""
        while True:
            try:
                yield self._connection.recv()
            except (EOFError, OSError):  # OSError: killed in the middle of a line
                return

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        self.kill()
        self._process.close()
        self._connection.close()


def _run(program: Program, connection: Connection, path: Path, name: str) -> None:
    program(Line(connection), path, name)


@contextmanager
def process(program: Program, path: Path, name: str = "") -> Iterator[Process]:
    started = Process(program, path, name)
    try:
        started.ready()
        yield started
    finally:
        started.close()


def commit(line: Line, path: Path, name: str) -> None:
    """Commit batches of looks without end; `committed N` when N is done."""
    store = SqliteStore(path)
    line.start()
    for batch in count():
        store.commit([alert(f"{name}-{batch}-{n}", *DESTINATIONS) for n in range(LOOKS)])
        line.say("committed", batch)


def deliver(line: Line, path: Path, name: str) -> None:
    """Claim and settle until nothing is left; `claimed NANOSECONDS LANE ID` for each delivery."""
    store = SqliteStore(path)
    line.start()
    while store.next_due() is not None:
        for claimed in store.claim(name, NOON, 3600, 2).deliveries:
            line.say("claimed", time.monotonic_ns(), claimed.lane, claimed.id)
            if not store.settle(name, replace(claimed, state=DeliveryState.DELIVERED)):
                line.say("lost", claimed.id)


def open_new(line: Line, path: Path, name: str) -> None:
    """Open a file that others open in the same moment; `opened`, or what went wrong."""
    line.start()
    try:
        line.say("opened", SqliteStore(path).check())
    except StoreError as error:
        line.say(error)


def stop(line: Line, path: Path, name: str) -> None:
    """Ask to stop five jobs, ten being allowed to all; `permitted JOB` for each that may be."""
    store = SqliteStore(path)
    line.start()
    for n in range(5):
        if store.permit_stop(arn(f"{name}-{n}"), name, NOON, 10):
            line.say("permitted", f"{name}-{n}")


def open_as_nobody(line: Line, path: Path, name: str) -> None:
    """Open a file as a user who may not write it; sends the error."""
    if os.getuid() == 0:  # root may do anything
        os.setuid(65534)
    open_new(line, path, name)
