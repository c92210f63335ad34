"""The loops `evaluate-N`: evaluate rules on what jobs have saved, as their evaluations become due."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

from watcher.aws.accounts import Accounts
from watcher.aws.backoff import Backoff
from watcher.aws.metrics import MAX_SERIES_PER_REQUEST
from watcher.aws.metrics import OPERATION as GET_METRIC_DATA
from watcher.aws.refused_calls import TRIED_AGAIN, RefusedCalls
from watcher.aws.session import ASSUME_ROLE, Aws
from watcher.config.settings import Rules, Watch
from watcher.daemon.expected_errors import expected_errors, lost_lease
from watcher.errors import AwsError, CredentialsError, NotFound, StoreError, Unavailable
from watcher.jobs.failures import Failures
from watcher.jobs.pipeline import Pipeline
from watcher.logs.evaluation_log import EvaluationLog
from watcher.model import Evaluation, JobSnapshot, Reads, RuleFamily
from watcher.store.base import DueEvaluation, JobRecord, Store

if TYPE_CHECKING:
    from watcher.evaluation.evaluator import Evaluator

EVALUATION_LEASE_S = 300.0
"""An evaluation that has not ended by then is tried again."""
MAX_IDLE_S = 30.0
"""The store is asked for due evaluations at least this often: other processes write to it as well."""
ERROR_PAUSE_S = 5.0
"""Pause after AWS or the store has refused a call."""


class EvaluationWorker:
    """Safe to use from several threads: the store gives each job to one of them."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        store: Store,
        pipeline: Pipeline,
        rules: Rules,
        evaluation_log: EvaluationLog | None,
        refused: RefusedCalls,
        clock: Callable[[], datetime],
        stopping: Callable[[], bool],
        since: Callable[[JobSnapshot], datetime | None],
        watch: Watch,
        failures: Failures,
    ) -> None:
        """`since`: see `EarlierRuns`. `watch`: which jobs a rule may compare with."""
        self._watch, self._failures, self._backoff = watch, failures, Backoff(clock)
        self._accounts, self._store, self._pipeline = accounts, store, pipeline
        self._rules, self._evaluation_log, self._refused = rules, evaluation_log, refused
        self._clock, self._stopping, self._since = clock, stopping, since
        self._wake = threading.Event()

    def run(self, turned: Callable[[], None]) -> None:
        """Evaluate until the daemon stops, which must then call `wake`."""
        while not self._stopping():
            turned()
            self._wake.clear()
            wait = ERROR_PAUSE_S
            with expected_errors(self._refused):
                if self.evaluate_due():
                    continue
                due = self._store.next_evaluation()
                wait = (due - self._clock()).total_seconds() if due else MAX_IDLE_S
            self._wake.wait(min(max(wait, 0.1), MAX_IDLE_S))

    def wake(self) -> None:
        """Look for due evaluations now, because there may be new ones or the daemon stops."""
        self._wake.set()

    def evaluate_due(self) -> bool:
        """Continue the evaluations that are due: all that read metrics, and of those that read what one job
        has saved the one that has waited longest. False if none is due.

        Raises `AwsError` and `StoreError`.
        """
        return any([self._evaluate_together(), self._evaluate_alone()])

    def _evaluate_together(self) -> bool:
        claimed = self._store.claim_evaluations(
            self._clock(), EVALUATION_LEASE_S, MAX_SERIES_PER_REQUEST, together=True
        )
        by_place: defaultdict[Aws, list[tuple[JobRecord, Evaluation]]] = defaultdict(list)
        for record, evaluation in self._stored(claimed):
            by_place[self._accounts.of(record.snapshot.arn)].append((record, evaluation))
        for place, evaluations in by_place.items():
            with expected_errors(self._refused, place) as errors:
                for record, evaluation in self.evaluator.advance_together(place, evaluations):
                    with self._isolated(record), lost_lease():  # the others go on
                        self._pipeline.evaluated(record.snapshot.run, evaluation)
            if not errors:
                self._refused.resolved(GET_METRIC_DATA, place)
        return bool(claimed)

    def _evaluate_alone(self) -> bool:
        claimed = self._store.claim_evaluations(self._clock(), EVALUATION_LEASE_S, 1, together=False)
        for record, evaluation in self._stored(claimed):
            bound = structlog.contextvars.bound_contextvars(job=record.snapshot.name)
            with bound, self._isolated(record), expected_errors(self._refused):
                self._pipeline.evaluated(record.snapshot.run, self._advanced(record, evaluation))
        return bool(claimed)

    def _isolated(self, record: JobRecord) -> AbstractContextManager[list[Exception]]:
        """Ends an unexpected error with the one run that leads to it."""
        consequence = "the evaluation is tried again when its lease ends"
        return self._failures.caught("evaluation_failed", consequence, run=record.snapshot.run)

    def _advanced(self, record: JobRecord, before: Evaluation) -> Evaluation:
        """The evaluation after another look, or when to try again. What is refused or fails costs no other
        job its turn: neither a pause, nor a request for each job to what does not answer."""
        job = record.snapshot
        place, bucket = self._accounts.of(job.arn), _bucket(job, before)
        account = f"account {place.name}"
        if until := self._backoff.wait_until([account, bucket]):
            return replace(before, due_at=until)
        silent: set[str] = set()
        try:
            return replace(self.evaluator.advance(record, before), failures=0)
        except StoreError:
            raise
        except AwsError as error:
            silent = self._refuse(error, place, account, bucket)
            return self.evaluator.later(before)
        except Exception as error:
            return self.evaluator.failed(record, before, error)
        finally:
            self._backoff.answered({account, bucket} - silent)

    def _refuse(self, error: AwsError, place: Aws, account: str, bucket: str) -> set[str]:
        """Report a refusal. Returns what does not answer: the account, the bucket, or neither."""
        if isinstance(error, CredentialsError) or error.operation == ASSUME_ROLE:
            self._refused.report(error, TRIED_AGAIN, place)
            self._backoff.refused(account)
            return {account}
        self._failures.report(error, "evaluation_refused", TRIED_AGAIN, at=place.name, bucket=bucket)
        # Access denied may concern the objects of one job only.
        if isinstance(error, NotFound | Unavailable) and error.operation.startswith("s3:"):
            self._backoff.refused(bucket)
            return {bucket}
        return set()

    def _stored(self, claimed: Iterable[DueEvaluation]) -> Iterator[tuple[JobRecord, Evaluation]]:
        """Reads a run once that has several evaluations due."""
        families: defaultdict[str, list[RuleFamily]] = defaultdict(list)
        for due in claimed:
            families[due.run].append(due.family)
        for run, due_families in families.items():
            if record := self._store.job(run):
                for family in due_families:
                    if evaluation := record.evaluation(family):
                        yield record, evaluation

    @cached_property
    def evaluator(self) -> Evaluator:
        # Imported here because it imports numpy, which a daemon without rules to evaluate does not need.
        from watcher.evaluation.evaluator import Evaluator

        write_log = self._evaluation_log.write if self._evaluation_log else None
        return Evaluator(
            self._accounts,
            self._rules,
            self._clock,
            write_log,
            self._since,
            watch=self._watch,
            failures=self._failures,
        )


def _bucket(job: JobSnapshot, evaluation: Evaluation) -> str:
    """Where the evaluation reads what the job has saved: the beginning of the place on S3."""
    saved = evaluation.reads is Reads.PROFILER_OUTPUT
    return "/".join((job.profiler_output if saved else job.debug_output).split("/", 3)[:3])
