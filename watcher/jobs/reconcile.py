"""The source that needs nothing but SageMaker's API: it asks which jobs are in progress.

`Search` gives whole records, 100 a page, so jobs that are known and unchanged cost nothing more. What
it cannot tell (profiler rules, jobs that have ended) is left to the workers, which describe one job at
a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from watcher.arn import job_name
from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import Faults
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.config.settings import Watch
from watcher.errors import AccessDenied, AwsError
from watcher.jobs.pipeline import Pipeline, matches
from watcher.jobs.work import Urgency, Work
from watcher.model import IN_PROGRESS
from watcher.store.base import JobRecord, Store, WatchedJob

log = structlog.get_logger(__name__)

SEARCH = "sagemaker:Search"


@dataclass(frozen=True, slots=True)
class Reconciler:
    """One pass after the other; never two at a time."""

    accounts: Accounts
    store: Store
    pipeline: Pipeline
    watch: Watch
    work: Work
    faults: Faults
    clock: Callable[[], datetime]
    stopping: Callable[[], bool]
    """Whether to leave the pass where it is: a sweep over many jobs outlasts the time there is to end."""
    only: Sequence[str] = ()
    """ARNs of the jobs that the command line named: these are watched, and nothing else is asked for."""

    def run(self) -> Sequence[WatchedJob]:
        """One pass over everything; the jobs that are watched then. What was found until an error is handled.

        Raises the last `AwsError`, after every other account and region has had its turn.
        """
        if self.only:
            for arn in self._unfinished():
                self.work.put(arn, Urgency.DUE)
            return self.store.watching()
        return self._look_everywhere()

    def finished(self) -> bool:
        """Jobs were named, and nothing more can be learnt of any of them."""
        return bool(self.only) and not self._unfinished()

    def _unfinished(self) -> list[str]:
        records = {arn: self.store.job(arn) for arn in self.only}
        return [
            arn
            for arn, record in records.items()
            if record is None or record.watching or _being_evaluated(record)
        ]

    def _look_everywhere(self) -> Sequence[WatchedJob]:
        before = self.store.watching()
        watching = {job.arn: job for job in before}
        seen: dict[Aws, set[str] | None] = {}
        refused: AwsError | None = None
        for place in self.accounts.places:
            try:
                seen[place] = self._look_at(place, watching)
            except AwsError as error:
                # Nothing is known of this place now: none of its jobs looks ended.
                error.at = place.name
                if len(self.accounts.places) > 1:
                    self.faults.say(error, "the other accounts and regions are looked at")
                refused = error
        if self.stopping():
            return before  # the sweep may not have seen every job, and one it has not seen would look ended
        by_place: defaultdict[Aws, list[WatchedJob]] = defaultdict(list)
        after = self.store.watching()
        for job in after:
            if self.watch.names(job.name):
                by_place[self.accounts.of(job.arn)].append(job)
        for place, in_progress in seen.items():
            for arn, urgency in due(by_place[place], in_progress, self.clock()):
                self.work.put(arn, urgency)
        if refused:
            raise refused
        return after

    def _look_at(self, place: Aws, watching: dict[str, WatchedJob]) -> set[str] | None:
        """The ARNs of all jobs in progress there; None where nobody could tell."""
        try:
            seen = self._search(place, watching)
        except AccessDenied as error:
            if error.operation != SEARCH:
                raise
            error.at = place.name
            self.faults.say(error, "using ListTrainingJobs and DescribeTrainingJob instead")
            for arn in self._list(place):
                self.work.put(arn, Urgency.DUE)
            return None
        self.faults.over(SEARCH, at=place.name)
        return seen

    def _search(self, place: Aws, watching: dict[str, WatchedJob]) -> set[str]:
        """Hand each page to the pipeline as it comes."""
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
        self.faults.over("sagemaker:ListTrainingJobs", at=place.name)


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
            yield job.arn, Urgency.ENDED
        elif seen is None or (job.describe_at is not None and job.describe_at <= now):
            yield job.arn, Urgency.DUE
