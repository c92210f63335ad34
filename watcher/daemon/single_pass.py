"""`watcher run --once`: does what the daemon's loops do, once and one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from watcher.aws.refused_calls import RefusedCalls
from watcher.daemon.evaluation_worker import EvaluationWorker
from watcher.daemon.expected_errors import expected_errors
from watcher.delivery.outbox import Outbox
from watcher.errors import AwsError, LeaseLost
from watcher.jobs.reconcile import Reconciler
from watcher.jobs.work import LocalWork

DELIVERY_TIMEOUT_S = 60.0
"""How long deliveries and stops may take, retries included."""


@dataclass(frozen=True, slots=True)
class SinglePass:
    reconciler: Reconciler
    work: LocalWork
    evaluations: EvaluationWorker
    outbox: Outbox
    refused: RefusedCalls
    start_job_workers: Callable[[], Sequence[threading.Thread]]
    stopping: Callable[[], bool]

    def run(self) -> bool:
        """True if every account and region answered and no delivery is open."""
        complete = delivered = False
        job_workers = self.start_job_workers()
        with expected_errors(self.refused):
            complete = self.reconciler.run().complete
        self.work.wait_until_empty(self.stopping)
        self.work.close()
        for worker in job_workers:
            worker.join()
        while self._evaluates():
            pass
        with expected_errors(self.refused):
            delivered = self.outbox.run_until_empty(DELIVERY_TIMEOUT_S)
        return complete and delivered

    def _evaluates(self) -> bool:
        """Continue what is due, one step. False if nothing is, or if the store does not answer."""
        if self.stopping():
            return False
        more = True  # what could not be read is due again only after its lease, so it holds up no other
        with expected_errors(self.refused) as errors:
            more = self.evaluations.evaluate_due()
        return more and all(isinstance(error, AwsError | LeaseLost) for error in errors)
