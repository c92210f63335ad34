"""Programs that share a SQLite file with a test, each in a process of its own.

    python -m tests.contract.store_process WHAT FILE NAME

Each prints `ready`, waits for a line on stdin, and then prints what it has done as it does it.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

from tests.contract.samples import NOON, alert, arn
from watcher.errors import StoreError
from watcher.model import DeliveryState
from watcher.store.sqlite import SqliteStore

LOOKS = 20
DESTINATIONS = ("console", "slack:#ml", "sns:arn")


def say(*words: object) -> None:
    print(*words, flush=True)


def start() -> None:
    say("ready")
    sys.stdin.readline()


def commit(path: Path, name: str) -> None:
    """Commit batches of looks without end; `committed N` when N is done."""
    store = SqliteStore(path)
    start()
    for batch in count():
        store.commit([alert(f"{name}-{batch}-{n}", *DESTINATIONS) for n in range(LOOKS)])
        say("committed", batch)


def deliver(path: Path, name: str) -> None:
    """Claim and settle until nothing is left; `claimed NANOSECONDS LANE ID` for each delivery."""
    store = SqliteStore(path)
    start()
    while store.next_due() is not None:
        for claimed in store.claim(name, NOON, 3600, 2).deliveries:
            say("claimed", time.monotonic_ns(), claimed.lane, claimed.id)
            if not store.settle(name, replace(claimed, state=DeliveryState.DELIVERED)):
                say("lost", claimed.id)


def open_new(path: Path, name: str) -> None:
    """Open a file that others open in the same moment; `opened`, or what went wrong."""
    start()
    try:
        say("opened", SqliteStore(path).check())
    except StoreError as error:
        say(error)


def stop(path: Path, name: str) -> None:
    """Ask to stop five jobs, ten being allowed to all; `permitted JOB` for each that may be."""
    store = SqliteStore(path)
    start()
    for n in range(5):
        if store.permit_stop(arn(f"{name}-{n}"), name, NOON, 10):
            say("permitted", f"{name}-{n}")


def open_as_nobody(path: Path, name: str) -> None:
    """Open a file as a user who may not write it; prints the error."""
    if os.getuid() == 0:  # root may do anything
        os.setuid(65534)
    start()
    try:
        say("opened", SqliteStore(path).check())
    except StoreError as error:
        say(error)


if __name__ == "__main__":
    _, what, path, name = sys.argv
    {program.__name__: program for program in (commit, deliver, open_new, stop, open_as_nobody)}[what](
        Path(path), name
    )
