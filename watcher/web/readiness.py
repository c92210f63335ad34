"""Whether what the daemon cannot do without answers: its store and its queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from watcher.aws.queue import Depth
from watcher.errors import WatcherError
from watcher.store.base import Store

FRESH = 10.0
"""Seconds for which an answer is good: however many ask, store and queue are asked no more often."""
STALE = 60.0
"""Seconds after which the last answer counts no more: whoever asks for the next one hangs."""


@dataclass(frozen=True, slots=True)
class Answer:
    problems: tuple[str, ...] = ()
    """A sentence for each of the two that does not answer."""
    overdue: float | None = None
    """Seconds for which the delivery that is due next has waited; None where the store does not answer."""
    queue: Depth | None = None
    """None where there is no queue, or it does not answer."""

    @property
    def ready(self) -> bool:
        return not self.problems


class Readiness:
    """`depth` asks the queue, where there is one. Safe to use from several threads."""

    def __init__(
        self,
        store: Store,
        depth: Callable[[], Depth] | None,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._store, self._depth = store, depth
        self._clock, self._monotonic = clock, monotonic
        self._asking = threading.Lock()
        self._answer = Answer(problems=("store and queue have not answered yet",))
        self._answered_at = self._asked_at = monotonic() - FRESH

    def answer(self) -> Answer:
        """Asks, unless the last answer is fresh. While another thread asks, that answer is given again."""
        age = self._monotonic() - self._answered_at
        if age >= FRESH and self._asking.acquire(blocking=False):
            try:
                self._asked_at = self._monotonic()
                self._answer = self._ask()
                self._answered_at = self._monotonic()
            finally:
                self._asking.release()
        waited = self._monotonic() - self._asked_at
        if self._asked_at > self._answered_at and waited >= STALE:
            return Answer(problems=(f"store and queue have not answered for {waited:.0f} s",))
        return self._answer

    def _ask(self) -> Answer:
        problems: list[str] = []
        overdue: float | None = None
        queue: Depth | None = None
        try:
            due = self._store.next_due()
            overdue = max((self._clock() - due).total_seconds(), 0.0) if due else 0.0
        except WatcherError as error:
            problems.append(str(error))
        try:
            queue = self._depth() if self._depth else None
        except WatcherError as error:
            problems.append(str(error))
        return Answer(tuple(problems), overdue, queue)
