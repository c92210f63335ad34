"""Tells what an earlier run of a job's name has left behind from what its present run writes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from watcher.model import JobSnapshot
from watcher.store.base import Store


@dataclass(frozen=True, slots=True)
class EarlierRuns:
    """Safe to use from several threads."""

    store: Store

    def since(self, job: JobSnapshot) -> datetime | None:
        """From when on files and log streams are this run's: from its creation, if the store knows an earlier
        run of its name. None: all of them, because a job may also find what was put there for it.

        Both runs save in the same place, and the earlier one's files stay until they are overwritten. A run
        writes its first file at least seconds after its creation, so small differences between the clocks of
        S3 and SageMaker do not matter. Raises `StoreError`.
        """
        return job.created_at if self.store.has_earlier_run(job.run) else None
