"""Follows the logs of one job's rules, or of its training: all streams together, in the order of time, until
the job has ended and its last line has come.
"""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from watcher.arn import is_arn, job_name
from watcher.aws.accounts import Accounts
from watcher.aws.links import PROCESSING_LOGS, TRAINING_LOGS
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.config.settings import Rules
from watcher.errors import AwsError, NotFound, Unavailable, UsageError
from watcher.jobs.find import find_job
from watcher.logs.evaluation_log import local_streams
from watcher.logs.streams import MAX_STREAMS_PER_REQUEST, LogStreams, Tail
from watcher.model import JobSnapshot, Judge, Outcome
from watcher.policy import evaluated_rules

READ_INTERVAL_S = 2.0
"""Between two reads of the logs."""
LOOK_INTERVAL_S = 10.0
"""Between two looks at the job, and two searches for new streams."""
LAST_LINES_TIMEOUT_S = 10.0
"""How long to wait for late lines after the end."""

TRAINING = "training"


class Line(NamedTuple):
    timestamp: int
    """Milliseconds since 1970."""
    label: str
    """Where the line comes from: `RULE`, `RULE (Watcher)` for Watcher's own evaluation, or `training`."""
    rule: str | None
    stream: str
    text: str


class JobLog(ABC):
    """Log streams of one job, read together. Every method raises `AwsError`."""

    def __init__(self, since: datetime | None) -> None:
        self._since = since
        self._tails: dict[tuple[Aws, str], list[Tail]] = {}
        self._whose: dict[str, tuple[str, str | None]] = {}
        """Label and rule of each stream."""

    @property
    @abstractmethod
    def labels(self) -> Sequence[str]:
        """All labels that lines may have, so that they can be aligned."""

    @abstractmethod
    def look(self) -> None:
        """Search for new streams."""

    @abstractmethod
    def look_again(self) -> None:
        """Describe the job again, too. If it was deleted, it stays as it was."""

    @property
    @abstractmethod
    def ended_at(self) -> datetime | None:
        """Since when no more lines are written, although some may still arrive; None while lines are
        written."""

    @abstractmethod
    def _why_no_stream(self) -> str: ...

    def read(self) -> Iterator[Line]:
        """What is new, in the order of time. An `AwsError` is raised after all lines that could be read."""
        refusals: list[AwsError] = []
        tails = (tail for tails in self._tails.values() for tail in tails)
        yield from heapq.merge(*(self._lines(tail, refusals) for tail in tails))
        if refusals:
            raise refusals[0]

    def why_empty(self) -> str:
        """Why there are no lines, in a sentence."""
        if not self._whose:
            return self._why_no_stream()
        since = self._since
        return f"nothing was logged since {since:%Y-%m-%d %H:%M:%S} UTC" if since else "the log is empty"

    def _follow(self, aws: Aws, group: str, stream: str, label: str, rule: str | None) -> None:
        if stream not in self._whose:
            self._whose[stream] = (label, rule)
            tails = self._tails.setdefault((aws, group), [])
            # One request returns events in the order of time. More streams need several tails, which are
            # merged.
            if not tails or len(tails[-1].streams) >= MAX_STREAMS_PER_REQUEST:
                tails.append(Tail(aws, group))
            tails[-1].follow(stream, self._since)

    def _lines(self, tail: Tail, refusals: list[AwsError]) -> Iterator[Line]:
        # An error that passed through the merge would lose lines of the other tails, which return each line
        # once.
        try:
            for page in tail.read():
                for event in page:
                    label, rule = self._whose[event.stream]
                    yield Line(event.timestamp, label, rule, event.stream, event.message)
        except AwsError as error:
            refusals.append(error)


class TrainingLog(JobLog):
    """The training job's own log, one stream for each instance."""

    labels = (TRAINING,)

    def __init__(self, accounts: Accounts, name: str, since: datetime | None) -> None:
        """`name` is the job's name or its ARN."""
        super().__init__(since)
        self._accounts, self._name = accounts, name
        self._job: JobSnapshot | None = None

    def look(self) -> None:
        """Describes the job only if it has no stream, because streams are found by the job's name. Raises
        `UsageError` if there is no such job."""
        arn = self._name if is_arn(self._name) else ""
        for place in [self._accounts.of(arn)] if arn else self._accounts.places:
            for stream in LogStreams(place).training_streams(job_name(self._name)):
                self._follow(place, TRAINING_LOGS, stream, TRAINING, None)
        if not self._whose and self._job is None:
            self._job = find_job(self._accounts, self._name)

    def look_again(self) -> None:
        self._job = _described_again(self._accounts, self._job or find_job(self._accounts, self._name))
        self.look()

    @property
    def ended_at(self) -> datetime | None:
        job = self._job
        return (job.ended_at or job.modified_at) if job and job.ended else None

    def _why_no_stream(self) -> str:
        return f"{job_name(self._name)} has no log stream in {TRAINING_LOGS} yet"


class RulesLog(JobLog):
    """The logs of the processing jobs of a job's rules, and of Watcher's own evaluations if `rules.log_group`
    is set."""

    def __init__(
        self,
        accounts: Accounts,
        job: JobSnapshot,
        settings: Rules,
        rule: str | None,
        since: datetime | None,
    ) -> None:
        """`rule` None: all. Raises `UsageError` if the job has no such rule."""
        super().__init__(since)
        self._accounts, self._job, self._settings, self._rule = accounts, job, settings, rule
        self._aws = accounts.of(job.arn)
        self._streams = LogStreams(self._aws)
        _check(job, rule, self._local_rules())

    @property
    def labels(self) -> list[str]:
        ours = [_local_label(rule) for rule in self._local_rules()] if self._settings.log_group else []
        return list(dict.fromkeys([outcome.rule for outcome in self._outcomes()] + ours))

    def look(self) -> None:
        for rule in self._outcomes():
            if rule.evaluation_job_arn:
                found = self._streams.rule_streams(self._job.name, rule.rule, rule.evaluation_job_arn)
                for stream in found:
                    self._follow(self._aws, PROCESSING_LOGS, stream, rule.rule, rule.rule)
        if group := self._settings.log_group:
            home = self._accounts.home
            for name, stream in local_streams(home, group, self._job, self._local_rules()).items():
                self._follow(home, group, stream, _local_label(name), name)

    def look_again(self) -> None:
        self._job = _described_again(self._accounts, self._job)
        self.look()

    @property
    def ended_at(self) -> datetime | None:
        """When the job and its rules at SageMaker ended. Does not wait for Watcher's own evaluation, which
        may look at the job two minutes after its end."""
        job, rules = self._job, self._outcomes()
        if not (job.ended and all(rule.final for rule in rules)):
            return None
        return max([job.ended_at or job.modified_at, *(rule.updated_at for rule in rules if rule.updated_at)])

    def _why_no_stream(self) -> str:
        if not any(outcome.evaluation_job_arn for outcome in self._outcomes()):
            return f"no rule of {self._job.name} has a processing job yet"
        return f"the rules of {self._job.name} have no log stream in {PROCESSING_LOGS} yet"

    def _outcomes(self) -> list[Outcome]:
        theirs = (outcome for outcome in self._job.outcomes if outcome.judge is Judge.DEBUGGER)
        return [outcome for outcome in theirs if self._rule in (None, outcome.rule)]

    def _local_rules(self) -> list[str]:
        names = [rule.name for rule in evaluated_rules.local_rules(self._job, self._settings)]
        return [name for name in names if self._rule in (None, name)]


def follow(
    log: JobLog,
    show: Callable[[Iterator[Line]], int],
    warn: Callable[[str], None],
    *,
    now: datetime,
    clock: Callable[[], float],
    wait: Callable[[float], object],
) -> None:
    """Show lines as they are written, until the log has ended and nothing came for `LAST_LINES_TIMEOUT_S`.

    `show` returns the number of lines that it was given. If an API is unavailable, `warn` is called once, and
    the API is tried again. `clock` returns seconds.
    """
    looked_at = quiet_since = -math.inf
    followed = False
    unanswered: set[str] = set()
    while True:
        looks = clock() - looked_at >= LOOK_INTERVAL_S
        try:
            if looks:
                looked_at = clock()
                log.look_again()
            shown = show(log.read())
        except Unavailable as error:
            if error.operation not in unanswered:
                warn(f"{error}; trying again")
            unanswered.add(error.operation)
        else:
            if looks:  # otherwise, not every API was called, and one may still be unavailable
                unanswered.clear()
            ended_at = log.ended_at
            if ended_at and not followed:
                # These lines were written before the command started, and the job may have ended long ago:
                # then there is nothing to wait for. `now` and `ended_at` are from different clocks.
                quiet_since = clock() - max((now - ended_at).total_seconds(), 0)
            elif shown or not ended_at:
                quiet_since = clock()
            followed = True
            if clock() - quiet_since >= LAST_LINES_TIMEOUT_S:
                return
        wait(READ_INTERVAL_S)


def _described_again(accounts: Accounts, job: JobSnapshot) -> JobSnapshot:
    try:
        return TrainingJobs(accounts.of(job.arn)).describe(job.name)
    except NotFound:
        return job


def _check(job: JobSnapshot, rule: str | None, local: Sequence[str]) -> None:
    names = sorted({outcome.rule for outcome in job.outcomes} | {r.name for r in job.rules} | set(local))
    if not names:
        raise UsageError(f"{job.name} has no rules; its own log is shown by --training")
    if rule is not None and rule not in names:
        raise UsageError(f"{job.name} has no rule {rule}; it has {', '.join(names)}")


def _local_label(rule: str) -> str:
    return f"{rule} (Watcher)"
