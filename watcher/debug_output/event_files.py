"""Reads the files of one step of one worker. smdebug 1.0 writes them in this order:

    events/<step:012>/<step:012>_<worker>.tfevents              its tensors
    index/<step // 1000:09>/<step:012>_<worker>.json            where in that file each of them is

A small event file is fetched whole, which is one request instead of two. From a large one, only the wanted
tensors are fetched, with the help of the index. If the index does not match the event file, the event file is
fetched whole: it is the one that counts.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from watcher.debug_output.collections import MALFORMED, worker_name
from watcher.debug_output.storage import Storage
from watcher.debug_output.tfevents import MODES, Damaged, SavedTensor, decode

FETCH_WHOLE_BYTES = 1 << 20
"""An event file up to this size is fetched whole, and a gap up to this size between two wanted tensors is
fetched with them. S3 sends about so much in the time that it takes to answer another request (20 to 30 ms, at
50 MB/s for a connection). On the sandbox, fetching one tensor out of 64 by the index is faster from 4 MiB
on."""

Wanted = Callable[[str], bool]
"""Whether to fetch and decode the tensor of this name. Called from several threads."""

_EVENT_FILE = re.compile(r"events/\d+/((\d+)_(.+))\.tfevents")
_INDEX_FILE = re.compile(r"index/\d+/((\d+)_(.+))\.json")


class EventFile(NamedTuple):
    step: int
    worker: str
    stem: str
    size: int | None
    """In bytes; None if only the index file was listed."""
    modified: float = 0.0
    """When the listed file was written, in seconds since the epoch."""
    version: str = ""
    """A few characters, other ones when the file is written again with another content."""

    @property
    def key(self) -> str:
        return f"events/{self.step:012}/{self.stem}.tfevents"

    @property
    def index_key(self) -> str:
        return f"index/{self.step // 1000:09}/{self.stem}.json"


@dataclass(frozen=True, slots=True)
class SavedStep:
    """What one worker saved at one step."""

    step: int
    """The global step."""
    worker: str
    mode: str
    mode_step: int
    tensors: Mapping[str, NDArray[Any]]
    """The wanted tensors, with the names by which smdebug saved them. A reduction is
    `smdebug/reductions/<reduction>/<tensor>`."""
    names: tuple[str, ...]
    """The names of all tensors in the file, wanted or not."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes that were saved without the tensor (`save_shape`), by name."""
    late: bool = False
    """Whether a later step was read before this one, or an earlier refresh read this step of another
    worker."""

    begins_again: bool = False
    """Whether the job has begun again, from its first step or a checkpoint: this is the first step since."""


@dataclass(frozen=True, slots=True)
class UnreadableStep:
    """A step of one worker that is skipped."""

    step: int
    worker: str
    reason: str
    """Which file, and what is wrong with it."""


class NotYet(Exception):
    """A file is missing. It may still be uploaded, unless the job has ended."""


def of_all_steps(storage: Storage, after: int = -1, *, by_index: bool = False) -> Iterator[EventFile]:
    """The files after the step `after`, in one listing."""
    # Steps are padded with zeros, so keys sort like steps, and "~" sorts after every file of a step.
    if by_index:
        start = f"index/{after // 1000:09}/{after:012}_~" if after >= 0 else ""
        return _listed(storage, "index/", start, _INDEX_FILE)
    return _listed(storage, "events/", f"events/{after:012}/~" if after >= 0 else "", _EVENT_FILE)


def of_step(storage: Storage, step: int) -> Iterator[EventFile]:
    return _listed(storage, f"events/{step:012}/", "", _EVENT_FILE)


def _listed(storage: Storage, prefix: str, start: str, pattern: re.Pattern[str]) -> Iterator[EventFile]:
    for stored in storage.list(prefix, start):
        if matched := pattern.fullmatch(stored.key):
            stem, step, part = matched.groups()
            size = stored.size if pattern is _EVENT_FILE else None
            version = f"{zlib.crc32(stored.version.encode()):x}" if stored.version else ""
            yield EventFile(int(step), worker_name(part), stem, size, stored.modified, version)


def read(storage: Storage, file: EventFile, wanted: Wanted | None = None) -> SavedStep | UnreadableStep:
    """Raises `NotYet` if a file is missing."""
    try:
        if file.size is None:
            return _listed_by_index(storage, file, wanted)
        if file.size > FETCH_WHOLE_BYTES and wanted is not None:
            try:
                return _parts(storage, file, _index(storage, file), wanted)
            except (Damaged, NotYet):  # NotYet: the index is not written yet
                pass
        return _whole(storage, file, wanted)
    except Damaged as error:
        return UnreadableStep(file.step, file.worker, str(error))


def _listed_by_index(storage: Storage, file: EventFile, wanted: Wanted | None) -> SavedStep:
    index = _index(storage, file)
    size = max((span.stop for span in index.spans.values()), default=0)
    if not index.spans:
        saved = SavedStep(file.step, file.worker, index.mode, index.mode_step, {}, ())
    elif size > FETCH_WHOLE_BYTES and wanted is not None:
        saved = _parts(storage, file, index, wanted)
    else:
        saved = _whole(storage, file, wanted)
    return replace(saved, shapes=index.shapes)


def _whole(storage: Storage, file: EventFile, wanted: Wanted | None) -> SavedStep:
    tensors = _decode(storage, file, _get(storage, file.key), wanted)
    mode, mode_step = (tensors[0].mode, tensors[0].mode_step) if tensors else ("GLOBAL", file.step)
    return SavedStep(
        file.step,
        file.worker,
        mode,
        mode_step,
        {tensor.name: tensor.value for tensor in tensors if tensor.value is not None},
        tuple(tensor.name for tensor in tensors),
    )


def _decode(
    storage: Storage, file: EventFile, data: bytes | memoryview, wanted: Wanted | None
) -> list[SavedTensor]:
    try:
        tensors = decode(data, wanted)
        for tensor in tensors:
            if tensor.step != file.step:
                raise Damaged(f"it holds a tensor of step {tensor.step}")
    except Damaged as error:
        raise Damaged(f"{storage.uri}/{file.key}: {error}") from error
    return tensors


def _get(storage: Storage, key: str, span: range | None = None) -> bytes:
    data = storage.get(key, span)
    if data is None:
        raise NotYet(f"{storage.uri}/{key} is not there")
    return data


# -- by the index -------------------------------------------------------------------------------------


class _Index(NamedTuple):
    mode: str
    mode_step: int
    spans: Mapping[str, range]
    shapes: Mapping[str, tuple[int, ...]]


def _index(storage: Storage, file: EventFile) -> _Index:
    data = _get(storage, file.index_key)
    try:
        document = json.loads(data)
        meta = document["meta"]
        mode = meta["mode"].strip()
        if mode not in MODES.values():
            raise ValueError(f"unknown mode {mode!r}")
        return _Index(
            mode,
            int(meta["mode_step"]),
            {
                _text(one["tensorname"]): range(one["start_idx"], one["start_idx"] + one["length"])
                for one in document.get("tensor_payload") or ()
            },
            {
                _text(one["tensorname"]): tuple(int(size) for size in one["shape"])
                for one in document.get("shape_payload") or ()
            },
        )
    except MALFORMED as error:
        raise Damaged(f"{storage.uri}/{file.index_key} is not an index file of smdebug: {error!r}") from error


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a tensor is named {type(name).__name__}")
    return name


def _parts(storage: Storage, file: EventFile, index: _Index, wanted: Wanted) -> SavedStep:
    spans = sorted(
        ((span, name) for name, span in index.spans.items() if wanted(name)), key=lambda one: one[0].start
    )
    tensors = {}
    for together in _neighbours(spans):
        start, stop = together[0][0].start, together[-1][0].stop
        data = memoryview(_get(storage, file.key, range(start, stop)))
        for span, name in together:
            found = _decode(storage, file, data[span.start - start : span.stop - start], None)
            if [tensor.name for tensor in found] != [name] or found[0].value is None:
                raise Damaged(f"{storage.uri}/{file.index_key} points to something else than {name}")
            tensors[name] = found[0].value
    return SavedStep(file.step, file.worker, index.mode, index.mode_step, tensors, tuple(index.spans))


def _neighbours(spans: Sequence[tuple[range, str]]) -> Iterator[list[tuple[range, str]]]:
    """Groups of tensors that are faster to fetch in one request."""
    together: list[tuple[range, str]] = []
    for span, name in spans:
        if together and not 0 <= span.start - together[-1][0].stop <= FETCH_WHOLE_BYTES:
            yield together
            together = []
        together.append((span, name))
    if together:
        yield together
