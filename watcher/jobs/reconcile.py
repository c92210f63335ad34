"""Asks SageMaker which jobs are in progress and which ended lately, and queues those to be described.

`Search` returns whole records, 100 on a page, so a job that has not changed costs no request of its own. It
lacks profiler rules: `DescribeTrainingJob` reads these, one job at a time.

A job may begin and end while nobody looks: between two passes, or while no process runs. So a pass also asks
for the jobs that changed since the last pass that succeeded; its start is stored as the mark of the account
and region.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from watcher.arn import job_name
from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import TRIED_AGAIN, RefusedCalls
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.config.settings import Watch
from watcher.errors import AccessDenied, LeaseLost
from watcher.jobs.pipeline import NOT_MATCHED, Pipeline
from watcher.jobs.work import Urgency, Work
from watcher.model import IN_PROGRESS
from watcher.policy.watched import matches
from watcher.store.base import JobRecord, Store, WatchedJob

log = structlog.get_logger(__name__)

SEARCH = "sagemaker:Search"
LIST = "sagemaker:ListTrainingJobs"
OVERLAP_S = 300.0
"""How far a pass looks back before the mark: `Search` finds a change some time after it was made, and the
clocks of Watcher and SageMaker may differ."""
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
        records = {arn: self._newest_run(arn) for arn in self.only}
        return [
            arn
            for arn, record in records.items()
            if record is None or record.watching or _being_evaluated(record)
        ]

    def _newest_run(self, arn: str) -> JobRecord | None:
        return next((run for run in self.store.jobs(job_name(arn)) if run.snapshot.arn == arn), None)

    def _look_everywhere(self) -> Pass:
        before = self.store.watching()
        known = {job.run: job.fingerprint for job in before}
        places = self.accounts.places
        others = len(places) > 1
        seen: dict[Aws, set[str] | None] = {}
        for place in places:
            # Jobs of a place that refuses are missing from `seen`, so none of them looks ended.
            with self.refused.reported(OTHERS_GO_ON if others else TRIED_AGAIN, place):
                seen[place] = self._look_at(place, known)
        complete = len(seen) == len(places)
        if self.stopping():  # the pass was cut short, and jobs that it has not reached would look ended
            return Pass(before, complete)
        by_place: defaultdict[Aws, list[WatchedJob]] = defaultdict(list)
        after = self.store.watching()
        newest = {job.arn: job.run for job in sorted(after, key=lambda job: job.run)}
        for job in after:
            if job.run != newest[job.arn]:
                with suppress(LeaseLost):  # the next pass tries again
                    self.pipeline.replaced(newest[job.arn])
            elif self.watch.names(job.name):
                by_place[self.accounts.of(job.arn)].append(job)
            else:  # the settings have changed
                with suppress(LeaseLost):  # the next pass tries again
                    self.pipeline.unwatch(job.arn, NOT_MATCHED)
        for place, in_progress in seen.items():
            for arn, urgency in due(by_place[place], in_progress, self.clock()):
                self.work.put(arn, urgency)
        return Pass([job for jobs in by_place.values() for job in jobs], complete)

    def _look_at(self, place: Aws, known: Mapping[str, str]) -> set[str] | None:
        """The runs in progress there; None if `Search` is not allowed. Moves the mark."""
        began = self.clock()
        since = self._changed_since(place, began)
        try:
            seen = self._search(place, known)
            self._search_changed(place, since)
        except AccessDenied as error:
            if error.operation != SEARCH:
                raise
            self.refused.report(error, "using ListTrainingJobs and DescribeTrainingJob instead", place)
            seen = None
            # The mark moves once the jobs of earlier passes have been described: they are in no store yet.
            complete = self.work.waiting() == 0
            self._list(place, since)
        else:
            self.refused.resolved(SEARCH, place)
            complete = True
        if complete and not self.stopping():
            self.store.set_mark(place.name, began)
        return seen

    def _changed_since(self, place: Aws, now: datetime) -> datetime:
        """From when on to ask for changed jobs. A first pass looks back `watch.look_back` seconds."""
        if (mark := self.store.mark(place.name)) is None:
            return now - timedelta(seconds=self.watch.look_back)
        return min(mark, now) - timedelta(seconds=OVERLAP_S)

    def _search(self, place: Aws, known: Mapping[str, str]) -> set[str]:
        """Pass each page of jobs in progress on to the pipeline as it comes. Returns their runs."""
        seen: set[str] = set()
        for page in TrainingJobs(place).in_progress(self.watch.tags):
            if self.stopping():
                break
            found = [job for job in page if matches(job, self.watch)]
            self.pipeline.found(found, known)
            seen.update(job.run for job in found)
        return seen

    def _search_changed(self, place: Aws, since: datetime) -> None:
        """The same for the jobs that are not in progress any more, which are mostly stored already."""
        for page in TrainingJobs(place).changed_since(since, self.watch.tags):
            if self.stopping():
                break
            if found := [job for job in page if matches(job, self.watch)]:
                self.pipeline.found(found, self.store.fingerprints([job.run for job in found]))

    def _list(self, place: Aws, since: datetime) -> None:
        """Queue the jobs in progress and those that changed, without their records."""
        jobs = TrainingJobs(place)
        for pages, urgency in (
            (jobs.arns_in_progress(), Urgency.DUE),
            (jobs.arns_changed_since(since), Urgency.ENDED),
        ):
            for page in pages:
                if self.stopping():
                    return
                for arn in page:
                    if self.watch.names(job_name(arn)):
                        self.work.put(arn, urgency)
        self.refused.resolved(LIST, place)


def _being_evaluated(record: JobRecord) -> bool:
    return any(evaluation.due_at for evaluation in record.evaluations)


def due(
    watching: Collection[WatchedJob], seen: Collection[str] | None, now: datetime
) -> Iterator[tuple[str, Urgency]]:
    """Which of the watched jobs to describe now, and how urgently. Pure.

    `seen`: all runs in progress, or None if they are not known.
    """
    for job in watching:
        if job.status != IN_PROGRESS or (seen is not None and job.run not in seen):
            yield job.arn, Urgency.ENDED
        elif seen is None or (job.describe_at is not None and job.describe_at <= now):
            yield job.arn, Urgency.DUE
