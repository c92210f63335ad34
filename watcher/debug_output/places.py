"""Tells whether a place holds debug output and, if it holds none, which place near it does.

A typing error would otherwise look like a job that has saved nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import islice

from watcher.debug_output.storage import Storage

FOLDER = "debug-output"
"""Below `<S3OutputPath>/<job>`, where SageMaker puts what the hook saves."""
_HELD = ("events/", "index/", "collections/", "training_job_end.ts")
MAX_CANDIDATES = 10
"""Folders that are looked into. Each takes up to eight requests."""
MAX_SUGGESTIONS = 3


def holds_debug_output(storage: Storage, place: str = "") -> bool:
    """Whether smdebug's hook has written anything at this place below the storage's."""
    below = f"{place}/" if place else ""
    return any(True for held in _HELD for _ in islice(storage.list(below + held), 1))


def nearest(storage: Storage, path: str) -> list[str]:
    """The places most like `path` that hold debug output, the most likely first.

    `storage` is the root (a bucket, or a folder), `path` a place in it that holds none. If a part of the path
    does not exist, the folders beside it are looked into, only those with similar names if there are any;
    else its own. A path into a debug output leads to that.
    """
    parts = [part for part in path.split("/") if part]
    found: Sequence[str]
    for above in range(len(parts) - 1, 0, -1):
        if holds_debug_output(storage, "/".join(parts[:above])):
            return ["/".join(parts[:above])]
    depth = len(parts)
    while depth and not storage.folders("/".join(parts[:depth])):
        depth -= 1
    parent, missing, rest = parts[:depth], parts[depth : depth + 1], parts[depth + 1 :]
    found = storage.folders("/".join(parent))
    if missing:
        found = [name for name in found if name != missing[0]]  # it may exist, and be empty
        alike = get_close_matches(missing[0], found, MAX_CANDIDATES)
        found = alike or found
    holding = (
        place
        for name in found[:MAX_CANDIDATES]
        for place in _variants("/".join([*parent, name]), rest)
        if holds_debug_output(storage, place)
    )
    return list(islice(dict.fromkeys(holding), MAX_SUGGESTIONS))


def _variants(folder: str, rest: list[str]) -> Iterator[str]:
    """The folder with the rest of the path, itself, and with the usual folder below it."""
    if rest:
        yield "/".join([folder, *rest])
    yield folder
    if rest != [FOLDER]:
        yield f"{folder}/{FOLDER}"
