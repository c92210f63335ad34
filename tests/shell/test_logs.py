"""Following many log streams together: no line is missed or repeated, with few requests."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.doubles.cloudwatch import CloudWatchDouble
from watcher.aws.links import PROCESSING_LOGS, TRAINING_LOGS
from watcher.aws.session import PUBLISH_ONCE, Aws
from watcher.errors import AccessDenied, AwsError, CredentialsError, Unavailable
from watcher.logs.streams import (
    MAX_MESSAGE_CHARACTERS,
    MAX_PAGES_OF_A_TAIL,
    OVERLAP_S,
    LogStreams,
    Tail,
)
from watcher.sandbox.process import Sandbox

if TYPE_CHECKING:
    from types_boto3_logs import CloudWatchLogsClient

JOB = "Churn-XGB-2026-11-18-09-30-02-114"
RULE = "LossNotDecreasing"
ARN = (
    "arn:aws:sagemaker:us-east-1:123456789012:processing-job/"
    "churn-xgb-2026-11-18-09-30-lossnotdecreasing-ee3df9a4"
)
STREAM = "Churn-XGB-2026-11-18-09-30-LossNotDecreasing-ee3df9a4/algo-1-1763458480000"


OVERLAP_MS = int(OVERLAP_S * 1000)
LONG_SUFFIX = "." * 300_000
"""Three lines with this suffix fill a page."""


class Logs:
    """Writes to CloudWatch Logs."""

    def __init__(self, sandbox: Sandbox, group: str = PROCESSING_LOGS) -> None:
        self.client: Any = sandbox.client("logs")
        self.group = group
        self.client.create_log_group(logGroupName=group)

    def create(self, *streams: str) -> None:
        for stream in streams:
            self.client.create_log_stream(logGroupName=self.group, logStreamName=stream)

    def put(self, stream: str, lines: Iterable[str], ago: int = 0) -> None:
        """Write lines with an age of `ago` milliseconds by the writer's clock, negative if that is ahead."""
        at = int(time.time() * 1000) - ago
        events = [{"timestamp": at, "message": line} for line in lines]
        self.client.put_log_events(logGroupName=self.group, logStreamName=stream, logEvents=events)

    def delete(self, stream: str) -> None:
        self.client.delete_log_stream(logGroupName=self.group, logStreamName=stream)


class NoRetries(Aws):
    """AWS clients that do not retry."""

    @property
    def logs(self) -> CloudWatchLogsClient:
        return self.client("logs", config=PUBLISH_ONCE)  # type: ignore[no-any-return]


@pytest.fixture
def logs(aws_environment: Sandbox) -> Logs:
    return Logs(aws_environment)


@pytest.fixture
def tail(logs: Logs) -> Tail:
    return Tail(Aws("us-east-1"), PROCESSING_LOGS)


def read_cycle(tail: Tail, pages: int | None = None) -> list[str]:
    """The messages of one cycle, or of its first `pages` pages."""
    return [event.message for page in islice(tail.read(), pages) for event in page]


def filters(sandbox: Sandbox) -> int:
    return sandbox.control.calls().get("logs:FilterLogEvents", 0)


# -- following ------------------------------------------------------------------------------------


def test_existing_lines_are_returned_first_and_then_only_new_ones(logs: Logs, tail: Tail):
    logs.create("a")
    logs.put("a", ["one", "two"], ago=3_600_000)
    tail.follow("a")

    assert read_cycle(tail) == ["one", "two"]
    logs.put("a", ["three"])
    assert read_cycle(tail) == ["three"]
    assert read_cycle(tail) == []


def test_a_cycle_over_250_streams_costs_three_requests_for_logs_of_any_length(
    logs: Logs, tail: Tail, aws_environment: Sandbox
):
    streams = [f"stream-{number:03d}" for number in range(250)]
    logs.create(*streams)
    for stream in streams:
        logs.put(stream, ["boot"], ago=600_000)
        tail.follow(stream)
    logs.put("stream-000", map(str, range(9_000)), ago=300_000)
    assert len(read_cycle(tail)) == 9_250

    aws_environment.control.forget_calls()
    for cycle in range(50):
        logs.put(streams[cycle], ["line"])
        assert read_cycle(tail) == ["line"]

    assert filters(aws_environment) == 3 * 50


def test_events_of_all_streams_come_in_order_of_time(logs: Logs, tail: Tail):
    logs.create("a", "b")
    for number in range(6):
        logs.put("ab"[number % 2], [str(number)], ago=6_000 - number * 1_000)
    tail.follow("a")
    tail.follow("b")

    assert read_cycle(tail) == [str(number) for number in range(6)]


def test_late_events_within_the_window_are_returned_once(logs: Logs, tail: Tail):
    logs.create("a")
    tail.follow("a")
    logs.put("a", ["new"])
    assert read_cycle(tail) == ["new"]

    logs.put("a", ["as late as can be"], ago=OVERLAP_MS)
    logs.put("a", ["late"], ago=OVERLAP_MS - 3_000)

    assert read_cycle(tail) == ["as late as can be", "late"]
    assert read_cycle(tail) == []


def test_lines_with_equal_text_and_time_are_all_returned(logs: Logs, tail: Tail):
    logs.create("a")
    tail.follow("a")
    logs.put("a", ["same", "same", "same"])

    assert read_cycle(tail) == ["same"] * 3
    assert read_cycle(tail) == []


def test_following_starts_at_the_requested_time(logs: Logs, tail: Tail):
    logs.create("a", "b")
    logs.put("a", ["a, old"], ago=7_200_000)
    logs.put("b", ["b, old"], ago=7_200_000)
    logs.put("b", ["b, young"], ago=60_000)
    tail.follow("a")
    tail.follow("b", datetime.fromtimestamp(time.time() - 3600, UTC))

    assert read_cycle(tail) == ["a, old", "b, young"]


def test_a_stream_added_later_is_read_from_its_start_and_the_others_continue(logs: Logs, tail: Tail):
    logs.create("a", "b")
    logs.put("a", ["a1"], ago=600_000)
    tail.follow("a")
    assert read_cycle(tail) == ["a1"]
    logs.put("b", ["b1"], ago=900_000)
    tail.follow("b")
    tail.follow("a")

    assert read_cycle(tail) == ["b1"]


def test_adding_a_stream_does_not_read_the_past_of_the_others_again(
    logs: Logs, tail: Tail, aws_environment: Sandbox
):
    logs.create("a", "b")
    logs.put("a", [LONG_SUFFIX] * 12, ago=600_000)
    tail.follow("a")
    assert len(read_cycle(tail)) == 12
    logs.put("a", ["a, again"])
    logs.put("b", ["b"], ago=900_000)
    tail.follow("b")
    aws_environment.control.forget_calls()

    assert read_cycle(tail) == ["a, again", "b"]
    assert filters(aws_environment) == 2


def test_a_page_without_events_is_not_the_end(logs: Logs, tail: Tail):
    logs.create("a")
    logs.put("a", [LONG_SUFFIX] * 4, ago=600_000)
    tail.follow("a")

    assert [len(page) for page in tail.read()] == [0, 3, 1]


def test_a_writer_whose_clock_is_ahead_hides_no_other_writer(logs: Logs, tail: Tail):
    logs.create("ahead", "a")
    tail.follow("ahead")
    tail.follow("a")
    logs.put("ahead", [LONG_SUFFIX] * 4, ago=-3_600_000)
    assert len(read_cycle(tail)) == 4

    logs.put("a", ["now"])

    assert read_cycle(tail) == ["now"]


def test_a_forgotten_stream_is_no_longer_read(logs: Logs, tail: Tail, aws_environment: Sandbox):
    logs.create("a")
    logs.put("a", ["a1"])
    tail.follow("a")
    tail.forget("a")

    assert read_cycle(tail) == []
    assert filters(aws_environment) == 0


@dataclass(frozen=True)
class Put:
    stream: str
    ago: int
    fills: bool
    """Whether the line is so long that CloudWatch soon needs another page."""
    pages: int | None
    """After how many pages the next cycle is interrupted; None: it runs to its end."""


puts = st.lists(
    st.builds(
        Put,
        stream=st.sampled_from("abc"),
        ago=st.integers(-60_000, OVERLAP_MS),
        fills=st.sampled_from([False, False, True]),
        pages=st.sampled_from([0, 0, 1, 2, 3, None]),
    ),
    max_size=12,
)


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(puts)
def test_each_line_is_returned_exactly_once_despite_delays_and_interrupted_cycles(logs: Logs, put: list[Put]):
    tail = Tail(Aws("us-east-1"), PROCESSING_LOGS)
    expected: Counter[str] = Counter()
    found: Counter[str] = Counter()
    streams = {name: f"{name}-{time.monotonic_ns()}" for name in "abc"}
    logs.create(*streams.values())
    for stream in streams.values():
        tail.follow(stream)
    for number, one in enumerate(put):
        line = f"line {number % 3}{LONG_SUFFIX if one.fills else ''}"
        logs.put(streams[one.stream], [line], one.ago)
        expected[line] += 1
        found.update(read_cycle(tail, one.pages))
    found.update(read_cycle(tail))

    assert found == expected
    assert read_cycle(tail) == []


# -- what goes wrong ------------------------------------------------------------------------------


def test_a_group_without_any_log_is_empty(aws_environment: Sandbox):
    tail = Tail(Aws("us-east-1"), PROCESSING_LOGS)
    tail.follow("a")
    assert read_cycle(tail) == []

    logs = Logs(aws_environment)
    logs.create("a")
    logs.put("a", ["first"])

    assert read_cycle(tail) == ["first"]


def test_a_deleted_stream_does_not_affect_the_others(logs: Logs, tail: Tail, aws_environment: Sandbox):
    streams = [f"stream-{number:02d}" for number in range(64)]
    logs.create(*streams)
    for stream in streams:
        tail.follow(stream)
    assert read_cycle(tail) == []
    logs.delete("stream-17")
    for stream in streams:
        if stream != "stream-17":
            logs.put(stream, [stream])
    aws_environment.control.forget_calls()

    with capture_logs() as said:
        found = read_cycle(tail)

    assert sorted(found) == [stream for stream in streams if stream != "stream-17"]
    assert filters(aws_environment) <= 14
    assert [entry["stream"] for entry in said if entry["event"] == "log_stream_vanished"] == ["stream-17"]
    assert "stream-17" not in tail.streams
    aws_environment.control.forget_calls()
    assert read_cycle(tail) == []
    assert filters(aws_environment) == 1


def test_a_missing_permission_is_named(logs: Logs, tail: Tail, aws_environment: Sandbox):
    logs.create("a")
    tail.follow("a")
    aws_environment.control.inject_fault("logs:FilterLogEvents", code="AccessDeniedException")

    with pytest.raises(AccessDenied, match="logs:FilterLogEvents"):
        read_cycle(tail)


def test_a_throttled_request_is_repeated(logs: Logs, tail: Tail, aws_environment: Sandbox):
    logs.create("a")
    logs.put("a", ["one"])
    tail.follow("a")
    aws_environment.control.inject_fault("logs:FilterLogEvents", code="ThrottlingException", times=1)

    assert read_cycle(tail) == ["one"]


@pytest.mark.parametrize(
    ("code", "error"),
    [("ThrottlingException", Unavailable), ("ExpiredTokenException", CredentialsError)],
)
def test_a_cycle_refused_in_the_middle_continues_without_losing_or_repeating_lines(
    logs: Logs, aws_environment: Sandbox, code: str, error: type[AwsError]
):
    lines = [str(number) for number in range(25_000)]
    logs.create("a")
    for hour in range(3):
        logs.put("a", lines[hour * 9_000 : (hour + 1) * 9_000], ago=(4 - hour) * 3_600_000)
    tail = Tail(NoRetries("us-east-1"), PROCESSING_LOGS)
    tail.follow("a")
    found: list[str] = []
    reading = tail.read()
    while not found:
        found += [event.message for event in next(reading)]
    aws_environment.control.inject_fault("logs:FilterLogEvents", code)
    with pytest.raises(error, match="logs:FilterLogEvents"):
        next(reading)
    with pytest.raises(error, match="logs:FilterLogEvents"):
        read_cycle(tail)
    assert len(found) == 10_000
    aws_environment.control.clear_faults()

    found += read_cycle(tail)

    assert found == lines


def test_a_stream_deleted_between_two_pages_does_not_affect_the_others(logs: Logs, tail: Tail):
    logs.create("a", "b")
    for number in range(12):
        logs.put("ab"[number % 2], [f"{number} {LONG_SUFFIX}"], ago=1_200_000 - number * 60_000)
    tail.follow("a")
    tail.follow("b")
    found: list[str] = []
    reading = tail.read()
    while not found:
        found += [event.message.split()[0] for event in next(reading)]
    logs.delete("b")

    found += [event.message.split()[0] for page in reading for event in page]

    assert found == ["0", "1", "2", "4", "6", "8", "10"]
    assert list(tail.streams) == ["a"]


def test_a_group_that_is_deleted_is_empty_and_its_streams_are_kept(
    logs: Logs, tail: Tail, aws_environment: Sandbox
):
    logs.create("a", "b")
    logs.put("a", ["a1"])
    tail.follow("a")
    tail.follow("b")
    assert read_cycle(tail) == ["a1"]
    logs.client.delete_log_group(logGroupName=logs.group)

    assert read_cycle(tail) == []
    again = Logs(aws_environment)
    again.create("a", "b")
    again.put("b", ["b1"])
    assert read_cycle(tail) == ["b1"]


def test_memory_does_not_grow_with_a_long_log(logs: Logs, tail: Tail):
    logs.create("a")
    for minute in range(4):
        logs.put("a", ["line"] * 10_000, ago=(20 - minute) * 60_000)
    tail.follow("a")

    taken = []
    tracemalloc.start()
    try:
        for page in tail.read():
            page.clear()
            taken.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()

    assert len(taken) == 5  # the first page has no events
    assert max(taken[2:]) - taken[2] < 1_000_000  # 10,000 ids alone would take more


# -- which streams --------------------------------------------------------------------------------


def test_a_rules_stream_is_found_by_the_digits_of_its_arn_in_any_case(logs: Logs, aws_environment: Sandbox):
    logs.create(STREAM, "Churn-XGB-2026-11-18-09-30-Overfit-00000000/algo-1-1763458480000")
    log_streams = LogStreams(Aws("us-east-1"))

    assert log_streams.rule_streams(JOB, RULE, ARN) == [STREAM]
    assert log_streams.rule_stream(JOB, RULE, ARN) == STREAM
    assert aws_environment.control.calls()["logs:DescribeLogStreams"] == 1


def test_the_digits_decide_when_the_name_pattern_does_not_match(logs: Logs, aws_environment: Sandbox):
    odd = "Churn-XGB-2026-11-18-09-30-my-own-name-EE3DF9A4/algo-1-1763458480000"
    logs.create(odd)
    log_streams = LogStreams(Aws("us-east-1"))

    assert [log_streams.rule_stream(JOB, RULE, ARN) for _ in range(3)] == [odd] * 3
    assert aws_environment.control.calls()["logs:DescribeLogStreams"] == 2


def test_a_stream_that_appears_minutes_later_is_found_when_it_appears(logs: Logs):
    log_streams = LogStreams(Aws("us-east-1"))
    assert log_streams.rule_streams(JOB, RULE, ARN) == []

    logs.create(STREAM)

    assert log_streams.rule_streams(JOB, RULE, ARN) == [STREAM]


def test_each_instance_of_a_training_job_has_its_own_stream(aws_environment: Sandbox):
    logs = Logs(aws_environment, TRAINING_LOGS)
    streams = [f"{JOB}/algo-{number}-1763458480000" for number in range(1, 61)]
    logs.create(*streams, f"{JOB}-other/algo-1-1763458480000")

    found = LogStreams(Aws("us-east-1")).training_streams(JOB)

    assert sorted(found) == sorted(streams)


def test_looking_for_a_missing_stream_never_lists_all_streams(
    logs: Logs, aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("watcher.logs.streams.MAX_PAGES_SEARCHED", 2)
    logs.create(*(f"{JOB[:26]}-Other-{number:08x}/algo-1-1763458480000" for number in range(120)))
    aws_environment.control.forget_calls()

    assert LogStreams(Aws("us-east-1")).rule_streams(JOB, RULE, ARN) == []
    assert aws_environment.control.calls()["logs:DescribeLogStreams"] == 1 + 2


# -- the end of one stream -------------------------------------------------------------------------


def page(token: str, *messages: str) -> dict[str, Any]:
    events = [{"timestamp": 0, "message": message, "ingestionTime": 0} for message in messages]
    return {"events": events, "nextBackwardToken": token, "nextForwardToken": "f/0"}


@pytest.fixture
def cloudwatch(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudWatchDouble]:
    with CloudWatchDouble() as double:
        monkeypatch.setenv("AWS_ENDPOINT_URL", double.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield double


def test_an_empty_page_with_another_token_is_not_the_end(cloudwatch: CloudWatchDouble):
    cloudwatch.answers = [page("b/2"), page("b/1", "three", "four"), page("b/0", "one", "two"), page("b/0")]

    assert LogStreams(Aws("us-east-1")).tail("group", "stream", 100) == ("one", "two", "three", "four")
    assert [request.get("nextToken") for request in cloudwatch.requests] == [None, "b/2", "b/1", "b/0"]


def test_no_more_is_asked_for_than_is_needed(cloudwatch: CloudWatchDouble):
    cloudwatch.answers = [page("b/1", "three"), page("b/0", "one", "two")]

    assert LogStreams(Aws("us-east-1")).tail("group", "stream", 3) == ("one", "two", "three")
    assert [request["limit"] for request in cloudwatch.requests] == [3, 2]


def test_a_stream_is_empty_once_its_token_repeats(cloudwatch: CloudWatchDouble):
    cloudwatch.answers = [page("b/1"), page("b/0"), page("b/0")]

    assert LogStreams(Aws("us-east-1")).tail("group", "stream", 100) == ()


def test_a_stream_of_empty_pages_alone_is_not_called_empty(cloudwatch: CloudWatchDouble):
    cloudwatch.answers = [page(f"b/{number}") for number in range(MAX_PAGES_OF_A_TAIL + 1)]

    with pytest.raises(Unavailable, match="20 empty pages"):
        LogStreams(Aws("us-east-1")).tail("group", "stream", 100)
    assert len(cloudwatch.requests) == MAX_PAGES_OF_A_TAIL


def test_of_a_very_long_line_both_ends_are_read(cloudwatch: CloudWatchDouble):
    cloudwatch.answers = [page("b/0", f"begin{'x' * 900_000}end"), page("b/0")]

    [line] = LogStreams(Aws("us-east-1")).tail("group", "stream", 100)

    assert line.startswith("begin")
    assert line.endswith("end")
    assert len(line) < MAX_MESSAGE_CHARACTERS + 10
