"""Jobs are held while they are handled, and released afterwards in any case."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from tests.jobs import a_job, an_ended_job, an_outcome
from tests.pipelines import a_pipeline
from watcher.errors import StoreError
from watcher.model import Case
from watcher.store.base import JobRecord, Look
from watcher.store.memory import MemoryStore


class Store(MemoryStore):
    full = False

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Case, ...]:
        if self.full:
            raise StoreError("store watcher.db: the disk is full")
        return super().commit(looks, holder)


def test_a_job_whose_commit_failed_is_released_immediately():
    store = Store()
    fired = a_job(outcomes=(an_outcome("IssuesFound"),))
    store.full = True
    with pytest.raises(StoreError):
        a_pipeline(store).found([fired], {})

    store.full = False
    a_pipeline(store, owner="them").found([fired], {})

    assert [finding.job for finding in store.findings()] == [fired.name]


def test_jobs_that_another_process_holds_are_left_to_it():
    store = Store()
    fired = a_job(outcomes=(an_outcome("IssuesFound"),))
    store.hold([fired.arn], "them", 60)

    a_pipeline(store).found([fired], {})

    assert store.findings() == []


def test_an_older_answer_of_search_than_the_stored_one_is_ignored_and_the_job_released():
    store = MemoryStore()
    failed = an_ended_job(status="Failed")
    a_pipeline(store).found([failed], {})
    outdated = a_job()
    a_pipeline(store).found([outdated], store.fingerprints([failed.run]))

    assert store.jobs()[0].snapshot == failed
    assert store.hold([failed.arn], "them", 60) == {failed.arn}


class OddRun(MemoryStore):
    """Fails unexpectedly wherever it meets the job `odd`: when it is read, or when it is written."""

    reading = writing = False

    def job(self, run: str) -> JobRecord | None:
        if self.reading and "/odd" in run:
            raise OverflowError("cannot convert float infinity to integer")
        return super().job(run)

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Case, ...]:
        if self.writing and any("/odd" in look.snapshot.run for look in looks):
            raise RecursionError("maximum recursion depth exceeded")
        return super().commit(looks, holder)


@pytest.mark.parametrize("fault", ["reading", "writing"])
def test_an_unexpected_error_in_one_run_ends_with_it_and_is_logged_once(fault: str):
    store = OddRun()
    setattr(store, fault, True)
    fired = (an_outcome("IssuesFound"),)
    jobs = [a_job(name, outcomes=fired) for name in ("fraud", "odd", "churn")]
    pipeline = a_pipeline(store)

    with capture_logs() as logs:
        for _ in range(2):
            pipeline.found(jobs, {})

    assert {finding.job for finding in store.findings()} == {"fraud", "churn"}
    assert [line["run"] for line in logs if line["log_level"] == "error"] == [jobs[1].run]
    assert store.hold([jobs[1].arn], "them", 60), "it is released"
