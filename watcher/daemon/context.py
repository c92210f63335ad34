"""The context in which all parts of one daemon work: settings, store, AWS clients, clock and stop event."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.aws.session import response_handler
from watcher.config.settings import Config
from watcher.instruments import Instruments
from watcher.jobs.earlier_runs import EarlierRuns
from watcher.jobs.failures import Failures
from watcher.jobs.work import Pace
from watcher.store import open_store
from watcher.store.base import Store


def utc_now() -> datetime:
    return datetime.now(UTC)


def _unique_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"


@dataclass(frozen=True, slots=True)
class Context:
    config: Config
    lease_s: float
    """If this process dies, others take over its work after so many seconds."""
    instruments: Instruments
    accounts: Accounts
    refused: RefusedCalls
    store: Store
    earlier_runs: EarlierRuns
    clock: Callable[[], datetime] = utc_now
    stopping: threading.Event = field(default_factory=threading.Event)
    failures: Failures = field(default_factory=Failures)
    owner: str = field(default_factory=_unique_name)
    """This process's name in the store."""

    @classmethod
    def open(cls, config: Config, lease_s: float, clock: Callable[[], datetime] = utc_now) -> Context:
        instruments = Instruments()
        accounts = Accounts(config.region, config.account, instruments.aws_answered)
        on_response = response_handler(instruments.aws_answered)
        store = open_store(config.store.url, region=config.region, on_response=on_response)
        refused, earlier_runs = RefusedCalls(accounts), EarlierRuns(store)
        return cls(config, lease_s, instruments, accounts, refused, store, earlier_runs, clock)

    def pace(self, per_second: float) -> Pace:
        """A limit of so many calls a second. A wait for it ends early when the daemon stops."""
        return Pace(per_second, time.monotonic, self.stopping.wait)
