"""An unexpected error ends with the thing that was being handled, and is logged once."""

from __future__ import annotations

import struct
import zlib

import pytest
from structlog.testing import capture_logs

from watcher.errors import StoreError, Unavailable
from watcher.jobs.failures import Failures

UNEXPECTED = [
    RecursionError("maximum recursion depth exceeded"),
    OverflowError("cannot convert float infinity to integer"),
    MemoryError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    struct.error("unpack requires a buffer of 8 bytes"),
    zlib.error("incorrect header check"),
    KeyError("_meta"),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_any_error_is_caught_and_logged_once_with_its_cause(error: Exception):
    failures = Failures()
    with capture_logs() as logs:
        for _ in range(3):
            with failures.caught("look_failed", "tried again", run="churn") as caught:
                raise error
            assert caught == [error]
    loud = [line for line in logs if line["log_level"] == "error"]
    assert len(loud) == 1
    assert loud[0]["run"] == "churn"
    assert loud[0]["error"].startswith(type(error).__name__)


def test_each_run_and_each_cause_is_logged():
    failures = Failures()
    with capture_logs() as logs:
        for run, cause in [("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")]:
            with failures.caught("look_failed", "tried again", run=run):
                raise ValueError(cause)
    assert sum(line["log_level"] == "error" for line in logs) == 3


@pytest.mark.parametrize("error", [StoreError("locked"), Unavailable("down", operation="s3:GetObject")])
def test_what_concerns_the_next_calls_too_is_not_caught(error: Exception):
    with pytest.raises(type(error)), Failures().caught("look_failed", "tried again"):
        raise error


def test_the_text_of_an_error_is_bounded_and_on_one_line():
    with capture_logs() as logs, Failures().caught("look_failed", "tried again"):
        raise ValueError("a\nb" * 100_000)
    assert len(logs[0]["error"]) <= 500
    assert "\n" not in logs[0]["error"]
