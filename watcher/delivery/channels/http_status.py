"""Decides which HTTP answers are worth another attempt, and when, for every channel."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

from watcher.errors import Retry

TOO_LARGE = 413
TOO_MANY_REQUESTS = 429
_NOT_PROCESSED = frozenset({408, 425, TOO_MANY_REQUESTS})
"""The request was not processed, and may be repeated as it is."""

RETRY_AFTER_LIMIT_S = 3600.0
"""A destination that asks for a longer wait is tried once an hour: it may have asked by mistake."""


def retry(error: str, status: int, retry_after: str | None, now: datetime) -> Retry | None:
    """The error to raise if another attempt may succeed; None if the answer will stay the same.

    `retry_after` is the header of that name. After a 5xx the message may have arrived nevertheless.
    """
    if status in _NOT_PROCESSED or status >= 500:
        return Retry(error, after=retry_after_s(retry_after, now), uncertain=status >= 500)
    return None


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds to wait, from a header that holds seconds or a date; None if it is absent or invalid."""
    if not header:
        return None
    if header.strip().isdecimal():
        wait = float(header)
    else:
        try:
            wait = (parsedate_to_datetime(header) - now).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(max(wait, 0.0), RETRY_AFTER_LIMIT_S)
