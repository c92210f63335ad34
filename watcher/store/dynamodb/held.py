"""What this process has read of the jobs that it holds, so that a commit need not read it again.

A job is held by its ARN, because its run is known only after it was described.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from watcher.arn import run_arn
from watcher.store.dynamodb.writes import Item

# The states of one job in this memory:
#
#                  add (hold)                  read (job)
#     ┌─────────┐ ───────────► ┌────────────┐ ────────────► ┌──────┐ ──┐
#     │ nothing │              │ "not read" │               │ item │   │ read (job)
#     └─────────┘ ◄─────────── └────────────┘ ◄──────────── └──────┘ ◄─┘
#          ▲     take (commit)                 add (hold)       │
#          │     drop (release)                                 │
#          └────────────────────────────────────────────────────┘
#                       take (commit), drop (release)
#
# For example, an event says that job `churn` has changed, and the table has its item in version 7:
#
#     hold      writes the lease                                     churn: not read
#     job       reads the item                                       churn: version 7
#     commit    writes version 8 if the item is still version 7,
#               and removes the lease if it is still ours            nothing
#
# That is one read and two writes. Without this memory, the commit would read the item and the lease again.
#
# The memory may be wrong, and nothing depends on it being right. All threads of a process share it. The one
# that holds a job adds and takes; but any thread may read the job meanwhile, such as the outbox for an alert,
# and so replace what is remembered by an older version, if its answer was late. Another process may write the
# item, or take over the lease. In each of these cases a condition of the commit does not hold, nothing is
# written, and the next attempt reads everything from the table.
#
# The lock has one purpose: a run is added to a job only while the job is there. Otherwise a late reader could
# add it after the commit has taken the job, to be found when the job is held again.


class HeldJobs:
    """The items of the runs of jobs that this process holds. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[str, dict[str, Item | None]] = {}
        """By ARN and run: the run's item, or None if it has none. A run that was not read is missing."""

    def add(self, arns: Iterable[str]) -> None:
        with self._lock:
            for arn in arns:
                self._items[arn] = {}

    def read(self, run: str, item: Item | None) -> None:
        """Remember the item of a run, if its job is held."""
        with self._lock:
            if (items := self._items.get(run_arn(run))) is not None:
                items[run] = item

    def take(self, runs: Sequence[str]) -> list[Item] | None:
        """Forget the jobs of these runs; returns the items that the runs have, or None if any of them was not
        read."""
        with self._lock:
            held = [(self._items.pop(run_arn(run), {}), run) for run in runs]
        if any(run not in items for items, run in held):
            return None
        return [item for items, run in held if (item := items[run])]

    def drop(self, arn: str) -> None:
        with self._lock:
            self._items.pop(arn, None)
