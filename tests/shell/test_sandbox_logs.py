"""The sandbox's CloudWatch Logs behave as the documentation of `FilterLogEvents` says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from watcher.sandbox.process import Sandbox

GROUP = "/aws/sagemaker/ProcessingJobs"
NOW = int(time.time() * 1000)


@pytest.fixture
def logs(sandbox: Sandbox) -> Any:
    client = sandbox.client("logs")
    client.create_log_group(logGroupName=GROUP)
    for stream in "ab":
        client.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    return client


def put(logs: Any, stream: str, *events: tuple[int, str]) -> None:
    batch = [{"timestamp": NOW + at, "message": message} for at, message in events]
    logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=batch)


def pages(logs: Any, **wanted: Any) -> list[list[str]]:
    answers = logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP, **wanted)
    return [[event["message"] for event in answer["events"]] for answer in answers]


def test_events_of_all_streams_are_in_order_of_time_for_any_order_of_writes(logs: Any):
    put(logs, "a", (-30, "1"), (-10, "3"))
    put(logs, "b", (-20, "2"), (-10, "4"))
    put(logs, "a", (-40, "0"))

    assert pages(logs) == [["0", "1", "2", "3", "4"]]


def test_start_and_end_times_are_inclusive(logs: Any):
    put(logs, "a", (-3, "0"), (-2, "1"), (-1, "2"), (0, "3"))

    assert pages(logs, startTime=NOW - 2, endTime=NOW - 1) == [["1", "2"]]


def test_streams_are_chosen_by_name_and_events_by_pattern(logs: Any):
    put(logs, "a", (-2, "loss 1"), (-1, "boot"))
    put(logs, "b", (-1, "loss 2"))

    assert pages(logs, logStreamNames=["a"], filterPattern="loss") == [["loss 1"]]


def test_streams_are_chosen_by_the_beginning_of_their_names(logs: Any):
    logs.create_log_stream(logGroupName=GROUP, logStreamName="ab")
    put(logs, "a", (-2, "1"))
    put(logs, "ab", (-1, "2"))
    put(logs, "b", (-1, "3"))

    assert pages(logs, logStreamNamePrefix="a") == [["1", "2"]]
    assert pages(logs, logStreamNamePrefix="c") == [[]]
    with pytest.raises(ClientError, match="exclude each other"):
        pages(logs, logStreamNamePrefix="a", logStreamNames=["a"])


def test_a_page_ends_at_its_limit_or_at_a_megabyte_and_the_first_of_several_has_no_events(logs: Any):
    put(logs, "a", *((-9 + number, str(number)) for number in range(5)))
    assert pages(logs, limit=2) == [[], ["0", "1"], ["2", "3"], ["4"]]

    put(logs, "b", *((-9, "." * 400_000) for _ in range(3)))
    assert [len(page) for page in pages(logs, logStreamNames=["b"])] == [0, 2, 1]


def test_one_missing_stream_refuses_the_call(logs: Any):
    with pytest.raises(ClientError, match="The specified log stream does not exist") as refused:
        pages(logs, logStreamNames=["a", "gone"])

    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_events_with_the_same_time_have_different_ids(logs: Any):
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda number: put(logs, "ab"[number % 2], *[(0, "x")] * 50), range(40)))

    events = logs.filter_log_events(logGroupName=GROUP)["events"]

    assert len({event["eventId"] for event in events}) == len(events) == 2_000


def test_awslogs_reads_them_as_it_reads_cloudwatch(logs: Any, sandbox: Sandbox):
    put(logs, "a", (-2000, "first"), (0, "third"))
    put(logs, "b", (-1000, "second"))

    done = subprocess.run(
        [Path(sys.executable).with_name("awslogs"), "get", GROUP, "--no-group", "--start", "1h"],
        env={**os.environ, **sandbox.env},
        capture_output=True,
        text=True,
        check=True,
    )

    assert [line.split() for line in done.stdout.splitlines()] == [
        ["a", "first"],
        ["b", "second"],
        ["a", "third"],
    ]
