from __future__ import annotations

from datetime import UTC, datetime

import pytest

from watcher.delivery.channels import retry_after

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        ("0", 0.0),
        ("Fri, 20 Nov 2026 10:01:30 GMT", 90.0),
        ("Fri, 20 Nov 2026 09:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2099 09:00:00 GMT", retry_after.LONGEST),
        ("9" * 400, retry_after.LONGEST),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
    ],
)
def test_seconds_and_dates_are_understood_and_no_wait_is_longer_than_an_hour(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after.seconds(header, NOW) == seconds
