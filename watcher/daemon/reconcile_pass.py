"""The loop `reconcile`: a pass over all jobs in progress, and those that ended since the last pass.

Without a queue, each process makes its own passes. Processes that share a queue need only one pass in each
interval, since it puts the jobs into the queue; the store decides which process makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from watcher.aws.refused_calls import RefusedCalls
from watcher.daemon.expected_errors import expected_errors
from watcher.daemon.incident_count import IncidentCount
from watcher.instruments import Instruments
from watcher.jobs.reconcile import Reconciler
from watcher.store.base import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReconcilePass:
    reconciler: Reconciler
    store: Store
    instruments: Instruments
    incidents: IncidentCount
    refused: RefusedCalls
    clock: Callable[[], datetime]
    interval_s: float
    on_a_queue: bool
    stop: Callable[[], None]
    """Called when the jobs that the command line names are finished."""

    def run(self) -> None:
        with expected_errors(self.refused):
            if self._is_our_turn():
                done = self.reconciler.run()
                if done.complete:
                    self.instruments.reconciled(self.clock())
                    self.instruments.watched(job.status for job in done.watched)
                self.incidents.update()
            else:  # the process that makes the pass reports jobs and incidents
                self.instruments.watched(())
                self.incidents.leave()
            if self.reconciler.finished() and not self.store.has_open():
                log.info("finished", jobs=self.reconciler.only)
                self.stop()

    def _is_our_turn(self) -> bool:
        turn = int(self.clock().timestamp() // self.interval_s)
        return not self.on_a_queue or self.store.take_turn("reconcile", turn)
