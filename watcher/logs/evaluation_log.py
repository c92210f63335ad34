"""The log of Watcher's own evaluations, in CloudWatch beside those of rules' processing jobs.

Best effort: a line that cannot be written is lost, and neither delays nor fails an evaluation. The log group
is not Watcher's to create, since its retention and its encryption are somebody's decision.
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
from watcher.logs.rule_log import Line, local_stream, record
from watcher.model import JobSnapshot

log = structlog.get_logger(__name__)

WAITING = 10_000
"""Entries that wait to be written, at most: CloudWatch may be out of reach for long."""
PATIENCE = 30.0
"""Seconds that it waits for an entry before it turns."""
LONGEST_LINE = 10_000
"""In characters; CloudWatch's own limit is far beyond."""
CONSEQUENCE = "evaluations go on, and their log lines are lost"


class _Entry(NamedTuple):
    stream: str
    at: datetime
    lines: tuple[str, ...]


class EvaluationLog:
    """`write` may be called from any thread; one thread is in `run`. `host` stands in each line."""

    def __init__(self, aws: Aws, group: str, host: str, refused: RefusedCalls) -> None:
        self._aws, self._group, self._host, self._refused = aws, group, host, refused
        self._waiting: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()

    def write(self, job: JobSnapshot, rule: str, lines: Sequence[Line], at: datetime) -> None:
        """Have these lines of one rule's evaluation written; returns at once."""
        if self.waiting() >= WAITING:
            log.debug("evaluation_log_dropped", job=job.name, rule=rule)
            return
        texts = tuple(record(line, at, self._host, rule)[:LONGEST_LINE] for line in lines)
        self._waiting.put(_Entry(local_stream(job.arn, rule, job.created_at), at, texts))

    def run(self, turned: Callable[[], None]) -> None:
        """Write what comes, until `close` is called and all that came before it is written.

        `turned` is called after each entry, and at least every half minute.
        """
        while True:
            turned()
            try:
                entry = self._waiting.get(timeout=PATIENCE)
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
        """How many entries wait to be written."""
        return self._waiting.qsize()

    def close(self) -> None:
        self._waiting.put(None)

    def _put(self, entry: _Entry) -> None:
        try:
            self._put_events(entry)
        except NotFound:  # the stream, or the group: creating the stream tells
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
            # Another process may evaluate another rule of the job, and write its first line right now.
            with (
                translate("logs:CreateLogStream"),
                suppress(logs.exceptions.ResourceAlreadyExistsException),
            ):
                logs.create_log_stream(logGroupName=self._group, logStreamName=stream)
        except NotFound as error:
            problem, mend = missing_group(self._group, self._aws.region)
            raise NotFound(f"{problem}: {mend}", operation=error.operation) from error


def missing_group(group: str, region: str) -> tuple[str, str]:
    """What is wrong, and the mend."""
    create = f"aws logs create-log-group --region {region} --log-group-name {group}"
    return (
        f"rules.log_group: there is no log group {group} in {region}",
        f"create it ({create}), or leave rules.log_group empty",
    )


def local_streams(aws: Aws, group: str, job: JobSnapshot, rules: Iterable[str]) -> dict[str, str]:
    """The log streams of Watcher's own evaluations of these rules of a job, by the rule's name; of those
    that are there. Raises `AwsError`."""
    return {
        rule: stream
        for rule in rules
        if _is_there(aws, group, stream := local_stream(job.arn, rule, job.created_at))
    }


def _is_there(aws: Aws, group: str, stream: str) -> bool:
    with suppress(NotFound), translate("logs:DescribeLogStreams"):
        answer = aws.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream, limit=1)
        return bool(answer["logStreams"])
    return False
