"""The logs of one job's rules, or of its training, as they are written: all streams together, in the order
of time, until the job is over and its last line is in.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from watcher import policy
from watcher.aws.accounts import Accounts
from watcher.aws.evaluation_log import local_streams
from watcher.aws.logs import JobLogs, LogEvent, Tail
from watcher.aws.sagemaker import TrainingJobs
from watcher.config import Rules
from watcher.errors import NotFound, Unavailable, UsageError
from watcher.links import PROCESSING_LOGS, TRAINING_LOGS
from watcher.model import JobSnapshot, Outcome, RuleSource

EVERY = 2.0
"""Seconds between two looks at the logs."""
LOOK_AGAIN = 10.0
"""Seconds between two looks at the job, and for streams that are not there yet."""
LAST_LINES = 10.0
"""Seconds after the end in which lines may still come in."""

TRAINING = "training"


class Line(NamedTuple):
    timestamp: int
    """Milliseconds since 1970."""
    label: str
    """Whose line it is: `RULE`, `RULE (Watcher)` for Watcher's own evaluation of it, or `training`."""
    rule: str | None
    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """What to show of a job."""

    rule: str | None = None
    """None: all of its rules."""
    training: bool = False
    """The training job's own log instead."""
    since: datetime | None = None
    """None: from the beginning."""


class JobLog:
    """Raises `UsageError` where the job has no such rule, and `AwsError` from what reads."""

    def __init__(self, accounts: Accounts, job: JobSnapshot, chosen: Chosen, settings: Rules) -> None:
        self.job = job
        self._chosen, self._settings = chosen, settings
        self._aws = accounts.of(job.arn)
        self._streams = JobLogs(self._aws)
        self._tails: dict[str, Tail] = {}
        self._labels: dict[str, tuple[str, str | None]] = {}
        if not chosen.training:
            _check(job, chosen.rule, self._local_rules())

    @property
    def labels(self) -> list[str]:
        """All that lines may bear, so that they can be aligned."""
        if self._chosen.training:
            return [TRAINING]
        ours = [_local_label(rule) for rule in self._local_rules()] if self._settings.log_group else []
        return list(dict.fromkeys([outcome.rule for outcome in self._outcomes()] + ours))

    def what_is_missing(self) -> str:
        """Why there may be nothing to show, in a sentence."""
        if self._labels:
            since = self._chosen.since
            return f"nothing was logged since {since:%Y-%m-%d %H:%M:%S} UTC" if since else "the log is empty"
        if self._chosen.training:
            return f"{self.job.name} has no log stream in {TRAINING_LOGS} yet"
        if not any(outcome.evaluation_job_arn for outcome in self._outcomes()):
            return f"no rule of {self.job.name} has a processing job yet"
        return f"the rules of {self.job.name} have no log stream in {PROCESSING_LOGS} yet"

    def look(self) -> None:
        """Find the streams that are not known yet."""
        if self._chosen.training:
            for stream in self._streams.training_streams(self.job.name):
                self._follow(TRAINING_LOGS, stream, TRAINING, None)
            return
        for rule in self._outcomes():
            if rule.evaluation_job_arn:
                found = self._streams.rule_streams(self.job.name, rule.rule, rule.evaluation_job_arn)
                for stream in found:
                    self._follow(PROCESSING_LOGS, stream, rule.rule, rule.rule)
        if group := self._settings.log_group:
            ours = local_streams(self._aws, group, self.job, self._local_rules())
            for name, stream in ours.items():
                self._follow(group, stream, _local_label(name), name)

    def look_again(self) -> None:
        """Read the job anew, too. A job that has been deleted is as it was."""
        try:
            self.job = TrainingJobs(self._aws).describe(self.job.name)
        except NotFound:
            return
        finally:
            self.look()

    @property
    def over(self) -> bool:
        """No more lines will be written, but for those under way."""
        if self._chosen.training:
            return self.job.ended
        return self.job.ended and all(outcome.final for outcome in self._outcomes())

    def read(self) -> Iterator[Line]:
        """What is new, in the order of time."""
        return heapq.merge(*(self._lines(tail) for tail in self._tails.values()))

    def _lines(self, tail: Tail) -> Iterator[Line]:
        for page in tail.read():
            yield from map(self._line, page)

    def _line(self, event: LogEvent) -> Line:
        label, rule = self._labels[event.stream]
        return Line(event.timestamp, label, rule, event.stream, event.message)

    def _outcomes(self) -> list[Outcome]:
        theirs = (outcome for outcome in self.job.outcomes if outcome.source is not RuleSource.LOCAL)
        return [outcome for outcome in theirs if self._chosen.rule in (None, outcome.rule)]

    def _local_rules(self) -> list[str]:
        names = [rule.name for rule in policy.local_rules(self.job, self._settings)]
        return [name for name in names if self._chosen.rule in (None, name)]

    def _follow(self, group: str, stream: str, label: str, rule: str | None) -> None:
        if stream not in self._labels:
            self._labels[stream] = (label, rule)
            tail = self._tails.setdefault(group, Tail(self._aws, group))
            tail.follow(stream, self._chosen.since)


def follow(
    log: JobLog,
    tell: Callable[[Iterator[Line]], None],
    complain: Callable[[str], None],
    *,
    clock: Callable[[], float],
    wait: Callable[[float], object],
) -> None:
    """Hand on what is written until the log is over.

    What AWS does not answer is said once, by `complain`, and asked again. `clock` is in seconds.
    """
    looked_at = over_since = -LOOK_AGAIN
    refused = False
    while True:
        try:
            if clock() - looked_at >= LOOK_AGAIN:
                looked_at = clock()
                log.look_again()
            tell(log.read())
        except Unavailable as error:
            if not refused:
                complain(f"{error}; trying again")
            refused = True
        else:
            refused = False
            if not log.over:
                over_since = clock()
            elif clock() - over_since >= LAST_LINES:
                return
        wait(EVERY)


def _check(job: JobSnapshot, rule: str | None, local: Sequence[str]) -> None:
    names = sorted({outcome.rule for outcome in job.outcomes} | {r.name for r in job.rules} | set(local))
    if not names:
        raise UsageError(f"{job.name} has no rules; its own log is shown by --training")
    if rule is not None and rule not in names:
        raise UsageError(f"{job.name} has no rule {rule}; it has {', '.join(names)}")


def _local_label(rule: str) -> str:
    return f"{rule} (Watcher)"
