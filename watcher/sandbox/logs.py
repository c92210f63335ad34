"""CloudWatch Logs where moto stops short, and writing to it from within moto's own process."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from moto.logs.exceptions import ResourceNotFoundException
from moto.logs.models import LogEvent, LogGroup, LogStream, logs_backends
from moto.logs.utils import EventMessageFilter

PAGE = 10_000

_writing = threading.Lock()
_put_log_events = LogStream.put_log_events


def install() -> None:
    """Let moto's log groups do as CloudWatch's: events of several streams in the order of time, pages that
    cost what is on them, a missing stream refused, and no event id given to two events."""
    LogGroup.filter_log_events = filter_log_events
    LogStream.put_log_events = put_log_events


def put_log_events(self: LogStream, log_events: list[dict[str, Any]]) -> str:
    with _writing:
        return str(_put_log_events(self, log_events))


def filter_log_events(  # noqa: PLR0917 - moto's signature
    self: LogGroup,
    log_group_name: str,  # noqa: ARG001
    log_stream_names: list[str],
    start_time: int,
    end_time: int,
    limit: int | None,
    next_token: str | None,
    filter_pattern: str,
    interleaved: bool,  # noqa: ARG001 - CloudWatch ignores it, too
) -> tuple[list[dict[str, Any]], str | None, list[dict[str, Any]]]:
    if any(name not in self.streams for name in log_stream_names or ()):
        raise ResourceNotFoundException("The specified log stream does not exist.")
    names = log_stream_names or list(self.streams)
    matches = EventMessageFilter(filter_pattern).matches if filter_pattern else None
    after = tuple(map(int, next_token.split("-"))) if next_token else (-1, -1)

    def wanted() -> Iterator[tuple[int, int, str, LogEvent]]:
        for name in names:
            for event in list(self.streams[name].events):
                at = event.timestamp
                if at < (start_time or 0) or (end_time and at > end_time) or (at, event.event_id) <= after:
                    continue
                if matches is None or matches(event.message):
                    yield at, event.event_id, name, event

    size = limit or PAGE
    found = heapq.nsmallest(size + 1, wanted())
    page = found[:size]
    token = f"{page[-1][0]}-{page[-1][1]}" if len(found) > size else None
    events = [{**event.to_filter_dict(), "logStreamName": name} for _, _, name, event in page]
    return events, token, []


class LogWriter:
    """Groups and streams come to be with the first line; moto itself does not guard its streams."""

    def __init__(self, account: str, region: str) -> None:
        self._account, self._region = account, region
        self._lock = threading.Lock()

    def write(self, group: str, stream: str, lines: Sequence[str]) -> None:
        with self._lock:
            logs = logs_backends[self._account][self._region]
            if group not in logs.groups:
                logs.create_log_group(group, {})
            logs.ensure_log_stream(group, stream)
            now = int(time.time() * 1000)
            logs.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])
