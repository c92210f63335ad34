from __future__ import annotations

from datetime import UTC, datetime

import pytest

from watcher.delivery.channels.http_status import RETRY_AFTER_LIMIT_S, retry, retry_after_s

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        ("0", 0.0),
        ("Fri, 20 Nov 2026 10:01:30 GMT", 90.0),
        ("Fri, 20 Nov 2026 09:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2099 09:00:00 GMT", RETRY_AFTER_LIMIT_S),
        ("9" * 400, RETRY_AFTER_LIMIT_S),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date_and_limited_to_an_hour(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after_s(header, NOW) == seconds


@pytest.mark.parametrize("status", [408, 425, 429])
def test_an_unprocessed_request_is_retried_and_certainly_did_not_arrive(status: int) -> None:
    error = retry("busy", status, "30", NOW)
    assert error
    assert (str(error), error.after, error.uncertain) == ("busy", 30.0, False)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_request_that_met_a_server_error_may_have_arrived(status: int) -> None:
    error = retry("down", status, None, NOW)
    assert error
    assert (error.after, error.uncertain) == (None, True)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 413])
def test_a_refused_request_is_not_retried(status: int) -> None:
    assert retry("no", status, "30", NOW) is None
