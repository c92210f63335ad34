"""Jobs are held while they are handled, and let go of however that ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.jobs import NOON, a_job, an_outcome
from tests.pipelines import a_pipeline
from watcher.errors import StoreError
from watcher.model import Finding
from watcher.store.base import Look
from watcher.store.memory import MemoryStore


class Store(MemoryStore):
    full = False

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Finding, ...]:
        if self.full:
            raise StoreError("store watcher.db: the disk is full")
        return super().commit(looks, holder)


def test_what_could_not_be_stored_is_free_for_others_at_once():
    store = Store()
    fired = a_job(outcomes=(an_outcome("IssuesFound"),))
    store.full = True
    with pytest.raises(StoreError):
        a_pipeline(store).found([fired], {})

    store.full = False
    a_pipeline(store, owner="them").found([fired], {})

    assert [finding.job for finding in store.findings()] == [fired.name]


def test_jobs_that_another_process_handles_are_left_to_it():
    store = Store()
    fired = a_job(outcomes=(an_outcome("IssuesFound"),))
    store.hold([fired.arn], "them", NOON, 60)

    a_pipeline(store).found([fired], {})

    assert store.findings() == []
