"""Reads what smdebug's hook saved of a job, from its debug output on S3 or in a folder.

Nothing here waits: if nothing is saved yet, nothing is returned. A refresh lists the files that are new since
the last one and fetches each of them once, a few at a time and a little ahead of the caller. smdebug's own
reader lists all files again for each value, and waits while there is nothing to read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from watcher.debug_output import collections, event_files
from watcher.debug_output.collections import NoCollectionsFile, SavedCollections
from watcher.debug_output.event_files import EventFile, NotYet, SavedStep, UnreadableStep, Wanted
from watcher.debug_output.position import Position
from watcher.debug_output.storage import S3Prefix, Storage
from watcher.model import JobSnapshot

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

FETCH_THREADS = 8
MAX_FILES_AHEAD = 8 * FETCH_THREADS
"""Files that are fetched before the caller asks: enough that one slow answer does not hold up the others."""
MAX_BYTES_AHEAD = 64 << 20
"""The same in bytes, which bounds the memory. A larger file is fetched by itself."""

_END_OF_JOB = "training_job_end.ts"


class DebugOutput:
    """The debug output of one job. Keeps nothing between two calls.

    A step is a `SavedStep`, or an `UnreadableStep` if its file is damaged or was deleted. Raises
    `WatcherError` if the place cannot be read.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @property
    def uri(self) -> str:
        return self.storage.uri

    def collections(self) -> SavedCollections | None:
        """What the job saves, and how often; None until the first step is saved. Raises
        `NoCollectionsFile`."""
        return collections.read(self.storage)

    def ended(self) -> bool:
        """Whether smdebug's hook has written that training ended. It does not do so in SageMaker's own
        algorithms, or if it is killed."""
        return any(True for _ in self.storage.list(_END_OF_JOB))

    def steps(
        self, *, until: int | None = None, last: int | None = None, wanted: Wanted | None = None
    ) -> Iterator[SavedStep | UnreadableStep]:
        """The saved steps up to and including `until`, or only the `last` (at least 1) of these; in order of
        step, then worker. Includes steps that not all workers have saved."""
        files = sorted(
            file for file in event_files.of_all_steps(self.storage) if until is None or file.step <= until
        )
        if last is not None:
            kept = set(sorted({file.step for file in files})[-last:])
            files = [file for file in files if file.step in kept]
        return self._all(files, wanted)

    def at(self, step: int, wanted: Wanted | None = None) -> Iterator[SavedStep | UnreadableStep]:
        """One step of all workers. It may have been read before."""
        return self._all(sorted(event_files.of_step(self.storage, step)), wanted)

    def _all(self, files: Sequence[EventFile], wanted: Wanted | None) -> Iterator[SavedStep | UnreadableStep]:
        return (_or_unreadable(file, saved) for file, saved in fetch(self.storage, files, wanted))


def of_job(s3: S3Client, job: JobSnapshot, since: datetime | None = None) -> DebugOutput:
    """What a job has saved, since this time if it is given. The job must have a hook configuration."""
    return DebugOutput(S3Prefix(s3, job.debug_output, since=since))


class Reader:
    """Follows one job: each `read` returns what is new. Not for use from several threads.

    `watcher.debug_output.position` says when a step of several workers is read.
    """

    def __init__(self, output: DebugOutput, cursor: Mapping[str, Any] | None = None) -> None:
        """Continues at the `cursor` of an earlier reader, or begins with the first step."""
        self._output = output
        self._position = Position() if cursor is None else Position.from_json(cursor)
        self._collections: SavedCollections | None = None
        self.saved_again = False
        """Whether the last `read` found that what was read before has been written again."""

    @property
    def cursor(self) -> dict[str, Any]:
        """The position after the last step that was read, for `json.dumps`. Also right while `read` runs."""
        return self._position.to_json()

    def collections(self) -> SavedCollections | None:
        """As `DebugOutput.collections`, but kept once it is complete."""
        if self._collections is None or not self._collections.complete:
            self._collections = self._output.collections()
        return self._collections

    def read(
        self, *, wanted: Wanted | None = None, ended: bool = False
    ) -> Iterator[SavedStep | UnreadableStep]:
        """What was saved since the last call, in order of step, then worker. A step is `late` if an earlier
        call has read it (of another worker), or later ones. If the job was interrupted and has begun again,
        its steps come again, and the first of them says so (`begins_again`).

        `ended`: whether the job has ended, so that no file can be missing only because it is late. The next
        call continues after the last step that the caller took from this one.
        """
        if not self._prepared(ended):
            return
        position, storage = self._position, self._output.storage
        due = self._due(ended)
        last = position.last
        for file, saved in fetch(storage, due, wanted):
            if isinstance(saved, NotYet) and not ended and position.awaits(file):
                # Later files have to wait, too, because steps are returned in their order.
                return
            one = _or_unreadable(file, saved)
            # Before the step is returned: a caller that stops here has it, and stores the cursor with it.
            late = position.give(file) or file.step <= last
            if isinstance(one, SavedStep):
                one = replace(one, late=late, begins_again=position.begins_again)
                position.begins_again = False
            yield one

    def _due(self, ended: bool) -> list[EventFile]:
        """What to read now. Where steps are expected, one listing is enough. If it has nothing new, all files
        are listed: the job may have begun again and write over its first ones."""
        position, storage = self._position, self._output.storage
        listed = list(event_files.of_all_steps(storage, position.floor, by_index=position.by_index))
        begun_again = position.has_begun_again(listed)
        self.saved_again = begun_again or position.saved_again(listed)
        if not begun_again:
            due = position.due(listed, ended=ended)
            if due or position.floor < 0:
                return due
        everything = list(event_files.of_all_steps(storage, by_index=position.by_index))
        if not (begun_again or position.has_begun_again(everything)):
            return []
        position.begin_again()
        return position.due(everything, ended=ended)

    def _prepared(self, ended: bool) -> bool:
        """Whether reading can begin: the number of workers is known, or will never be."""
        position = self._position
        if not position.workers:
            try:
                found = self.collections()
            except NoCollectionsFile:
                # The file will not change, so from now on the workers that have saved something count.
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
    """The files in the order given, fetched by a few threads, at most `MAX_FILES_AHEAD` ahead."""
    if len(files) < 2:  # usual while a job trains: threads would take longer to start than to fetch
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
    finally:  # if the caller stops in the middle, the files that are fetched ahead are not needed any more
        threads.shutdown(wait=False, cancel_futures=True)


def _fetch(storage: Storage, file: EventFile, wanted: Wanted | None) -> Fetched:
    try:
        return event_files.read(storage, file, wanted)
    except NotYet as error:
        return error


def _or_unreadable(file: EventFile, saved: Fetched) -> SavedStep | UnreadableStep:
    return UnreadableStep(file.step, file.worker, str(saved)) if isinstance(saved, NotYet) else saved
