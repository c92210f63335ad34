"""Jobs' logs in CloudWatch: which streams are a job's, the end of one, and many followed together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import structlog

from watcher.aws.links import PROCESSING_LOGS, TRAINING_LOGS
from watcher.aws.session import Aws, translate
from watcher.errors import NotFound
from watcher.lru import LruCache

if TYPE_CHECKING:
    from types_boto3_logs.type_defs import FilterLogEventsResponseTypeDef

log = structlog.get_logger(__name__)

STREAMS = 100
"""The most that one `FilterLogEvents` takes."""
OVERLAP = 30.0
"""Seconds that each cycle reads again: CloudWatch shows events late, and not in the order of their times.
What collects lines holds them back for some seconds, too: CloudWatch's own agent for 5, if not told else."""
PAGES_LOOKED_THROUGH = 10
"""Of 50 streams each, where a rule's stream does not have the name that it should have."""

_PREFIX = 26
"""So many characters of the training job's and of the rule's name stand in a rule job's stream."""
LOG_STREAM_CACHE_SIZE = 10_000
"""Rules whose log streams are remembered."""


class LogEvent(NamedTuple):
    stream: str
    timestamp: int
    """Milliseconds since 1970, as its writer has it."""
    message: str
    """Without its line end."""


class JobLogs:
    """Every method raises an `AwsError` that names the API. A rule's stream that was found is remembered: its
    processing job has one instance, and so one stream. Safe to use from several threads."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._found = LruCache[list[str]](LOG_STREAM_CACHE_SIZE)
        """By the rule's processing job."""

    def training_stream(self, job: str) -> str:
        """The first stream of a training job; empty where it has none yet."""
        return next(iter(self.training_streams(job)), "")

    def training_streams(self, job: str) -> list[str]:
        """One for each instance (`JOB/algo-1-<ms>`, `JOB/algo-2-<ms>`), by name; none before it logs."""
        return self._streams(TRAINING_LOGS, f"{job}/")

    def rule_stream(self, job: str, rule: str, evaluation_job_arn: str) -> str:
        """The first stream of a rule's processing job; empty where it has none yet."""
        return next(iter(self.rule_streams(job, rule, evaluation_job_arn)), "")

    def rule_streams(self, job: str, rule: str, evaluation_job_arn: str) -> list[str]:
        """Those of a rule's processing job, sorted; none where there are none yet.

        A name is `<job[:26]>-<rule[:26]>-<8 hex>/algo-1-<ms>` in the case in which people wrote it, while
        the ARN is lower case: only the 8 hex digits at its end are common to both. They decide, wherever
        the pattern does not hold, among the first streams that begin like the job: thousands of runs may.
        """
        suffix = evaluation_job_arn.rpartition("-")[2].lower()
        if found := self._found.get(evaluation_job_arn):
            return found
        expected = f"{job[:_PREFIX]}-{rule[:_PREFIX]}-{suffix}/"
        for prefix, pages in ((expected, None), (f"{job[:_PREFIX]}-", PAGES_LOOKED_THROUGH)):
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
        """The last lines of a stream, oldest first."""
        with translate("logs:GetLogEvents"):
            answer = self._aws.logs.get_log_events(
                logGroupName=group, logStreamName=stream, limit=lines, startFromHead=False
            )
        return tuple(event["message"].rstrip() for event in answer["events"])

    def _streams(self, group: str, prefix: str, pages: int | None = None) -> list[str]:
        """`pages`: how many are read at most."""
        try:
            with translate("logs:DescribeLogStreams"):
                answers = self._aws.logs.get_paginator("describe_log_streams").paginate(
                    logGroupName=group, logStreamNamePrefix=prefix
                )
                found = (stream for page in islice(answers, pages) for stream in page["logStreams"])
                return sorted(stream["logStreamName"] for stream in found)
        except NotFound:  # no job has logged in this account and region yet
            return []


class _Position:
    """How far one stream has been read."""

    __slots__ = ("caught_up", "since", "told")

    def __init__(self, since: int) -> None:
        self.since = since
        """What is older is told, or was not asked for. In milliseconds."""
        self.told: dict[int, set[int]] = {}
        """The events since then that were told: hashes of their ids (AWS's have 56 digits), by the second."""
        self.caught_up = False

    def is_new(self, event_id: str, timestamp: int) -> bool:
        """Whether this event is to be told; remembers that it was."""
        if timestamp < self.since:
            return False
        told = self.told.setdefault(timestamp // 1000, set())
        before = len(told)
        told.add(hash(event_id))
        return len(told) > before

    def advance(self, since: int) -> None:
        if since > self.since:
            self.since = since
            for second in [second for second in self.told if second < since // 1000]:
                del self.told[second]


class Tail:
    """Follows any number of streams of one log group together. Not for several threads.

    A cycle costs one `FilterLogEvents` for each 100 streams, however long the logs are: it goes on where
    the last one ended, less `overlap` seconds, and what was told of these is remembered. An event is told
    once. One is missed where CloudWatch shows it later than `overlap` seconds after its own timestamp, in a
    stream that has been read up to then.
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
        """One cycle: what is new in each answer of CloudWatch, in the order of time. Often that is nothing;
        it is given out all the same, so that who reads can keep a pace, or stop, between two requests.

        Raises `AwsError`; the next cycle goes on behind what was given out. A stream that has vanished is
        no longer followed.
        """
        # One call looks at all of its streams from the same time on: a stream that still reads its past
        # would make those that are up to date read theirs again, and keep them waiting.
        for caught_up in (True, False):
            streams = [name for name, position in self._positions.items() if position.caught_up is caught_up]
            streams.sort(key=lambda name: self._positions[name].since)
            for start in range(0, len(streams), STREAMS):
                yield from self._read(streams[start : start + STREAMS])

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
            if events:  # There may be more behind a page without any.
                # Pages come in the order of time: less has to be remembered, and where a cycle breaks off
                # here, the next one goes on here. A writer's clock may be ahead: that moves nobody else.
                for position in followed.values():
                    position.advance(min(events[-1]["timestamp"], asked_at) - self._overlap)
        for position in followed.values():
            position.advance(asked_at - self._overlap)
            position.caught_up = True

    def _filter(
        self, streams: list[str], since: int, token: str
    ) -> tuple[FilterLogEventsResponseTypeDef, int]:
        """The answer, and its time by AWS's clock: a workstation's may be minutes off."""
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
        """One stream that is not there makes CloudWatch refuse the whole call: halve until it is found."""
        if "log stream" not in str(error):
            return  # the group is not there: nothing has been logged yet
        if len(streams) == 1:
            log.warning("log_stream_vanished", group=self._group, stream=streams[0])
            self.forget(streams[0])
            return
        middle = len(streams) // 2
        yield from self._read(streams[:middle])
        yield from self._read(streams[middle:])
