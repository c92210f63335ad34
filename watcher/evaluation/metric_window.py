"""Which time of a job's metrics one look reads. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from watcher.aws import metrics
from watcher.aws.metrics import MetricSeries, Query
from watcher.errors import WatcherError
from watcher.evaluation.metric_steps import STEP, minute_of
from watcher.model import Evaluation, JobSnapshot

METRICS_SETTLE_TIME = timedelta(minutes=2)
"""How long after a minute it is read. SageMaker puts values into CloudWatch late, and an average must not
change after a rule has seen it."""


class Incomplete(WatcherError):
    """CloudWatch returned only a part of the values. A gap would be values that the rules never see."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A look that waits for CloudWatch's answers, because many jobs are read in one request."""

    queries: Sequence[Query]
    look: Callable[[Mapping[Query, MetricSeries]], Evaluation]
    """Takes the answers to its queries out of all answers. Raises `Incomplete`."""


class MetricWindow:
    """The time [since, until) of the job's metrics, which follows that of an earlier window's cursor."""

    def __init__(self, job: JobSnapshot, cursor: str, now: datetime, max_periods: int | None = None) -> None:
        """At most `max_periods` long; the next window continues after it."""
        stored = {key: datetime.fromtimestamp(at, UTC) for key, at in json.loads(cursor or "{}").items()}
        # Steps count from this time, even if TrainingStartTime changes because a spot instance is lost.
        self.began = stored.get("began") or (job.started_at and minute_of(job.started_at))
        """None if the job has not begun to train."""
        since = stored.get("until") or self.began or now
        self.period = metrics.period(now - since)
        """In seconds."""
        # If the period has become coarser since the last look, up: a minute that was read is not read again.
        self.since = _period_boundary(since, self.period, up="until" in stored)
        settled, end = now - METRICS_SETTLE_TIME, ended_at(job)
        self.ended = end is not None and end <= settled
        """Whether nothing will follow."""
        until = _period_boundary(end if end and self.ended else settled, self.period, up=self.ended)
        self.until = max(until, self.since)
        limit = self.since + timedelta(seconds=self.period * max_periods) if max_periods else self.until
        self.behind = limit < self.until
        """Whether there is more to read right now."""
        if self.behind:
            self.until, self.ended = limit, False

    @property
    def cursor(self) -> str:
        return cursor(self.began, self.until) if self.began else ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing new to read."""
        return self.began is None or self.since >= self.until


def cursor(began: datetime, until: datetime) -> str:
    return json.dumps({"began": began.timestamp(), "until": until.timestamp()})


def ended_at(job: JobSnapshot) -> datetime | None:
    """The time at which its last value may have been written; None while the job goes on."""
    return (job.ended_at or job.modified_at) + STEP if job.ended else None


def _period_boundary(at: datetime, period: int, *, up: bool) -> datetime:
    """The last multiple of the period (in seconds) up to `at` or, with `up`, the first one from `at` on."""
    seconds = at.timestamp()
    return datetime.fromtimestamp((seconds // period + (1 if up and seconds % period else 0)) * period, UTC)
