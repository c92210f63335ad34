"""What the profiler saves of a job, as a look reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import structlog

from rules.profiler import Batch
from watcher.profiler_output.reader import ProfilerOutput, Reader, UnreadableFile

log = structlog.get_logger(__name__)

MAX_BATCHES_PER_LOOK = 24
"""A batch is an hour at most. This bounds how long one look takes at a job that has trained for days."""


class SavedProfile:
    def __init__(self, output: ProfilerOutput, cursor: str, *, ended: bool) -> None:
        """`ended`: whether the job has ended, so that nothing more is saved."""
        self._reader = Reader(output, json.loads(cursor) if cursor else None)
        self._job_ended = ended
        self.place = output.uri
        self.behind = False
        """After `read`: whether there is more to read right now."""

    @property
    def ended(self) -> bool:
        return self._job_ended and not self.behind

    @property
    def cursor(self) -> str:
        return json.dumps(self._reader.cursor)

    @property
    def empty(self) -> bool:
        """After `read`: whether nothing was ever saved."""
        return not self._reader.cursor["until"]

    def read(self) -> Iterator[Batch]:
        """What is new. A file that cannot be read is logged and left out."""
        batches = 0
        for one in self._reader.read(ended=self._job_ended):
            if isinstance(one, UnreadableFile):
                log.warning("unreadable_profiler_file", error=one.reason)
                continue
            yield one
            batches += 1
            if batches == MAX_BATCHES_PER_LOOK:
                self.behind = True
                return
