"""How far the debug output of a job has been read, and which of its files to read now.

In a job with several workers, a step is read when smdebug would count it as complete:

- when each worker has saved the step or a later one: a worker saves its steps in order;
- if a worker has saved nothing while more than `MAX_WAITING_FILES` files of the others wait: the older half
  of these (smdebug does the same at 1,000 steps);
- when the job has ended: all steps.

The collections files say how many workers there are; if the hook did not know, all workers seen so far
count. Uploads may overtake one another, so a file may arrive after a later step was read. It is not missed:
each listing begins about `LIST_OVERLAP_FILES` files before the newest one that was read.

An interrupted job begins again, from its first step or from a checkpoint, and writes over its files. It has
begun again when a file that was read has another content, or when a worker that was at a later step has
written a file since the newest one that was listed. Then only what was written since counts, as if
the job were a new one.

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
    given: dict[int, dict[str, str]] = field(default_factory=dict)
    """The workers whose files were read, each with the file's version, by step; only of steps after
    `floor`."""
    newest: dict[str, int] = field(default_factory=dict)
    """The newest step that each worker has saved, read or not."""
    modified: float | None = None
    """When the newest of the listed files was written, in seconds since the epoch."""
    since: float = -1.0
    """Files that were not written after this time are from before the job began again."""
    begins_again: bool = False
    """Whether the job has begun again, and no step since was read."""

    @property
    def last(self) -> int:
        """The newest step of which a file was read."""
        return max(self.given, default=self.floor)

    def due(self, listed: Iterable[EventFile], *, ended: bool) -> list[EventFile]:
        """The files to read now, in order of step and worker."""
        fresh = []
        for file in listed:
            if file.modified <= self.since:
                continue
            self.modified = max(file.modified, self.modified or 0.0)
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

    def has_begun_again(self, listed: Iterable[EventFile]) -> bool:
        """Whether any of these files shows that the job has begun again. Ask before `due`."""
        return any(self._written_again(file) for file in listed)

    def _written_again(self, file: EventFile) -> bool:
        if file.step > self.floor:
            version = self.given.get(file.step, {}).get(file.worker)
            return bool(version) and version != file.version
        # What was read up to the floor is forgotten. A worker saves its steps in order, so one that writes an
        # earlier step than its newest has begun again; one that is merely slow has no newer step.
        earlier = file.step <= self.newest.get(file.worker, -1)
        return earlier and self.modified is not None and file.modified > self.modified

    def saved_again(self, listed: Iterable[EventFile]) -> bool:
        """Whether any of these files was read and has been written since, with the same content or another.
        Ask before `due`."""
        return any(
            file.worker in self.given.get(file.step, ())
            and self.modified is not None
            and file.modified > self.modified
            for file in listed
        )

    def begin_again(self) -> None:
        """Read the job as if it were a new one, without what was written before."""
        self.since, self.begins_again = self.modified or self.since, True
        self.given, self.newest, self.floor = {}, {}, -1

    def awaits(self, file: EventFile) -> bool:
        """Whether the event file of this index file may still come, because uploads may overtake one another.
        As in smdebug, it is given up if the worker has saved a later step."""
        return self.by_index and file.step == self.newest[file.worker]

    def give(self, file: EventFile) -> bool:
        """Count this file as read. Returns whether it is late: a later step was read before."""
        late = file.step < self.last
        # The floor rises to forget old steps, but never to the step that is being read: its other workers'
        # files would be missed.
        self.given.setdefault(file.step, {})[file.worker] = file.version
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
        given: dict[str, dict[int, str]] = {}
        for step, workers in self.given.items():
            for worker, version in workers.items():
                given.setdefault(worker, {})[step] = version
        return {
            "workers": self.workers,
            "by_index": self.by_index,
            "floor": self.floor,
            "given": given,
            "newest": dict(self.newest),
            "modified": self.modified,
            "since": self.since,
            "begins_again": self.begins_again,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        given: dict[int, dict[str, str]] = {}
        for worker, steps in document["given"].items():
            # A cursor of an earlier version has no versions: a list of steps.
            versions = steps if isinstance(steps, dict) else dict.fromkeys(steps, "")
            for step, version in versions.items():
                given.setdefault(int(step), {})[worker] = version
        return cls(
            document["workers"],
            document["by_index"],
            document["floor"],
            given,
            dict(document["newest"]),
            document.get("modified"),
            document.get("since", -1.0),
            document.get("begins_again", False),
        )
