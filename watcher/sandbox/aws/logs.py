"""Replaces parts of moto's CloudWatch Logs that differ from AWS or are too slow, and writes logs."""

from __future__ import annotations

import heapq
import json
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from moto.logs.exceptions import InvalidParameterException, ResourceNotFoundException
from moto.logs.models import LogEvent, LogGroup, LogStream, logs_backends
from moto.logs.responses import LogsResponse
from moto.logs.utils import EventMessageFilter

MAX_PAGE_EVENTS = 10_000
MAX_PAGE_CHARACTERS = 1_000_000
"""A page ends at either limit, as CloudWatch's does."""

_writing = threading.Lock()
_put_log_events = LogStream.put_log_events
_create_log_stream = LogGroup.create_log_stream
_answer_filter_log_events = LogsResponse.filter_log_events


def install() -> None:
    """Make moto's log groups behave like CloudWatch's.

    Events of several streams come in order of time. A page costs only what is on it. A missing stream and an
    invalid name of a stream are refused. No two events get the same id, because writes take turns. Streams
    can be chosen by the beginning of their names.
    """
    LogGroup.create_log_stream = create_log_stream
    LogGroup.filter_log_events = filter_log_events
    LogStream.put_log_events = put_log_events
    LogsResponse.filter_log_events = answer_filter_log_events


def create_log_stream(self: LogGroup, log_stream_name: str) -> None:
    if set(log_stream_name) & set(":*"):
        raise InvalidParameterException(
            constraint="Member must satisfy regular expression pattern: [^:*]*",
            parameter="logStreamName",
            value=log_stream_name,
        )
    _create_log_stream(self, log_stream_name)


def put_log_events(self: LogStream, log_events: list[dict[str, Any]]) -> str:
    """Keep the stream in order of time, so that a page of a long stream is found by bisection."""
    with _writing:
        answer = str(_put_log_events(self, log_events))
        written = self.events[-len(log_events) - 1 :]
        if any(later.timestamp < earlier.timestamp for earlier, later in pairwise(written)):
            self.events = sorted(self.events, key=_place)  # a new list, because a reader may use the old one
    return answer


def answer_filter_log_events(self: LogsResponse) -> str:
    prefix, group = self._get_param("logStreamNamePrefix"), self._get_param("logGroupName")
    if not prefix or group not in self.logs_backend.groups:
        return str(_answer_filter_log_events(self))
    if self._get_param("logStreamNames"):
        raise InvalidParameterException(msg="logStreamNames and logStreamNamePrefix exclude each other.")
    names = [name for name in list(self.logs_backend.groups[group].streams) if name.startswith(prefix)]
    if not names:
        return json.dumps({"events": [], "searchedLogStreams": []})
    times = self._get_param("startTime"), self._get_param("endTime")
    page = self._get_param("limit"), self._get_param("nextToken")
    events, token, searched = self.logs_backend.filter_log_events(
        group, names, *times, *page, self._get_param("filterPattern"), False
    )
    return json.dumps({"events": events, "nextToken": token, "searchedLogStreams": searched})


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
    streams = [self.streams.get(name) for name in log_stream_names or list(self.streams)]
    if None in streams:
        raise ResourceNotFoundException("The specified log stream does not exist.")
    matches = EventMessageFilter(filter_pattern).matches if filter_pattern else None
    after = tuple(map(int, next_token.split("-"))) if next_token else (0, 0)

    def wanted(stream: LogStream) -> Iterator[tuple[int, int, LogStream, LogEvent]]:
        events = stream.events
        first = bisect_right(events, max(after, (start_time or 0, -1)), key=_place)
        for index in range(first, len(events)):
            event = events[index]
            if end_time and event.timestamp > end_time:
                return
            if matches is None or matches(event.message):
                yield *_place(event), stream, event

    page: list[dict[str, Any]] = []
    size = 0
    for _, _, stream, event in heapq.merge(*map(wanted, streams)):
        size += len(event.message)
        if page and (len(page) == (limit or MAX_PAGE_EVENTS) or size > MAX_PAGE_CHARACTERS):
            if not next_token:
                # CloudWatch may return an empty page with a token while it still searches. The first page of
                # a long answer is therefore empty here, so that a client which takes that for the end is
                # found out.
                return [], "0-0", []
            return page, f"{page[-1]['timestamp']}-{page[-1]['eventId']}", []
        page.append({**event.to_filter_dict(), "logStreamName": stream.log_stream_name})
    return page, None, []


def _place(event: LogEvent) -> tuple[int, int]:
    return event.timestamp, event.event_id


class LogWriter:
    """Writes from within moto's process. Creates a group or stream with its first line, under a lock, because
    moto's streams are not safe to use from several threads."""

    def __init__(self, account: str, region: str) -> None:
        self._account, self._region = account, region
        self._lock = threading.Lock()

    def write(self, group: str, stream: str, lines: Sequence[str]) -> None:
        """Empty lines are left out, because CloudWatch takes no empty message. The stream is created even if
        there are no others."""
        messages = [line for line in lines if line]
        with self._lock:
            logs = logs_backends[self._account][self._region]
            if group not in logs.groups:
                logs.create_log_group(group, {})
            logs.ensure_log_stream(group, stream)
            now = int(time.time() * 1000)
            events = [{"timestamp": now, "message": line} for line in messages]
            if events:
                logs.put_log_events(group, stream, events)
