"""The files of a job's profiler output, by their names.

    system/incremental/<YYYYMMDDHH>/<epoch seconds>.<node>.json
    framework/pevents/<YYYYMMDDHH>/<epoch µs>_<pid>-<node>_<timeline>.json

The number of a file is the end of what it holds: of a minute in a system file, of the last event in a
framework file. Keys are listed in the order of time, folder by folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from watcher.debug_output.storage import Storage

SYSTEM, FRAMEWORK = "system/incremental/", "framework/pevents/"
_SYSTEM_FILE = re.compile(r"system/incremental/\d{10}/(\d{9,11})\.(.+)\.json")
_FRAMEWORK_FILE = re.compile(
    r"framework/pevents/\d{10}/(\d{15,17})_(?:(\d+)-)?(.+?)_"
    r"((?:python|model_|horovod_|smdataparallel_)timeline)\.json"
)
_HOUR_S = 3600


class ProfilerFile(NamedTuple):
    end: float
    """Seconds since the epoch."""
    node: str
    key: str
    size: int
    """In bytes."""
    timeline: str = ""
    """`pythontimeline`, `model_timeline` …; empty for a system file."""
    process: str = ""
    """The pid that wrote a framework file, if its name has it."""


def system_files(storage: Storage, after: float = 0.0) -> Iterator[ProfilerFile]:
    """The system files that end after this time, in the order of time (whole hours; then minutes)."""
    for stored in storage.list(SYSTEM, _start(SYSTEM, after)):
        if (matched := _SYSTEM_FILE.fullmatch(stored.key)) and float(matched[1]) > after:
            yield ProfilerFile(float(matched[1]), matched[2], stored.key, stored.size)


def framework_files(storage: Storage, after: float = 0.0) -> Iterator[ProfilerFile]:
    """The framework files that end after this time, in the order of time."""
    for stored in storage.list(FRAMEWORK, _start(FRAMEWORK, after)):
        matched = _FRAMEWORK_FILE.fullmatch(stored.key)
        if matched and float(matched[1]) / 1e6 > after:
            end, process, node, timeline = matched.groups()
            yield ProfilerFile(float(end) / 1e6, node, stored.key, stored.size, timeline, process or "")


def _start(prefix: str, after: float) -> str:
    """Where a listing begins: in the folder of the hour before, because the folder of a file that ends with
    the hour may be that of its beginning."""
    if after < _HOUR_S:
        return ""
    return f"{prefix}{datetime.fromtimestamp(after - _HOUR_S, UTC):%Y%m%d%H}/"
