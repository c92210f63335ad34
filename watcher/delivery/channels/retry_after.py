"""The header `Retry-After` of HTTP: a number of seconds, or a date."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

LONGEST = 3600.0
"""Seconds. A destination that asks for more gets a question an hour: it may have been mistaken."""


def seconds(header: str | None, now: datetime) -> float | None:
    """How long to wait; None where the header is absent or says nothing that can be understood."""
    if not header:
        return None
    if header.strip().isdecimal():
        wait = float(header)
    else:
        try:
            wait = (parsedate_to_datetime(header) - now).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(max(wait, 0.0), LONGEST)
