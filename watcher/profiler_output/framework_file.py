"""Decodes a framework file: a list of events in Chrome's trace format, as spans.

`M` events name the timeline's rows and say to which time (microseconds since the epoch) the others are
relative. `X` events have a duration; `B` and `E` events belong together by a stack for each row, which
reaches over files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from rules.profiler.data import Span
from watcher.profiler_output.files import ProfilerFile
from watcher.profiler_output.system_file import Damaged

MAX_OPEN = 10_000
"""Open events of one process and timeline. The oldest is forgotten."""

_decoder = msgspec.json.Decoder(list[dict[str, Any]])


@dataclass(slots=True)
class Timeline:
    """What a file of a process may leave for its next one."""

    names: dict[Any, str] = field(default_factory=dict)
    """Of the rows, by the number that the file calls a pid."""
    origin_us: int = 0
    opened: dict[Any, list[tuple[int, str]]] = field(default_factory=dict)
    """Start and name of the events that have begun and not ended, by row."""


def decode(data: bytes, file: ProfilerFile, timeline: Timeline) -> list[Span]:
    """The spans that end in this file, in its order. Raises `Damaged`."""
    try:
        events = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"it is not a list of events: {error}") from error
    spans: list[Span] = []
    for number, event in enumerate(events, 1):
        try:
            span = _event(event, file, timeline)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise Damaged(f"event {number} of {len(events)} is broken: {error!r}") from error
        if span is not None:
            spans.append(span)
    return spans


def _event(event: dict[str, Any], file: ProfilerFile, timeline: Timeline) -> Span | None:
    arguments = event.get("args") or {}
    row = event.get("pid")
    match event.get("ph"):
        case "M":
            if event.get("name") == "process_name":
                timeline.names[row] = str(arguments.get("name", "Unknown"))
            if "start_time_since_epoch_in_micros" in arguments:
                timeline.origin_us = int(arguments["start_time_since_epoch_in_micros"])
        case "X":
            start = int(event["ts"]) + timeline.origin_us
            return _span(file, timeline, row, str(event["name"]), start, int(event["dur"]), arguments)
        case "B":
            opened = timeline.opened.setdefault(row, [])
            opened.append((int(event["ts"]) + timeline.origin_us, str(event["name"])))
            del opened[:-MAX_OPEN]
        case "E" if timeline.opened.get(row):
            start, name = timeline.opened[row].pop()
            duration = int(event["ts"]) + timeline.origin_us - start
            if duration >= 0:
                return _span(file, timeline, row, name, start, duration, arguments)
    return None


def _span(  # noqa: PLR0917 - the parts of an event
    file: ProfilerFile,
    timeline: Timeline,
    row: Any,
    name: str,
    start: int,
    duration: int,
    arguments: dict[str, Any],
) -> Span:
    if duration < 0 or not abs(start) < 1 << 62 or duration >= 1 << 62:
        raise ValueError(f"a time of {start} + {duration}")
    return Span(
        file.node,
        file.process,
        timeline.names.get(row, "Unknown"),
        name,
        start,
        duration,
        _whole(arguments.get("step_num")),
        _whole(arguments.get("pid")),
        file.timeline,
    )


def _whole(value: Any) -> int | None:
    """A number that may be written as text; None for anything else."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None
