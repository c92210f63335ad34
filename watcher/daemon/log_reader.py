"""The loop `logs`: reads the logs of rules in progress, in one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from watcher.aws.refused_calls import RefusedCalls
from watcher.daemon.expected_errors import expected_errors
from watcher.jobs.work import Pace
from watcher.logs.rule_monitor import RuleMonitor
from watcher.store.base import Store

LEASE_NAME = "rule logs"
"""The process that reads them holds this lease in the store. If it dies, another takes over. Should both read
for a moment, a finding of both is still sent once, because it has the same id."""


@dataclass(frozen=True, slots=True)
class LogReader:
    monitor: RuleMonitor
    store: Store
    owner: str
    """This process's name in the store."""
    lease_s: float
    pace: Pace
    refused: RefusedCalls
    clock: Callable[[], datetime]
    stopping: Callable[[], bool]

    def run(self, turned: Callable[[], None]) -> None:
        self.pace.keep()  # returns at once, and starts the interval before the second turn
        while not self.stopping():
            turned()
            with expected_errors(self.refused):
                if self.store.hold([LEASE_NAME], self.owner, self.lease_s):
                    self.monitor.cycle()
            self.pace.keep()
        with expected_errors(self.refused):
            self.store.release([LEASE_NAME], self.owner)
