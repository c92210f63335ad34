"""Jobs' logs in CloudWatch: which streams are a job's, the end of one, and many followed together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

import structlog

from watcher.aws.session import Aws, translate
from watcher.errors import NotFound
from watcher.links import PROCESSING_LOGS, TRAINING_LOGS

if TYPE_CHECKING:
    from types_boto3_logs.type_defs import FilterLogEventsResponseTypeDef

log = structlog.get_logger(__name__)

STREAMS = 100
"""The most that one `FilterLogEvents` takes."""
OVERLAP = 30.0
"""Seconds that each cycle reads again: CloudWatch shows events late, and not in the order of their times.
SageMaker's agent puts a line within a few seconds."""

_PREFIX = 26
"""So many characters of the training job's and of the rule's name stand in a rule job's stream."""
_REMEMBERED = 10_000


class LogEvent(NamedTuple):
    stream: str
    timestamp: int
    """Milliseconds since 1970, as its writer has it."""
    message: str
    """Without its line end."""


class JobLogs:
    """Every method raises an `AwsError` that names the API. A rule's stream that was found is remembered: its
    processing job has one instance, and so one stream."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._found: dict[tuple[str, ...], list[str]] = {}

    def training_stream(self, job: str) -> str:
        """The first stream of a training job; empty where it has none yet."""
        return next(iter(self.training_streams(job)), "")

    def training_streams(self, job: str) -> list[str]:
        """One for each instance (`JOB/algo-1-<ms>`, `JOB/algo-2-<ms>`), sorted; none before it logs."""
        return self._streams(TRAINING_LOGS, f"{job}/")

    def rule_stream(self, job: str, rule: str, evaluation_job_arn: str) -> str:
        """The first stream of a rule's processing job; empty where it has none yet."""
        return next(iter(self.rule_streams(job, rule, evaluation_job_arn)), "")

    def rule_streams(self, job: str, rule: str, evaluation_job_arn: str) -> list[str]:
        """Those of a rule's processing job, sorted; none where there are none yet.

        A name is `<job[:26]>-<rule[:26]>-<8 hex>/algo-1-<ms>` in the case in which people wrote it, while
        the ARN is lower case: only the 8 hex digits at its end are common to both. They decide, wherever
        the pattern does not hold.
        """
        suffix = evaluation_job_arn.rpartition("-")[2].lower()
        key = (job, rule, suffix)
        if key in self._found:
            return self._found[key]
        expected = f"{job[:_PREFIX]}-{rule[:_PREFIX]}-{suffix}/"
        for prefix in (expected, f"{job[:_PREFIX]}-"):
            streams = [
                stream
                for stream in self._streams(PROCESSING_LOGS, prefix)
                if stream.partition("/")[0].lower().endswith(f"-{suffix}")
            ]
            if streams:
                self._found[key] = streams
                while len(self._found) > _REMEMBERED:
                    del self._found[next(iter(self._found))]
                return streams
        return []

    def tail(self, group: str, stream: str, lines: int) -> tuple[str, ...]:
        """The last lines of a stream, oldest first."""
        with translate("logs:GetLogEvents"):
            answer = self._aws.logs.get_log_events(
                logGroupName=group, logStreamName=stream, limit=lines, startFromHead=False
            )
        return tuple(event["message"].rstrip() for event in answer["events"])

    def _streams(self, group: str, prefix: str) -> list[str]:
        try:
            with translate("logs:DescribeLogStreams"):
                pages = self._aws.logs.get_paginator("describe_log_streams").paginate(
                    logGroupName=group, logStreamNamePrefix=prefix
                )
                return sorted(stream["logStreamName"] for page in pages for stream in page["logStreams"])
        except NotFound:  # no job has logged in this account and region yet
            return []


class _Position:
    """How far one stream has been read."""

    __slots__ = ("caught_up", "since", "told")

    def __init__(self, since: int) -> None:
        self.since = since
        """What is older is told, or was not asked for. In milliseconds."""
        self.told: dict[int, int] = {}
        """Timestamps of the events since then that were told, by the hash of their ids."""
        self.caught_up = False

    def is_new(self, event_id: str, timestamp: int) -> bool:
        """Whether this event is to be told; remembers that it was."""
        key = hash(event_id)
        if timestamp < self.since or key in self.told:
            return False
        self.told[key] = timestamp
        return True

    def advance(self, since: int) -> None:
        if since > self.since:
            self.since = since
            self.told = {key: at for key, at in self.told.items() if at >= since}


class Tail:
    """Follows any number of streams of one log group together. Not for several threads.

    A cycle costs one `FilterLogEvents` for each 100 streams, however long the logs are: it goes on where
    the last one ended, less `overlap` seconds, and what was told of these is remembered. An event that
    CloudWatch shows only when it is older than that is missed.
    """

    def __init__(self, aws: Aws, group: str, overlap: float = OVERLAP) -> None:
        self._aws, self._group = aws, group
        self._overlap = int(overlap * 1000)
        self._positions: dict[str, _Position] = {}

    @property
    def streams(self) -> Collection[str]:
        return self._positions.keys()

    def follow(self, stream: str, since: datetime | None = None) -> None:
        """From `since` on, or from its beginning. Following it again changes nothing."""
        if stream not in self._positions:
            self._positions[stream] = _Position(int(since.timestamp() * 1000) if since else 0)

    def forget(self, stream: str) -> None:
        self._positions.pop(stream, None)

    def read(self) -> Iterator[list[LogEvent]]:
        """One cycle: what is new, a page at a time; each page is sorted by time, and belongs to at most 100
        streams.

        Raises `AwsError`; the next cycle goes on behind what was given out. A stream that has vanished is
        no longer followed.
        """
        # The time from which on CloudWatch looks is the same for all streams of a call: one that still
        # reads its past would make those that are up to date read theirs again.
        behind = [stream for stream, position in self._positions.items() if not position.caught_up]
        up_to_date = [stream for stream, position in self._positions.items() if position.caught_up]
        behind.sort(key=lambda stream: self._positions[stream].since)
        for streams in (behind, up_to_date):
            for start in range(0, len(streams), STREAMS):
                yield from self._read(streams[start : start + STREAMS])

    def _read(self, streams: Sequence[str]) -> Iterator[list[LogEvent]]:
        followed = {stream: self._positions[stream] for stream in streams if stream in self._positions}
        if not followed:
            return
        asked_at, token = 0, ""
        start = min(position.since for position in followed.values())
        while True:
            try:
                answer = self._filter(list(followed), start, token)
            except NotFound as error:
                yield from self._without_the_vanished(list(followed), error)
                return
            asked_at = asked_at or _time_at_aws(answer)
            page = [
                LogEvent(event["logStreamName"], event["timestamp"], event["message"].rstrip("\r\n"))
                for event in answer["events"]
                if followed[event["logStreamName"]].is_new(event["eventId"], event["timestamp"])
            ]
            if page:
                yield page
            token = answer.get("nextToken", "")
            if not token:
                break
            if answer["events"]:
                # Pages come in the order of time, so that less has to be remembered, and a cycle that ends
                # here goes on here.
                for position in followed.values():
                    position.advance(answer["events"][-1]["timestamp"] - self._overlap)
        for position in followed.values():
            position.advance(asked_at - self._overlap)
            position.caught_up = True

    def _filter(self, streams: list[str], since: int, token: str) -> FilterLogEventsResponseTypeDef:
        further = {"nextToken": token} if token else {}
        with translate("logs:FilterLogEvents"):
            return self._aws.logs.filter_log_events(
                logGroupName=self._group,
                logStreamNames=streams,
                startTime=since,
                **further,  # type: ignore[arg-type]
            )

    def _without_the_vanished(self, streams: list[str], error: NotFound) -> Iterator[list[LogEvent]]:
        """One stream that is not there makes CloudWatch refuse the whole call: halve until it is found."""
        if "stream" not in str(error):
            return  # the group is not there: nothing has been logged yet
        if len(streams) == 1:
            log.warning("log_stream_vanished", group=self._group, stream=streams[0])
            self.forget(streams[0])
            return
        middle = len(streams) // 2
        yield from self._read(streams[:middle])
        yield from self._read(streams[middle:])


def _time_at_aws(answer: FilterLogEventsResponseTypeDef) -> int:
    """By AWS's clock, which the events' times are near to; a workstation's may be minutes off."""
    return int(parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp() * 1000)
