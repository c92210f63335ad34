"""The source that needs nothing but SageMaker's API: it asks which jobs are in progress.

`Search` gives whole records, 100 a page, so jobs that are known and unchanged cost nothing more. What
it cannot tell (profiler rules, jobs that have ended) is left to the workers, which describe one job at
a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from watcher.aws.sagemaker import TrainingJobs
from watcher.config import Watch
from watcher.errors import AccessDenied
from watcher.faults import Faults
from watcher.model import IN_PROGRESS
from watcher.pipeline import Pipeline, matches
from watcher.store.base import JobRecord, Store, WatchedJob
from watcher.work import LookAgain, Urgency

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """One pass after the other; never two at a time."""

    jobs: TrainingJobs
    store: Store
    pipeline: Pipeline
    watch: Watch
    work: LookAgain
    faults: Faults
    clock: Callable[[], datetime]
    stopping: Callable[[], bool]
    """Whether to leave the pass where it is: a sweep over many jobs outlasts the time there is to end."""
    only: Sequence[str] = ()
    """Job names from the command line: these are watched, and nothing else is asked for."""

    def run(self) -> None:
        """One pass over everything. Raises `AwsError`; what was found until then is handled."""
        if self.only:
            self._look_at_named()
        else:
            self._look_at_all()

    def finished(self) -> bool:
        """Jobs were named, and nothing more can be learnt of any of them."""
        return bool(self.only) and not self._unfinished()

    def _look_at_named(self) -> None:
        for name in self._unfinished():
            self.work.put(name, Urgency.DUE)

    def _unfinished(self) -> list[str]:
        over = {
            record.snapshot.name
            for name in self.only
            for record in self.store.jobs(name)
            if not record.watching and not _being_evaluated(record)
        }
        return [name for name in self.only if name not in over]

    def _look_at_all(self) -> None:
        watching = {job.arn: job for job in self.store.watching()}
        try:
            seen = self._search(watching)
        except AccessDenied as error:
            self.faults.say(error, consequence="using ListTrainingJobs and DescribeTrainingJob instead")
            for name in self._list():
                self.work.put(name, Urgency.DUE)
            seen = None
        else:
            self.faults.over("sagemaker:Search")
        if self.stopping():
            return  # the sweep may not have seen every job, and one it has not seen would look ended
        for name, urgency in due(self.store.watching(), seen, self.clock()):
            if self.watch.names(name):
                self.work.put(name, urgency)

    def _search(self, watching: dict[str, WatchedJob]) -> set[str]:
        """Hand each page to the pipeline as it comes; returns the ARNs of all jobs in progress."""
        seen: set[str] = set()
        for page in self.jobs.in_progress(self.watch.tags):
            if self.stopping():
                break
            found = [job for job in page if matches(job, self.watch)]
            self.pipeline.found(found, watching)
            seen.update(job.arn for job in found)
        return seen

    def _list(self) -> Iterator[str]:
        for page in self.jobs.names_in_progress():
            yield from (name for name in page if self.watch.names(name))
        self.faults.over("sagemaker:ListTrainingJobs")


def _being_evaluated(record: JobRecord) -> bool:
    return record.evaluation is not None and record.evaluation.due_at is not None


def due(
    watching: Collection[WatchedJob], seen: Collection[str] | None, now: datetime
) -> Iterator[tuple[str, Urgency]]:
    """Which of the watched jobs are to be described now, and how urgently. Pure.

    `seen` are the ARNs of all jobs in progress; None where nobody could tell.
    """
    for job in watching:
        if job.status != IN_PROGRESS or (seen is not None and job.arn not in seen):
            yield job.name, Urgency.ENDED
        elif seen is None or (job.describe_at is not None and job.describe_at <= now):
            yield job.name, Urgency.DUE
