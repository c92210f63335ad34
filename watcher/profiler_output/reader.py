"""Follows the profiler output of a job, on S3 or in a folder. Nothing here waits.

A read lists what is new, fetches each file once, a few at a time and a little ahead, and returns it in
batches as the profiler rules take them: of an hour at most, and of bounded size.
`watcher.profiler_output.position` says when a minute is settled enough to be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from rules.profiler.data import Batch, Series, SeriesKey, Span
from watcher.debug_output.storage import Storage
from watcher.profiler_output import framework_file, system_file
from watcher.profiler_output.files import FRAMEWORK, SYSTEM, ProfilerFile, framework_files, system_files
from watcher.profiler_output.framework_file import Timeline
from watcher.profiler_output.position import Position
from watcher.profiler_output.system_file import Damaged

FETCH_THREADS = 8
MAX_BYTES_AHEAD = 16 << 20
MAX_FILE_BYTES = 64 << 20
"""smdebug writes up to 10 MB; a system file of a minute has 4 MB on the largest instance."""
MAX_SERIES = 20_000
"""Of all nodes. A job's owner can write what they like there."""
BATCH_S = 3600.0
BATCH_BYTES = 64 << 20
"""JSON of system metrics takes eight times the memory of its columns."""
BYTES_FACTOR = 4
"""Spans take more memory than columns: a byte of a framework file counts as so many."""


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A file that is left out."""

    key: str
    reason: str


class ProfilerOutput:
    """The profiler output of one job: the folder that has `system/` and `framework/`."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @property
    def uri(self) -> str:
        return self.storage.uri

    def exists(self) -> bool:
        """Whether a file of the profiler lies there."""
        return any(True for prefix in (SYSTEM, FRAMEWORK) for _ in self.storage.list(prefix))

    def span(self) -> tuple[float, float] | None:
        """Begin and end of the system metrics according to the names of the files; None if there are none."""
        ends = [file.end for file in system_files(self.storage)]
        return (min(ends) - 60, max(ends)) if ends else None


class Reader:
    """Each `read` returns what is new. Not for use from several threads."""

    def __init__(self, output: ProfilerOutput, cursor: Mapping[str, Any] | None = None) -> None:
        """Continues at the `cursor` of an earlier reader, or at the beginning. Framework events that had
        begun and not ended when that cursor was taken are lost."""
        self._storage = output.storage
        self._position = Position() if cursor is None else Position.from_json(cursor)
        self._timelines: dict[tuple[str, str, str], Timeline] = {}
        self._series: set[SeriesKey] = set()

    @property
    def cursor(self) -> dict[str, Any]:
        """The position after the last batch that was read, for `json.dumps`. Also right while `read` runs."""
        return self._position.to_json()

    def read(self, *, ended: bool = False) -> Iterator[Batch | UnreadableFile]:
        """What is new and settled, in the order of time. `ended`: whether the job has ended, so that no file
        can be missing only because it is late.

        A file that cannot be read comes before the batch that it would be in. Raises `WatcherError` if the
        place cannot be read.
        """
        position = self._position
        system = sorted(system_files(self._storage, position.until))
        framework = sorted(framework_files(self._storage, position.until))
        until = position.settled(system, framework, ended=ended)
        due = sorted(file for file in (*system, *framework) if file.end <= until)
        for files in _batches(due):
            end = files[-1].end
            batch, unreadable = self._batch(files)
            # Before they are returned: a caller that stops here has them, and stores the cursor with them.
            position.read(files, end)
            yield from unreadable
            yield batch

    def _batch(self, files: Sequence[ProfilerFile]) -> tuple[Batch, list[UnreadableFile]]:
        columns: dict[SeriesKey, list[Series]] = {}
        spans: list[Span] = []
        unreadable: list[UnreadableFile] = []
        for file, data in _fetched(self._storage, files):
            try:
                if data is None:
                    raise Damaged("it was deleted" if file.size <= MAX_FILE_BYTES else _too_large(file))
                if file.timeline:
                    timeline = self._timelines.setdefault(
                        (file.node, file.process, file.timeline), Timeline()
                    )
                    spans += framework_file.decode(data, file, timeline)
                else:
                    self._add(columns, system_file.decode(data))
            except Damaged as error:
                unreadable.append(UnreadableFile(file.key, f"{self._storage.uri}/{file.key}: {error}"))
        series = {key: _joined(parts) for key, parts in columns.items()}
        return Batch(files[-1].end, series, spans), unreadable

    def _add(self, columns: dict[SeriesKey, list[Series]], found: Mapping[SeriesKey, Series]) -> None:
        self._series.update(found)
        if len(self._series) > MAX_SERIES:
            self._series.difference_update(found)
            raise Damaged(f"with it, the job would have more than {MAX_SERIES:,} metrics")
        for key, series in found.items():
            columns.setdefault(key, []).append(series)


def _too_large(file: ProfilerFile) -> str:
    return f"it has {file.size:,} bytes; files of more than {MAX_FILE_BYTES:,} are not read"


def _batches(files: Sequence[ProfilerFile]) -> Iterator[list[ProfilerFile]]:
    """Files of the same end stay together, so that no later batch has values from before the end of this."""
    batch: list[ProfilerFile] = []
    size = 0
    for file in files:
        full = size > BATCH_BYTES or (batch and file.end - batch[0].end >= BATCH_S)
        if batch and full and file.end > batch[-1].end:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += min(file.size, MAX_FILE_BYTES) * (BYTES_FACTOR if file.timeline else 1)
    if batch:
        yield batch


def _joined(parts: Sequence[Series]) -> Series:
    times = np.concatenate([part.times for part in parts])
    values = np.concatenate([part.values for part in parts])
    if np.any(times[1:] < times[:-1]):
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
    return Series(times, values)


def _fetched(storage: Storage, files: Sequence[ProfilerFile]) -> Iterator[tuple[ProfilerFile, bytes | None]]:
    """The files in the order given, fetched by a few threads and a little ahead. None: deleted, or too
    large."""

    def fetch(file: ProfilerFile) -> bytes | None:
        return storage.get(file.key) if file.size <= MAX_FILE_BYTES else None

    if len(files) < 2:
        yield from ((file, fetch(file)) for file in files)
        return
    threads = ThreadPoolExecutor(min(FETCH_THREADS, len(files)), thread_name_prefix="profiler")
    try:
        ahead: deque[tuple[ProfilerFile, Future[bytes | None]]] = deque()
        size = 0
        for file in files:
            while ahead and size + file.size > MAX_BYTES_AHEAD:
                first, future = ahead.popleft()
                size -= first.size
                yield first, future.result()
            ahead.append((file, threads.submit(fetch, file)))
            size += file.size
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
