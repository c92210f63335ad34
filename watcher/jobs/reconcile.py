"""Asks SageMaker which jobs are in progress, and queues those that have to be described.

`Search` returns whole records, 100 on a page, so a job that has not changed costs no request of its own. It
lacks profiler rules and jobs that have ended: `DescribeTrainingJob` reads these, one job at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from watcher.arn import job_name
from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import TRIED_AGAIN, RefusedCalls
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.config.settings import Watch
from watcher.errors import AccessDenied
from watcher.jobs.pipeline import Pipeline, matches
from watcher.jobs.work import Urgency, Work
from watcher.model import IN_PROGRESS
from watcher.store.base import JobRecord, Store, WatchedJob

log = structlog.get_logger(__name__)

SEARCH = "sagemaker:Search"
LIST = "sagemaker:ListTrainingJobs"
OTHERS_GO_ON = "the other accounts and regions are looked at; the next pass tries this one again"


@dataclass(frozen=True, slots=True)
class Pass:
    """The result of one pass."""

    watched: Sequence[WatchedJob]
    """The jobs that are watched after the pass."""
    complete: bool
    """False if AWS refused an account or a region. The next pass asks again."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Passes must not overlap."""

    accounts: Accounts
    store: Store
    pipeline: Pipeline
    watch: Watch
    work: Work
    refused: RefusedCalls
    clock: Callable[[], datetime]
    stopping: Callable[[], bool]
    """Whether to leave a pass unfinished: one over many jobs takes longer than the daemon may take to
    stop."""
    only: Sequence[str] = ()
    """ARNs of the jobs that the command line named. If there are any, no other job is watched."""

    def run(self) -> Pass:
        """Look for jobs everywhere, and queue those that need to be described. Raises `StoreError`."""
        if self.only:
            for arn in self._unfinished():
                self.work.put(arn, Urgency.DUE)
            return Pass(self.store.watching(), complete=True)
        return self._look_everywhere()

    def finished(self) -> bool:
        """True once the jobs that the command line named have ended and are evaluated."""
        return bool(self.only) and not self._unfinished()

    def _unfinished(self) -> list[str]:
        records = {arn: self.store.job(arn) for arn in self.only}
        return [
            arn
            for arn, record in records.items()
            if record is None or record.watching or _being_evaluated(record)
        ]

    def _look_everywhere(self) -> Pass:
        before = self.store.watching()
        watching = {job.arn: job for job in before}
        places = self.accounts.places
        others = len(places) > 1
        seen: dict[Aws, set[str] | None] = {}
        for place in places:
            # Jobs of a place that refuses are missing from `seen`, so none of them looks ended.
            with self.refused.reported(OTHERS_GO_ON if others else TRIED_AGAIN, place):
                seen[place] = self._look_at(place, watching)
        complete = len(seen) == len(places)
        if self.stopping():  # the pass was cut short, and jobs that it has not reached would look ended
            return Pass(before, complete)
        by_place: defaultdict[Aws, list[WatchedJob]] = defaultdict(list)
        after = self.store.watching()
        for job in after:
            if self.watch.names(job.name):
                by_place[self.accounts.of(job.arn)].append(job)
        for place, in_progress in seen.items():
            for arn, urgency in due(by_place[place], in_progress, self.clock()):
                self.work.put(arn, urgency)
        return Pass(after, complete)

    def _look_at(self, place: Aws, watching: dict[str, WatchedJob]) -> set[str] | None:
        """The ARNs of all jobs in progress there; None if `Search` is not allowed."""
        try:
            seen = self._search(place, watching)
        except AccessDenied as error:
            if error.operation != SEARCH:
                raise
            self.refused.report(error, "using ListTrainingJobs and DescribeTrainingJob instead", place)
            for arn in self._list(place):
                self.work.put(arn, Urgency.DUE)
            return None
        self.refused.resolved(SEARCH, place)
        return seen

    def _search(self, place: Aws, watching: dict[str, WatchedJob]) -> set[str]:
        """Pass each page on to the pipeline as it comes."""
        seen: set[str] = set()
        for page in TrainingJobs(place).in_progress(self.watch.tags):
            if self.stopping():
                break
            found = [job for job in page if matches(job, self.watch)]
            self.pipeline.found(found, watching)
            seen.update(job.arn for job in found)
        return seen

    def _list(self, place: Aws) -> Iterator[str]:
        for page in TrainingJobs(place).arns_in_progress():
            yield from (arn for arn in page if self.watch.names(job_name(arn)))
        self.refused.resolved(LIST, place)


def _being_evaluated(record: JobRecord) -> bool:
    return record.evaluation is not None and record.evaluation.due_at is not None


def due(
    watching: Collection[WatchedJob], seen: Collection[str] | None, now: datetime
) -> Iterator[tuple[str, Urgency]]:
    """Which of the watched jobs to describe now, and how urgently. Pure.

    `seen`: the ARNs of all jobs in progress, or None if that is not known.
    """
    for job in watching:
        if job.status != IN_PROGRESS or (seen is not None and job.arn not in seen):
            yield job.arn, Urgency.ENDED
        elif seen is None or (job.describe_at is not None and job.describe_at <= now):
            yield job.arn, Urgency.DUE
