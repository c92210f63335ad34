"""How far the debug output of a job has been read, and which of its files are due.

The steps of a job with several workers are given out as smdebug counts them as complete:

- when each worker has saved the step, or a later one: a worker saves in order, so it will not come back;
- the older half of what waits, when a worker has been silent for `MAX_WAITING_FILES` files of the others (smdebug
  does the same at 1,000 steps);
- all of them, when the job has ended.

How many workers there are stands in the collections files; where the hook did not know, it is as many as
were seen. A file that arrives after a later step was given out, as uploads may overtake one another, is
not missed: each listing begins some `LIST_OVERLAP_FILES` files before the newest one that was given out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from watcher.debug_output.event_files import EventFile

LIST_OVERLAP_FILES = 50
"""Files that a listing shows again. With those that wait they are fewer than the 1,000 of a page, so that
a refresh is one request."""
MAX_WAITING_FILES = 400


@dataclass(slots=True)
class Position:
    workers: int = 0
    """How many there are, as the hook knew it; 0 while its collections file is not read."""
    by_index: bool = False
    """Whether the job saves shapes, which only index files hold: then these are listed."""
    floor: int = -1
    """Of the steps up to this one nothing is looked for any more."""
    given: dict[int, set[str]] = field(default_factory=dict)
    """The workers whose files beyond `floor` were given out, by step."""
    newest: dict[str, int] = field(default_factory=dict)
    """The newest step that was seen of each worker, given out or not."""

    @property
    def last(self) -> int:
        """The newest step of which anything was given out."""
        return max(self.given, default=self.floor)

    def due(self, listed: Iterable[EventFile], *, ended: bool) -> list[EventFile]:
        """What is to be given out now, in order of step and worker."""
        fresh = []
        for file in listed:
            self.newest[file.worker] = max(file.step, self.newest.get(file.worker, -1))
            if file.worker not in self.given.get(file.step, ()):
                fresh.append(file)
        fresh.sort()
        if ended:
            return fresh
        until = max(self._saved_by_all(), self.last)
        waiting = [file.step for file in fresh if file.step > until]
        if len(waiting) > MAX_WAITING_FILES:
            until = waiting[len(waiting) // 2]
        return [file for file in fresh if file.step <= until]

    def awaits(self, file: EventFile) -> bool:
        """Whether the event file may follow the index that was listed, as uploads overtake one another:
        not where the worker has saved a later step (as smdebug), nor where the event file was listed."""
        return self.by_index and file.step == self.newest[file.worker]

    def give(self, file: EventFile) -> bool:
        """Count this file as given out. Says whether it is late: a later step was given out before."""
        late = file.step < self.last
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
        """Less than 2 kB, and a few bytes more for each worker."""
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
