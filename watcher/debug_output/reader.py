"""Reads what smdebug's hook saved of a job, from its debug output on S3 or in a folder.

Nothing here waits: where nothing is saved yet, nothing is given out. A refresh lists what is new since the
last one and fetches each new file once, a few at a time and a little ahead of whoever takes the steps.
smdebug's own reader lists all files again for each value it is asked for, and waits for as long as there
is nothing to read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from watcher.debug_output import collections, event_files
from watcher.debug_output.collections import NoCollectionsFile, SavedCollections
from watcher.debug_output.event_files import EventFile, NotYet, SavedStep, UnreadableStep, Wanted
from watcher.debug_output.position import Position
from watcher.debug_output.storage import Storage

FETCH_THREADS = 8
MAX_FILES_AHEAD = 8 * FETCH_THREADS
"""Files that are fetched before they are asked for: enough that one slow answer holds up nobody."""
MAX_BYTES_AHEAD = 64 << 20
"""The same, by the size of the files; one is always fetched."""

_END_OF_JOB = "training_job_end.ts"


class DebugOutput:
    """The debug output of one job. Keeps nothing between two calls.

    Every step comes as `SavedStep`, or as `UnreadableStep` where a file of it is damaged or has gone.
    Raises `WatcherError` where the place cannot be read.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @property
    def uri(self) -> str:
        return self.storage.uri

    def collections(self) -> SavedCollections | None:
        """What is saved, and how often; None while it is not written, which is until after the first
        step. Raises `NoCollectionsFile`."""
        return collections.read(self.storage)

    def ended(self) -> bool:
        """Whether smdebug's hook says that training ended. It does not say so in SageMaker's own jobs, nor
        when it was killed."""
        return any(True for _ in self.storage.list(_END_OF_JOB))

    def steps(
        self, *, until: int | None = None, last: int | None = None, wanted: Wanted | None = None
    ) -> Iterator[SavedStep | UnreadableStep]:
        """All that is there up to and including `until`, and of these the `last` (at least 1) steps; in
        order of step, then worker, incomplete steps too."""
        files = sorted(
            file for file in event_files.of_all_steps(self.storage) if until is None or file.step <= until
        )
        if last is not None:
            kept = set(sorted({file.step for file in files})[-last:])
            files = [file for file in files if file.step in kept]
        return self._all(files, wanted)

    def at(self, step: int, wanted: Wanted | None = None) -> Iterator[SavedStep | UnreadableStep]:
        """One step of all workers, for who has to see it again."""
        return self._all(sorted(event_files.of_step(self.storage, step)), wanted)

    def _all(self, files: Sequence[EventFile], wanted: Wanted | None) -> Iterator[SavedStep | UnreadableStep]:
        return (_or_gone(file, saved) for file, saved in fetch(self.storage, files, wanted))


class Reader:
    """Follows one job: each `read` gives out what is new. Not for several threads.

    What a step with several workers waits for is said in `watcher.aws.position`.
    """

    def __init__(self, output: DebugOutput, cursor: Mapping[str, Any] | None = None) -> None:
        """Goes on at the `cursor` of an earlier reader, or begins with the first step."""
        self._output = output
        self._position = Position() if cursor is None else Position.from_json(cursor)
        self._collections: SavedCollections | None = None

    @property
    def cursor(self) -> dict[str, Any]:
        """Where it stands, for `json.dumps`: behind the last step that was given out, also while `read`
        is still at work."""
        return self._position.to_json()

    def collections(self) -> SavedCollections | None:
        """As `DebugOutput.collections`, but read no more often than it can change."""
        if self._collections is None or not self._collections.complete:
            self._collections = self._output.collections()
        return self._collections

    def read(
        self, *, wanted: Wanted | None = None, ended: bool = False
    ) -> Iterator[SavedStep | UnreadableStep]:
        """What was saved since the last call, in order of step, then worker. One that is `late` comes
        behind steps of an earlier call.

        `ended`: the job has, so nothing is waited for any more. What is not taken is given out next time.
        """
        if not self._prepared(ended):
            return
        position, storage = self._position, self._output.storage
        listed = event_files.of_all_steps(storage, position.floor, by_index=position.by_index)
        for file, saved in fetch(storage, position.due(listed, ended=ended), wanted):
            if isinstance(saved, NotYet) and not ended and position.awaits(file):
                return
            one = _or_gone(file, saved)
            late = position.give(file)
            yield replace(one, late=True) if late and isinstance(one, SavedStep) else one

    def _prepared(self, ended: bool) -> bool:
        """Whether it is known how many workers there are, or is no more to be known."""
        position = self._position
        if not position.workers:
            try:
                found = self.collections()
            except NoCollectionsFile:  # it stays so; as many workers as are seen
                position.workers = 1
            else:
                if found is None:
                    return ended
                position.workers, position.by_index = found.num_workers, found.save_shapes
        return True


Fetched = SavedStep | UnreadableStep | NotYet


def fetch(
    storage: Storage, files: Sequence[EventFile], wanted: Wanted | None
) -> Iterator[tuple[EventFile, Fetched]]:
    """The files in the order given, fetched by a few threads and no further ahead than `MAX_FILES_AHEAD`."""
    if len(files) < 2:
        for file in files:
            yield file, _fetch(storage, file, wanted)
        return
    threads = ThreadPoolExecutor(min(FETCH_THREADS, len(files)), thread_name_prefix="tensors")
    try:
        ahead: deque[tuple[EventFile, Future[Fetched]]] = deque()
        size = 0
        for file in files:
            while ahead and (len(ahead) == MAX_FILES_AHEAD or size + (file.size or 0) > MAX_BYTES_AHEAD):
                first, future = ahead.popleft()
                size -= first.size or 0
                yield first, future.result()
            ahead.append((file, threads.submit(_fetch, storage, file, wanted)))
            size += file.size or 0
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _fetch(storage: Storage, file: EventFile, wanted: Wanted | None) -> Fetched:
    try:
        return event_files.read(storage, file, wanted)
    except NotYet as error:
        return error


def _or_gone(file: EventFile, saved: Fetched) -> SavedStep | UnreadableStep:
    return UnreadableStep(file.step, file.worker, str(saved)) if isinstance(saved, NotYet) else saved
