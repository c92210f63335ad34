"""Programs that share a SQLite file with a test, each in its own process.

A process is forked from a server that has imported everything, so it starts in milliseconds. It sends
`ready`, waits for `go`, and then reports each thing it has done.
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

from tests.contract.samples import NOON, alert, grows, incident, look, run
from watcher.errors import StoreError
from watcher.model import DeliveryState, Evaluation, Reads
from watcher.store.sqlite import SqliteStore

BATCH_SIZE = 20
DESTINATIONS = ("console", "slack:#ml", "sns:arn")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


class Reports:
    """A program's end of its connection to the test."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, *words: object) -> None:
        self._connection.send(" ".join(map(str, words)))

    def start(self) -> None:
        self.send("ready")
        self._connection.recv()


Program = Callable[[Reports, Path, str], None]


class Process:
    """A program running in its own process."""

    def __init__(self, program: Program, path: Path, name: str = "") -> None:
        self._connection, theirs = _context.Pipe()
        self._process = _context.Process(target=_run, args=(program, theirs, path, name), daemon=True)
        self._process.start()
        theirs.close()  # so that the connection closes when the process ends

    def ready(self) -> None:
        assert self._connection.recv() == "ready"

    def go(self) -> None:
        self._connection.send("go")

    def lines(self) -> Iterator[str]:
        """Its reports, until it ends."""
        while True:
            try:
                yield self._connection.recv()
            except (EOFError, OSError):  # OSError: killed in the middle of a report
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
    program(Reports(connection), path, name)


@contextmanager
def process(program: Program, path: Path, name: str = "") -> Iterator[Process]:
    started = Process(program, path, name)
    try:
        started.ready()
        yield started
    finally:
        started.close()


def commit(reports: Reports, path: Path, name: str) -> None:
    """Commit batches of looks forever; report `committed N` after batch N."""
    store = SqliteStore(path)
    reports.start()
    for batch in count():
        store.commit([alert(f"{name}-{batch}-{n}", *DESTINATIONS) for n in range(BATCH_SIZE)])
        reports.send("committed", batch)


def deliver(reports: Reports, path: Path, name: str) -> None:
    """Claim and settle until nothing is left; report `claimed NANOSECONDS LANE ID` for each delivery."""
    store = SqliteStore(path)
    reports.start()
    while store.next_due() is not None:
        for claimed in store.claim(name, NOON, 3600, 2).deliveries:
            reports.send("claimed", time.monotonic_ns(), claimed.lane, claimed.id)
            done = replace(claimed, state=DeliveryState.DELIVERED, told=claimed.trying)
            if not store.settle(name, done):
                reports.send("lost", claimed.id)


AMENDMENTS = 25


def amend(reports: Reports, path: Path, name: str) -> None:
    """Amend one incident again and again; report `revision N` for each amendment."""
    store = SqliteStore(path)
    reports.start()
    for _ in range(AMENDMENTS):
        after = store.amend(incident("job").id, grows)
        reports.send("revision", after.incident.revision if after else None)


def deliver_edits(reports: Reports, path: Path, name: str) -> None:
    """Bring one destination up to date until it knows all of the other processes' changes; report
    `told FROM TO` for each message."""
    store = SqliteStore(path)
    reports.start()
    everything = 1 + 2 * AMENDMENTS
    while any(each.told < everything for each in store.deliveries()):
        for claimed in store.claim(name, NOON, 3600, 2).deliveries:
            reports.send("told", claimed.told, claimed.trying)
            done = replace(claimed, state=DeliveryState.DELIVERED, told=claimed.trying)
            if not store.settle(name, done):
                reports.send("lost", claimed.id)


def claim_evaluations(reports: Reports, path: Path, name: str) -> None:
    """Claim evaluations one by one until none is due; report `RUN FAMILY` for each."""
    store = SqliteStore(path)
    reports.start()
    while claimed := store.claim_evaluations(NOON, 3600, 1, together=False):
        for each in claimed:
            reports.send(each.run, each.family)


def commit_evaluations(reports: Reports, path: Path, name: str) -> None:
    """Advance both evaluations of one run forever; report `committed N` after step N."""
    store = SqliteStore(path)
    reports.start()
    for number in count():
        store.commit([look("job", evaluations=both_evaluations(number))])
        reports.send("committed", number)


def both_evaluations(number: int) -> tuple[Evaluation, ...]:
    return tuple(
        Evaluation(NOON, reads, cursor=str(number)) for reads in (Reads.TENSORS, Reads.PROFILER_OUTPUT)
    )


def open_new(reports: Reports, path: Path, name: str) -> None:
    """Open a file that others open at the same moment; report `opened`, or the error."""
    reports.start()
    try:
        reports.send("opened", SqliteStore(path).check())
    except StoreError as error:
        reports.send(error)


def stop(reports: Reports, path: Path, name: str) -> None:
    """Ask to stop five jobs with a common limit of ten; report `permitted JOB` for each permitted one."""
    store = SqliteStore(path)
    reports.start()
    for n in range(5):
        if store.permit_stop(run(f"{name}-{n}"), name, NOON, 10):
            reports.send("permitted", f"{name}-{n}")


def open_as_nobody(reports: Reports, path: Path, name: str) -> None:
    """Open a file as a user who may not write it; report the error."""
    if os.getuid() == 0:  # root may write everywhere
        os.setuid(65534)
    open_new(reports, path, name)
