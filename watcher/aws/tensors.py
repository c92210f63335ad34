"""Reads what smdebug's hook has saved of a job, from its debug output on S3.

The layout, as smdebug 1.0 writes it:

    <prefix>/events/<step:012>/<step:012>_<worker>.tfevents      one step of one worker
    <prefix>/collections/000000000/<worker>_collections.json     after the first saved step

Event files are listed once, fetched by a few threads and decoded here: smdebug's own reader lists them
all again for each value it is asked for, and waits for as long as there is nothing to read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from rules.selection import Collection
from watcher.aws.session import translate
from watcher.errors import NotFound, UsageError, WatcherError
from watcher.tfevents import Damaged, decode

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_EVENT_FILE = re.compile(r"(\d+)_(.+)\.tfevents$")
_COLLECTIONS = "collections/000000000/worker_0_collections.json"
_THREADS = 4


class _EventFile(NamedTuple):
    step: int
    worker: str
    key: str


@dataclass(frozen=True, slots=True)
class SavedStep:
    """One event file: what one worker saved at one step."""

    step: int
    """The global one."""
    worker: str
    mode: str
    mode_step: int
    tensors: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class SavedSteps:
    """All empty where nothing was saved (yet)."""

    steps: tuple[SavedStep, ...] = ()
    """In order of step, then worker."""
    damaged: tuple[str, ...] = ()
    """Files that could not be read: where, and what is wrong."""
    newest: int = -1
    """The newest step of them all, damaged or not: what to read `after` next time."""


class DebugOutput:
    """The debug output of one job. Keeps nothing between two calls."""

    def __init__(self, s3: S3Client, uri: str) -> None:
        """`uri` is `s3://BUCKET/PATH/JOB/debug-output`."""
        matched = re.fullmatch(r"s3://([^/]+)/*(.*?)/*", uri)
        if not matched:
            raise UsageError(
                f"{uri!r} is no place on S3: it should look like s3://BUCKET/PATH/JOB/debug-output"
            )
        self.uri = uri
        self._s3 = s3
        self._bucket = matched[1]
        path = re.sub("/+", "/", matched[2])  # as smdebug does when it writes
        self._prefix = f"{path}/" if path else ""

    def read(
        self,
        *,
        after: int = -1,
        until: int | None = None,
        last: int | None = None,
        wanted: Callable[[str], bool] | None = None,
    ) -> SavedSteps:
        """The saved steps beyond `after`, up to and including `until`; of these the `last` (at least 1).

        Only `wanted` tensors are decoded; a step that has none of them is there all the same. Where
        several workers save, a file of theirs that arrives after a later step was read is missed by a
        caller that goes on from that step.
        """
        files = sorted(file for file in self._event_files(after) if until is None or file.step <= until)
        if last is not None:
            kept = set(sorted({file.step for file in files})[-last:])
            files = [file for file in files if file.step in kept]
        if not files:
            return SavedSteps()
        with ThreadPoolExecutor(min(_THREADS, len(files)), thread_name_prefix="tensors") as threads:
            read = list(threads.map(lambda file: self._read_file(file, wanted), files))
        return SavedSteps(
            tuple(step for step in read if isinstance(step, SavedStep)),
            tuple(damage for damage in read if isinstance(damage, str)),
            newest=files[-1].step,
        )

    def collections(self) -> Mapping[str, Collection] | None:
        """The job's collections; None while they are not written, which is until after the first step."""
        key = self._prefix + _COLLECTIONS
        try:
            found = json.loads(self._get(key))["collections"]
            return {
                name: Collection(
                    include_regex=tuple(collection["include_regex"]),
                    tensor_names=frozenset(collection["tensor_names"]),
                )
                for name, collection in found.items()
            }
        except NotFound:
            return None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise WatcherError(
                f"s3://{self._bucket}/{key} is no collections file of smdebug; was it overwritten?"
            ) from error

    def _event_files(self, after: int) -> Iterator[_EventFile]:
        events = f"{self._prefix}events/"
        # Steps are padded with zeros, so keys sort as steps do, and "~" sorts behind a step's files.
        start = f"{events}{after:012d}/~" if after >= 0 else events
        pages = self._s3.get_paginator("list_objects_v2")
        with translate("s3:ListBucket"):
            for page in pages.paginate(Bucket=self._bucket, Prefix=events, StartAfter=start):
                for item in page.get("Contents", ()):
                    if matched := _EVENT_FILE.search(item["Key"]):
                        yield _EventFile(int(matched[1]), matched[2], item["Key"])

    def _read_file(self, file: _EventFile, wanted: Callable[[str], bool] | None) -> SavedStep | str:
        try:
            tensors = decode(self._get(file.key), wanted)
        except Damaged as error:
            return f"s3://{self._bucket}/{file.key}: {error}"
        except NotFound:
            return f"s3://{self._bucket}/{file.key}: deleted while the steps were being read"
        mode, mode_step = (tensors[0].mode, tensors[0].mode_step) if tensors else ("GLOBAL", file.step)
        values = {tensor.name: tensor.value for tensor in tensors}
        return SavedStep(file.step, file.worker, mode, mode_step, values)

    def _get(self, key: str) -> bytes:
        with translate("s3:GetObject"):
            return self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
