"""Logs in CloudWatch: find the streams of a job, read the end of one, and follow many together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import structlog

from watcher.aws.links import PROCESSING_LOGS, TRAINING_LOGS
from watcher.aws.session import Aws, translate
from watcher.errors import NotFound, Unavailable
from watcher.lru import LruCache

if TYPE_CHECKING:
    from types_boto3_logs.type_defs import FilterLogEventsResponseTypeDef

log = structlog.get_logger(__name__)

MAX_STREAMS_PER_REQUEST = 100
"""The limit of `FilterLogEvents`."""
OVERLAP_S = 30.0
"""Each cycle reads this much again, because CloudWatch shows events late and not in the order of their times.
Agents that collect lines delay them as well: CloudWatch's own by 5 seconds, by default."""
MAX_PAGES_SEARCHED = 10
"""Pages of 50 streams that are searched if a rule's stream does not have the expected name."""

ENOUGH_LINES_OF_A_TAIL = 10
"""With so many lines, no further page is asked for: an alert waits for it, and shows no more."""
MAX_PAGES_OF_A_TAIL = 20
"""Pages that are read for the end of one stream. Each takes about 30 ms."""
MAX_MESSAGE_CHARACTERS = 20_000
"""Of an event that `tail` keeps. CloudWatch takes a megabyte."""

_NAME_PREFIX_LENGTH = 26
"""A rule's log stream has this many characters of the training job's name, and of the rule's."""
LOG_STREAM_CACHE_SIZE = 10_000
"""Rules whose log streams are remembered."""


class LogEvent(NamedTuple):
    stream: str
    timestamp: int
    """Milliseconds since 1970, by the clock of its writer."""
    message: str
    """Without the line end."""


class LogStreams:
    """Every method raises an `AwsError` that names the API. A rule's streams are cached once they are found:
    its processing job has one instance, so no other stream follows. Safe to use from several threads."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._found = LruCache[list[str]](LOG_STREAM_CACHE_SIZE)
        """By the ARN of the rule's processing job."""

    def training_stream(self, job: str, since: datetime | None = None) -> str:
        """The first stream of a training job; empty if it has none yet. `since` leaves out older ones, which
        are of an earlier run of the same name."""
        return next(iter(self._streams(TRAINING_LOGS, f"{job}/", since=since)), "")

    def training_streams(self, job: str) -> list[str]:
        """One for each instance (`JOB/algo-1-<ms>`, `JOB/algo-2-<ms>`) of each run of this name, sorted; none
        before the job logs."""
        return self._streams(TRAINING_LOGS, f"{job}/")

    def rule_stream(self, job: str, rule: str, evaluation_job_arn: str) -> str:
        """The first stream of a rule's processing job; empty if it has none yet."""
        return next(iter(self.rule_streams(job, rule, evaluation_job_arn)), "")

    def rule_streams(self, job: str, rule: str, evaluation_job_arn: str) -> list[str]:
        """The streams of a rule's processing job, sorted; none if there are none yet.

        A stream is named `<job[:26]>-<rule[:26]>-<8 hex>/algo-1-<ms>`. It keeps upper and lower case, but the
        ARN is lower case, so only the 8 hex digits identify the job. If no stream has the expected name,
        those that begin with the job's name are searched for the digits; not all, because thousands of runs
        may share that beginning.
        """
        suffix = evaluation_job_arn.rpartition("-")[2].lower()
        if found := self._found.get(evaluation_job_arn):
            return found
        expected = f"{job[:_NAME_PREFIX_LENGTH]}-{rule[:_NAME_PREFIX_LENGTH]}-{suffix}/"
        for prefix, pages in ((expected, None), (f"{job[:_NAME_PREFIX_LENGTH]}-", MAX_PAGES_SEARCHED)):
            streams = [
                stream
                for stream in self._streams(PROCESSING_LOGS, prefix, pages)
                if stream.partition("/")[0].lower().endswith(f"-{suffix}")
            ]
            if streams:
                self._found.put(evaluation_job_arn, streams)
                return streams
        return []

    def tail(self, group: str, stream: str, lines: int) -> tuple[str, ...]:
        """The last lines of a stream, oldest first; of a very long one, its beginning and its end.

        A page may be empty, or have few lines, although there are more: the beginning of the stream is where
        CloudWatch repeats the token. Raises `Unavailable` if it gives only empty pages.
        """
        read: list[str] = []
        token = ""
        for _ in range(MAX_PAGES_OF_A_TAIL):
            further = {"nextToken": token} if token else {}
            with translate("logs:GetLogEvents"):
                answer = self._aws.logs.get_log_events(
                    logGroupName=group,
                    logStreamName=stream,
                    limit=lines - len(read),
                    startFromHead=False,
                    **further,  # type: ignore[arg-type]
                )
            read[:0] = [_ends(event["message"].rstrip()) for event in answer["events"]]
            before, token = token, answer.get("nextBackwardToken", "")
            if len(read) >= min(lines, ENOUGH_LINES_OF_A_TAIL) or token in ("", before):
                return tuple(read)
        if not read:
            raise Unavailable(
                f"logs:GetLogEvents answered with {MAX_PAGES_OF_A_TAIL} empty pages",
                operation="logs:GetLogEvents",
            )
        return tuple(read)

    def _streams(
        self, group: str, prefix: str, pages: int | None = None, since: datetime | None = None
    ) -> list[str]:
        """Reads at most `pages` pages. Streams that were created before `since` are left out."""
        oldest = int(since.timestamp() * 1000) if since else 0
        try:
            with translate("logs:DescribeLogStreams"):
                answers = self._aws.logs.get_paginator("describe_log_streams").paginate(
                    logGroupName=group, logStreamNamePrefix=prefix
                )
                found = (stream for page in islice(answers, pages) for stream in page["logStreams"])
                return sorted(
                    stream["logStreamName"]
                    for stream in found
                    if stream.get("creationTime", oldest) >= oldest
                )
        except NotFound:  # no job has logged in this account and region yet
            return []


def _ends(message: str) -> str:
    half = MAX_MESSAGE_CHARACTERS // 2
    if len(message) <= MAX_MESSAGE_CHARACTERS:
        return message
    return f"{message[:half]}\n…\n{message[-half:]}"


class _Position:
    """How far one stream has been read."""

    __slots__ = ("caught_up", "returned", "since")

    def __init__(self, since: int) -> None:
        self.since = since
        """Older events were returned, or were not asked for. In milliseconds."""
        self.returned: dict[int, set[int]] = {}
        """The later events that were returned: hashes of their ids (which have 56 digits), by the second."""
        self.caught_up = False
        """Whether a cycle has read it up to the present."""

    def is_new(self, event_id: str, timestamp: int) -> bool:
        """Whether this event is to be returned. Remembers it."""
        if timestamp < self.since:
            return False
        returned = self.returned.setdefault(timestamp // 1000, set())
        before = len(returned)
        returned.add(hash(event_id))
        return len(returned) > before

    def advance(self, since: int) -> None:
        """Continue at this time, and forget the events before it."""
        if since > self.since:
            self.since = since
            for second in [second for second in self.returned if second < since // 1000]:
                del self.returned[second]


# Three cycles of a `Tail` that overlap by 30 s. The times are minutes and seconds, by AWS's clock:
#
#     at       reads from   CloudWatch shows    returns   then `since` is
#     10:00    09:00        a 09:40             a         09:30
#     10:30    09:30        a 09:40, b 09:50    b         10:00     b was late; a is remembered, so skipped
#     11:00    10:00        c 10:45             c         10:30     a and b are older than `since`: forgotten
#
# A stream that is followed from its beginning has years to read, in pages. Until it has caught up, it is read
# in requests of its own.


class Tail:
    """Follows any number of streams of one log group. Not safe to use from several threads.

    A cycle takes one `FilterLogEvents` for each 100 streams, however long the logs are. It starts `overlap`
    seconds before the end of the last cycle, and skips the events of that time that were returned already, so
    each event is returned once. An event is missed if CloudWatch shows it more than `overlap` seconds after
    its own timestamp, in a stream that has been read further.
    """

    def __init__(self, aws: Aws, group: str, overlap: float = OVERLAP_S) -> None:
        self._aws, self._group = aws, group
        self._overlap = int(overlap * 1000)
        self._positions: dict[str, _Position] = {}

    @property
    def streams(self) -> Collection[str]:
        return self._positions.keys()

    def follow(self, stream: str, since: datetime | None = None) -> None:
        """Follow a stream from `since`, or from its beginning. Does nothing if it is followed already."""
        if stream not in self._positions:
            self._positions[stream] = _Position(int(since.timestamp() * 1000) if since else 0)

    def forget(self, stream: str) -> None:
        self._positions.pop(stream, None)

    def read(self) -> Iterator[list[LogEvent]]:
        """One cycle: the new events of each answer of CloudWatch, in the order of time. A list may be empty.
        It is returned nevertheless, so that the caller can pause or stop between two requests.

        Raises `AwsError`; the next cycle continues after what was returned. A stream that no longer exists is
        no longer followed.
        """
        # A request reads all of its streams from the same time on. So streams that still read their past are
        # separate: otherwise those that are up to date would read theirs again, and have to wait.
        for caught_up in (True, False):
            streams = [name for name, position in self._positions.items() if position.caught_up is caught_up]
            streams.sort(key=lambda name: self._positions[name].since)
            for start in range(0, len(streams), MAX_STREAMS_PER_REQUEST):
                yield from self._read(streams[start : start + MAX_STREAMS_PER_REQUEST])

    def _read(self, streams: Sequence[str]) -> Iterator[list[LogEvent]]:
        followed = {stream: self._positions[stream] for stream in streams if stream in self._positions}
        if not followed:
            return
        start = min(position.since for position in followed.values())
        asked_at, token = 0, ""
        while True:
            try:
                answer, now = self._filter(list(followed), start, token)
            except NotFound as error:
                yield []
                yield from self._without_the_vanished(list(followed), error)
                return
            asked_at = asked_at or now
            events = answer["events"]
            yield [
                LogEvent(event["logStreamName"], event["timestamp"], event["message"].rstrip("\r\n"))
                for event in events
                if followed[event["logStreamName"]].is_new(event["eventId"], event["timestamp"])
            ]
            token = answer.get("nextToken", "")
            if not token:
                break
            if events:  # a page may be empty although more follow
                # Pages come in the order of time. Advancing with each page saves memory, and if the cycle
                # fails here, the next one continues here. `asked_at` is the limit because a writer's clock
                # may be ahead: that must not move other streams.
                for position in followed.values():
                    position.advance(min(events[-1]["timestamp"], asked_at) - self._overlap)
        for position in followed.values():
            position.advance(asked_at - self._overlap)
            position.caught_up = True

    def _filter(
        self, streams: list[str], since: int, token: str
    ) -> tuple[FilterLogEventsResponseTypeDef, int]:
        """The answer, and its time by AWS's clock, because a workstation's may be wrong by minutes."""
        further = {"nextToken": token} if token else {}
        with translate("logs:FilterLogEvents"):
            answer = self._aws.logs.filter_log_events(
                logGroupName=self._group,
                logStreamNames=streams,
                startTime=since,
                **further,  # type: ignore[arg-type]
            )
            date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return answer, int(date.timestamp() * 1000)

    def _without_the_vanished(self, streams: list[str], error: NotFound) -> Iterator[list[LogEvent]]:
        """CloudWatch refuses the whole request if one stream does not exist: halve it until that one is
        found."""
        if "log stream" not in str(error):
            return  # the group does not exist: nothing has been logged yet
        if len(streams) == 1:
            log.warning("log_stream_vanished", group=self._group, stream=streams[0])
            self.forget(streams[0])
            return
        middle = len(streams) // 2
        yield from self._read(streams[:middle])
        yield from self._read(streams[middle:])
