"""Follows the logs of the rules' processing jobs of one account and region, with few requests for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from watcher.aws.links import PROCESSING_LOGS
from watcher.aws.session import Aws
from watcher.jobs.failures import Failures
from watcher.jobs.work import Pace
from watcher.logs.streams import LogEvent, LogStreams, Tail
from watcher.logs.stuck_rules import RuleActivity

MAX_RULES_SEARCHED = 200
"""Rules whose streams one update searches for. Reading the logs that exist has to wait for it."""
FIRST_SEARCH_PAUSE, MAX_SEARCH_PAUSE = timedelta(seconds=30), timedelta(minutes=10)
"""Between two searches for a stream that does not exist yet: a rule's container takes minutes to start."""


@dataclass(slots=True, eq=False)
class _Followed:
    job: str
    rule: str
    evaluation_job_arn: str
    look_at: datetime
    """When to search for its streams next, while it has none."""
    pause: timedelta = FIRST_SEARCH_PAUSE
    streams: Sequence[str] = ()
    activity: RuleActivity = field(default_factory=RuleActivity)


class RuleTails:
    """Keeps a few hundred bytes for each rule that it follows, however long the logs are. Not safe to use
    from several threads."""

    def __init__(
        self,
        aws: Aws,
        log_streams: LogStreams,
        *,
        reads: Pace,
        looks: Pace,
        clock: Callable[[], datetime],
        stopping: Callable[[], bool],
        failures: Failures | None = None,
    ) -> None:
        self._failures = failures or Failures()
        self._log_streams = log_streams
        self._tail = Tail(aws, PROCESSING_LOGS)
        self._reads, self._looks, self._clock, self._stopping = reads, looks, clock, stopping
        self._followed: dict[str, _Followed] = {}
        """By the ARN of the rule's processing job."""
        self._by_stream: dict[str, _Followed] = {}

    def follow(self, job: str, rule: str, evaluation_job_arn: str) -> None:
        """Read this log from its beginning. Does nothing if it is followed already."""
        if evaluation_job_arn not in self._followed:
            followed = _Followed(job, rule, evaluation_job_arn, look_at=self._clock())
            self._followed[evaluation_job_arn] = followed

    def forget(self, evaluation_job_arn: str) -> None:
        if followed := self._followed.pop(evaluation_job_arn, None):
            for stream in followed.streams:
                self._tail.forget(stream)
                self._by_stream.pop(stream, None)

    def activity(self, evaluation_job_arn: str) -> RuleActivity:
        followed = self._followed.get(evaluation_job_arn)
        return followed.activity if followed else RuleActivity()

    def update(self) -> None:
        """Read what is new. Raises `AwsError`, and keeps what was read until then."""
        self._look_for_streams()
        self._read()

    def _look_for_streams(self) -> None:
        """Longest waiting first. The pause between two searches for the same streams doubles each time."""
        now = self._clock()
        due = [one for one in self._followed.values() if not one.streams and one.look_at <= now]
        for one in sorted(due, key=lambda one: one.look_at)[:MAX_RULES_SEARCHED]:
            self._looks.keep()
            if self._stopping():
                return
            one.streams = self._log_streams.rule_streams(one.job, one.rule, one.evaluation_job_arn)
            one.activity = replace(
                one.activity, has_stream=bool(one.streams), read_until=None if one.streams else now
            )
            one.look_at, one.pause = now + one.pause, min(one.pause * 2, MAX_SEARCH_PAUSE)
            for stream in one.streams:
                self._by_stream[stream] = one
                self._tail.follow(stream)

    def _read(self) -> None:
        # What was logged before this time is read when the cycle ends; a rule is not silent because of a slow
        # cycle.
        began = self._clock()
        self._reads.keep()
        if self._stopping():
            return
        for page in self._tail.read():
            for event in page:
                with self._failures.caught("log_line_failed", "the line is skipped", stream=event.stream):
                    self._take(event)
            self._reads.keep()
            if self._stopping():
                return
        there = set(self._tail.streams)
        for stream, one in list(self._by_stream.items()):
            if stream in there:
                one.activity = replace(one.activity, read_until=began)
            else:  # it was deleted
                del self._by_stream[stream]
                one.streams, one.look_at = (), began + MAX_SEARCH_PAUSE

    def _take(self, event: LogEvent) -> None:
        if one := self._by_stream.get(event.stream):
            at = datetime.fromtimestamp(event.timestamp / 1000, UTC)
            one.activity = replace(one.activity, log=one.activity.log.after(at, event.message))
