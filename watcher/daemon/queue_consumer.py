"""The loops `receive` and `keep`: take messages from the SQS queue, and hold them until they are handled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.daemon.expected_errors import expected_errors
from watcher.jobs.queued_work import QueuedWork
from watcher.jobs.work import Pace

ERROR_PAUSE_S = 5.0
"""Pause after SQS has refused a request."""


@dataclass(frozen=True, slots=True)
class QueueConsumer:
    """`receive` and `keep` are loops, each for a thread of its own."""

    queued: QueuedWork
    accounts: Accounts
    refused: RefusedCalls
    receive_pace: Pace
    stopping: threading.Event

    def receive(self, turned: Callable[[], None]) -> None:
        self._repeat(self._receive, turned)

    def keep(self, turned: Callable[[], None]) -> None:
        self._repeat(self.queued.keep, turned)

    def hand_back(self) -> None:
        """Delete the messages of jobs that were handled, and make the others visible to other processes."""
        for request in (self.queued.settle, self.queued.give_back):
            with expected_errors(self.refused, self.accounts.home):
                request()

    def _receive(self) -> None:
        self.receive_pace.keep()
        self.queued.receive()

    def _repeat(self, request: Callable[[], None], turned: Callable[[], None]) -> None:
        while not self.stopping.is_set():
            turned()
            with expected_errors(self.refused, self.accounts.home) as errors:
                request()
            if errors:
                self.stopping.wait(ERROR_PAUSE_S)
