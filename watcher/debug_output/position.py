"""How far the debug output of a job has been read, and which of its files to read now.

In a job with several workers, a step is read when smdebug would count it as complete:

- when each worker has saved the step or a later one: a worker saves its steps in order;
- if a worker has saved nothing while more than `MAX_WAITING_FILES` files of the others wait: the older half
  of these (smdebug does the same at 1,000 steps);
- when the job has ended: all steps.

The collections files say how many workers there are; if the hook did not know, all workers seen so far
count. Uploads may overtake one another, so a file may arrive after a later step was read. It is not missed:
each listing begins about `LIST_OVERLAP_FILES` files before the newest one that was read.

Example with two workers, which have saved the steps 0, 10, 20 and 0, 10: 0 and 10 are read, 20 waits. Now w1
saves 20 and 30: 20 is read (both have it), 30 waits for w0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from watcher.debug_output.event_files import EventFile

LIST_OVERLAP_FILES = 50
"""About how many files a listing shows again. Together with those that wait, they fit into one page (1,000),
so that a refresh is one request."""
MAX_WAITING_FILES = 400
"""How many files may wait for a worker that saves nothing."""


@dataclass(slots=True)
class Position:
    workers: int = 0
    """The number of workers according to the hook; 0 until its collections file is read."""
    by_index: bool = False
    """Whether to list index files: only these hold the shapes that the job saves."""
    floor: int = -1
    """Listings begin after this step. A file that arrives later for an earlier step is missed."""
    given: dict[int, set[str]] = field(default_factory=dict)
    """The workers whose files were read, by step; only of steps after `floor`."""
    newest: dict[str, int] = field(default_factory=dict)
    """The newest step that each worker has saved, read or not."""

    @property
    def last(self) -> int:
        """The newest step of which a file was read."""
        return max(self.given, default=self.floor)

    def due(self, listed: Iterable[EventFile], *, ended: bool) -> list[EventFile]:
        """The files to read now, in order of step and worker."""
        fresh = []
        for file in listed:
            self.newest[file.worker] = max(file.step, self.newest.get(file.worker, -1))
            if file.worker not in self.given.get(file.step, ()):
                fresh.append(file)
        fresh.sort()
        if ended:
            return fresh
        # A file of a step up to the last one that was read is late. It does not wait: its order is lost
        # anyway.
        until = max(self._saved_by_all(), self.last)
        waiting = [file.step for file in fresh if file.step > until]
        if len(waiting) > MAX_WAITING_FILES:  # half of them, so that a slow worker can still catch up
            until = waiting[len(waiting) // 2]
        return [file for file in fresh if file.step <= until]

    def awaits(self, file: EventFile) -> bool:
        """Whether the event file of this index file may still come, because uploads may overtake one another.
        As in smdebug, it is given up if the worker has saved a later step."""
        return self.by_index and file.step == self.newest[file.worker]

    def give(self, file: EventFile) -> bool:
        """Count this file as read. Returns whether it is late: a later step was read before."""
        late = file.step < self.last
        # The floor rises to forget old steps, but never to the step that is being read: its other workers'
        # files would be missed.
        self.given.setdefault(file.step, set()).add(file.worker)
        kept = sum(map(len, self.given.values()))
        while kept > LIST_OVERLAP_FILES and (oldest := min(self.given)) < file.step:
            kept -= len(self.given.pop(oldest))
            self.floor = oldest
        return late

    def _saved_by_all(self) -> int:
        if len(self.newest) < self.workers:
            return -1
        return min(self.newest.values(), default=-1)

    def to_json(self) -> dict[str, Any]:
        """For the cursor. Less than 2 kB, and a few bytes more for each worker."""
        given: dict[str, list[int]] = {}
        for step, workers in self.given.items():
            for worker in workers:
                given.setdefault(worker, []).append(step)
        return {
            "workers": self.workers,
            "by_index": self.by_index,
            "floor": self.floor,
            "given": given,
            "newest": dict(self.newest),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        given: dict[int, set[str]] = {}
        for worker, steps in document["given"].items():
            for step in steps:
                given.setdefault(step, set()).add(worker)
        return cls(
            document["workers"], document["by_index"], document["floor"], given, dict(document["newest"])
        )
