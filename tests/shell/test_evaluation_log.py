"""The log lines of Watcher's own evaluations, in the sandbox's CloudWatch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.jobs import a_job
from tests.waiting import WAIT_LIMIT_S
from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.aws.session import Aws
from watcher.logs import evaluation_log
from watcher.logs.evaluation_log import EvaluationLog, local_streams
from watcher.logs.rule_log import Record
from watcher.model import JobSnapshot
from watcher.sandbox.process import Sandbox

GROUP = "/watcher/evaluations"
RULE = "LossNotDecreasing"
LINES = [Record("INFO", "first"), Record("WARNING", "second")]
NOW = datetime.now(UTC).replace(microsecond=345_000)
"""The real time, because CloudWatch refuses lines that are more than two weeks old."""


@pytest.fixture
def logs(aws_environment: Sandbox) -> Iterator[Any]:
    client = aws_environment.client("logs")
    yield client
    client.close()


@pytest.fixture
def group(logs: Any) -> str:
    logs.create_log_group(logGroupName=GROUP)
    return GROUP


@pytest.fixture
def evaluations(aws_environment: Sandbox) -> EvaluationLog:
    accounts = Accounts(aws_environment.region)
    return EvaluationLog(accounts.home, GROUP, "watcher:1", RefusedCalls(accounts))


@pytest.fixture
def job() -> JobSnapshot:
    return a_job("Churn-XGB-with-a-name-longer-than-that")


@pytest.fixture
def written(logs: Any, job: JobSnapshot) -> Callable[[str], list[str]]:
    def written(rule: str = RULE) -> list[str]:
        streams = local_streams(Aws("us-east-1"), GROUP, job, [rule])
        if not streams:
            return []
        answer = logs.get_log_events(logGroupName=GROUP, logStreamName=streams[rule], startFromHead=True)
        return [event["message"] for event in answer["events"]]

    return written


def write_all(evaluations: EvaluationLog) -> None:
    evaluations.close()
    evaluations.run(turned=lambda: None)


@pytest.mark.usefixtures("group")
def test_lines_have_debuggers_format_in_a_stream_named_like_that_of_a_rule_job(evaluations, job, logs):
    evaluations.write(job, RULE, LINES, NOW)
    evaluations.write(job, RULE, [Record("INFO", "third")], NOW + timedelta(seconds=1))
    write_all(evaluations)

    [stream] = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
    answer = logs.get_log_events(
        logGroupName=GROUP, logStreamName=stream["logStreamName"], startFromHead=True
    )
    assert stream["logStreamName"].startswith("Churn-XGB-with-a-name-long-LossNotDecreasing-")
    assert [event["message"] for event in answer["events"]] == [
        f"[{NOW:%Y-%m-%d %H:%M:%S}.345 watcher:1 INFO LossNotDecreasing] first",
        f"[{NOW:%Y-%m-%d %H:%M:%S}.345 watcher:1 WARNING LossNotDecreasing] second",
        f"[{NOW + timedelta(seconds=1):%Y-%m-%d %H:%M:%S}.345 watcher:1 INFO LossNotDecreasing] third",
    ]
    assert answer["events"][0]["timestamp"] == NOW.timestamp() * 1000


@pytest.mark.usefixtures("group")
def test_the_streams_of_a_job_are_found_by_rule(evaluations, job):
    evaluations.write(job, RULE, LINES, NOW)
    write_all(evaluations)

    found = local_streams(Aws("us-east-1"), GROUP, job, ["Overfit", RULE])

    assert list(found) == [RULE]
    assert local_streams(Aws("us-east-1"), "/no/such/group", job, [RULE]) == {}


@pytest.mark.usefixtures("group")
def test_a_stream_is_created_with_its_first_line_and_each_later_write_is_one_call(
    evaluations, job, aws_environment
):
    evaluations.write(job, RULE, LINES, NOW)
    for second in range(1, 5):
        evaluations.write(job, RULE, LINES, NOW + timedelta(seconds=second))
    aws_environment.control.forget_calls()
    write_all(evaluations)

    calls = aws_environment.control.calls()
    assert calls == {"logs:PutLogEvents": 6, "logs:CreateLogStream": 1}


@pytest.mark.usefixtures("group")
def test_a_stream_that_another_process_just_created_is_used(evaluations, job, aws_environment, written):
    evaluations.write(job, RULE, LINES[:1], NOW)
    write_all(evaluations)
    # This process believes that the stream is missing, and finds it when it tries to create it.
    aws_environment.control.inject_fault(
        "logs:PutLogEvents", "ResourceNotFoundException", "The specified log stream does not exist.", times=1
    )
    evaluations.write(job, RULE, LINES[1:], NOW)
    write_all(evaluations)

    assert [line.split("] ")[1] for line in written()] == ["first", "second"]


def test_a_missing_group_is_logged_once_with_the_fix_and_not_created(evaluations, job, logs):
    for second in range(3):
        evaluations.write(job, RULE, LINES, NOW + timedelta(seconds=second))
    with capture_logs() as logged:
        write_all(evaluations)

    [refusal] = [entry for entry in logged if entry["log_level"] == "error"]
    assert (
        "aws logs create-log-group --region us-east-1 --log-group-name /watcher/evaluations"
        in refusal["error"]
    )
    assert refusal["consequence"] == evaluation_log.CONSEQUENCE
    assert logs.describe_log_groups()["logGroups"] == []


@pytest.mark.usefixtures("group")
def test_refused_lines_are_lost_and_later_lines_are_written(evaluations, job, aws_environment, written):
    evaluations.write(job, "Overfit", LINES, NOW)
    evaluations.write(job, RULE, LINES, NOW)
    aws_environment.control.inject_fault(
        "logs:PutLogEvents", "AccessDeniedException", "not authorized", times=1
    )
    with capture_logs() as logged:
        write_all(evaluations)

    assert [entry["event"] for entry in logged] == ["aws_refused", "aws_answers_again"]
    assert written("Overfit") == []
    assert len(written()) == 2


def test_writing_returns_immediately_and_its_queue_is_bounded(evaluations, job, monkeypatch):
    monkeypatch.setattr(evaluation_log, "MAX_WAITING_ENTRIES", 3)
    writer = threading.Thread(
        target=lambda: [evaluations.write(job, RULE, LINES, NOW) for _ in range(100)], daemon=True
    )
    writer.start()
    writer.join(WAIT_LIMIT_S)

    assert not writer.is_alive()
    assert evaluations.waiting() == 3
