"""Checks that the store and the queue are reachable, and what destinations refuse, for `/readyz`, the metrics
and the heartbeat."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from watcher.aws.queue import Depth
from watcher.errors import WatcherError
from watcher.model import Delivery
from watcher.store.base import Store
from watcher.store.incident_views import Refusal, refusals
from watcher.text import printable

CHECK_INTERVAL_S = 10.0
"""The shortest time between two checks, however many requests arrive."""
CHECK_TIMEOUT_S = 60.0
"""A check that takes longer counts as failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    problems: tuple[str, ...] = ()
    """One sentence for each of store and queue that is not reachable."""
    overdue: float | None = None
    """Seconds for which the next delivery has been due, 0 if none is; None if the store is not reachable."""
    queue: Depth | None = None
    """None if there is no queue, or it is not reachable."""
    refused: tuple[Delivery, ...] = ()
    """What destinations refuse at present."""

    @property
    def ready(self) -> bool:
        return not self.problems

    @property
    def degraded(self) -> tuple[str, ...]:
        """One sentence for each destination that refuses alerts, and each reason."""
        return tuple(_refusal(each) for each in refusals(self.refused))


def _refusal(refusal: Refusal) -> str:
    number = len(refusal["incidents"])
    return (
        f"{refusal['to']} has refused the alerts of {number} {'incident' if number == 1 else 'incidents'} "
        f"since {refusal['since']:%Y-%m-%d %H:%M:%S} UTC: {printable(refusal['error']).rstrip('.')}. "
        "Fix this, then run `watcher redeliver`"
    )


class Readiness:
    """`depth` asks the queue; None if there is none. Safe to use from several threads."""

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
        self._answered_at = self._asked_at = monotonic() - CHECK_INTERVAL_S

    def answer(self) -> Answer:
        """The last answer, or a new one if the last is older than `CHECK_INTERVAL_S`.

        Only one thread at a time asks store and queue. Meanwhile, the others get the last answer.
        """
        age = self._monotonic() - self._answered_at
        if age >= CHECK_INTERVAL_S and self._asking.acquire(blocking=False):
            try:
                self._asked_at = self._monotonic()
                self._answer = self._ask()
                self._answered_at = self._monotonic()
            finally:
                self._asking.release()
        waited = self._monotonic() - self._asked_at
        if self._asked_at > self._answered_at and waited >= CHECK_TIMEOUT_S:
            return Answer(problems=(f"store and queue have not answered for {waited:.0f} s",))
        return self._answer

    def _ask(self) -> Answer:
        problems: list[str] = []
        overdue: float | None = None
        queue: Depth | None = None
        refused: tuple[Delivery, ...] = ()
        try:
            due = self._store.next_due()
            overdue = max((self._clock() - due).total_seconds(), 0.0) if due else 0.0
            refused = tuple(self._store.refused())
        except WatcherError as error:
            problems.append(str(error))
        try:
            queue = self._depth() if self._depth else None
        except WatcherError as error:
            problems.append(str(error))
        return Answer(tuple(problems), overdue, queue, refused)
