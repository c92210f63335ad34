"""Writes the log of Watcher's own evaluations to CloudWatch.

Best effort: a line that cannot be written is lost, and neither delays nor fails an evaluation. Watcher does
not create the log group, because its retention and encryption are for the owner of the account to decide.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

import structlog

from watcher.aws.refused_calls import RefusedCalls
from watcher.aws.session import Aws, translate
from watcher.errors import NotFound
from watcher.logs.rule_log import Record, formatted, local_stream
from watcher.model import JobSnapshot

log = structlog.get_logger(__name__)

MAX_WAITING_ENTRIES = 10_000
"""Further entries are dropped: CloudWatch may be unreachable for long."""
MAX_IDLE_S = 30.0
"""How long `run` waits for an entry before it reports that it is alive."""
MAX_LINE_CHARACTERS = 10_000
"""Far below CloudWatch's own limit."""
CONSEQUENCE = "evaluations go on, and their log lines are lost"


class _Entry(NamedTuple):
    stream: str
    at: datetime
    lines: tuple[str, ...]


class EvaluationLog:
    """`write` may be called from any thread; one thread calls `run`. `host` is part of each line."""

    def __init__(self, aws: Aws, group: str, host: str, refused: RefusedCalls) -> None:
        self._aws, self._group, self._host, self._refused = aws, group, host, refused
        self._waiting: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()

    def write(self, job: JobSnapshot, rule: str, records: Sequence[Record], at: datetime) -> None:
        """Queue these lines of one rule's evaluation to be written. Returns at once."""
        if self.waiting() >= MAX_WAITING_ENTRIES:
            log.debug("evaluation_log_dropped", job=job.name, rule=rule)
            return
        texts = tuple(formatted(record, at, self._host, rule)[:MAX_LINE_CHARACTERS] for record in records)
        self._waiting.put(_Entry(local_stream(job.arn, rule, job.created_at), at, texts))

    def run(self, turned: Callable[[], None]) -> None:
        """Write what is queued, until `close` is called and everything before it is written.

        `turned` is called after each entry, and at least every half minute.
        """
        while True:
            turned()
            try:
                entry = self._waiting.get(timeout=MAX_IDLE_S)
            except queue.Empty:
                continue
            if entry is None:
                return
            self._write(entry)

    def _write(self, entry: _Entry) -> None:
        with self._refused.reported(CONSEQUENCE, self._aws):
            self._put(entry)
            self._refused.resolved("logs:CreateLogStream", self._aws)
            self._refused.resolved("logs:PutLogEvents", self._aws)

    def waiting(self) -> int:
        """The number of entries that wait to be written."""
        return self._waiting.qsize()

    def close(self) -> None:
        self._waiting.put(None)

    def _put(self, entry: _Entry) -> None:
        try:
            self._put_events(entry)
        except NotFound:  # the stream or the group is missing: creating the stream shows which
            self._create_stream(entry.stream)
            self._put_events(entry)

    def _put_events(self, entry: _Entry) -> None:
        milliseconds = int(entry.at.timestamp() * 1000)
        with translate("logs:PutLogEvents"):
            self._aws.logs.put_log_events(
                logGroupName=self._group,
                logStreamName=entry.stream,
                logEvents=[{"timestamp": milliseconds, "message": line} for line in entry.lines],
            )

    def _create_stream(self, stream: str) -> None:
        logs = self._aws.logs
        try:
            # Another thread or process may create it at the same time.
            with (
                translate("logs:CreateLogStream"),
                suppress(logs.exceptions.ResourceAlreadyExistsException),
            ):
                logs.create_log_stream(logGroupName=self._group, logStreamName=stream)
        except NotFound as error:
            problem, fix = missing_group(self._group, self._aws.region)
            raise NotFound(f"{problem}: {fix}", operation=error.operation) from error


def missing_group(group: str, region: str) -> tuple[str, str]:
    """What is wrong, and how to fix it."""
    create = f"aws logs create-log-group --region {region} --log-group-name {group}"
    return (
        f"rules.log_group: log group {group} does not exist in {region}",
        f"create it ({create}), or leave rules.log_group empty",
    )


def local_streams(aws: Aws, group: str, job: JobSnapshot, rules: Iterable[str]) -> dict[str, str]:
    """The existing log streams of Watcher's own evaluations of a job, by the name of the rule. Raises
    `AwsError`."""
    return {
        rule: stream
        for rule in rules
        if _exists(aws, group, stream := local_stream(job.arn, rule, job.created_at))
    }


def _exists(aws: Aws, group: str, stream: str) -> bool:
    with suppress(NotFound), translate("logs:DescribeLogStreams"):
        answer = aws.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream, limit=1)
        return bool(answer["logStreams"])
    return False
