"""The moment that `--since` names: a span of time before now (`1h30m`, `5 minutes ago`), or a time; and the
span that `--for` names."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from watcher.errors import UsageError

_UNITS = {
    "weeks": "w|weeks?",
    "days": "d|days?",
    "hours": "h|hrs?|hours?",
    "minutes": "m|mins?|minutes?",
    "seconds": "s|secs?|seconds?",
}
"""The ways to write each unit of `timedelta`, longest unit first, which is the order of a span. There are no
months and years, because they have no fixed length."""

_SPAN = re.compile(
    "".join(
        rf"(?:(?P<{unit}>[0-9]+(?:\.[0-9]+)?)\s*(?:{words})(?![a-z])\s*)?" for unit, words in _UNITS.items()
    )
    + "(?:ago)?"
)
_MOMENT = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?P<time>[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)"
    r"(?P<zone> ?(?:Z|UTC)|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""CloudWatch Logs counts milliseconds from here; nothing was logged before."""


def parse(text: str, now: datetime) -> datetime:
    """The moment in UTC, between 1970 and `now`. A time without a zone is in UTC.

    Raises `UsageError` for a text that it does not know, a date that does not exist, and the future.
    """
    wanted = text.strip()
    if amounts := _amounts(wanted):
        return _before(now, amounts)
    if match := _MOMENT.fullmatch(wanted):
        moment = _moment(text, match)
        if moment > now:
            raise UsageError(f"--since {text!r} is in the future: it is {now:%Y-%m-%d %H:%M} UTC now")
        return max(moment, _EARLIEST).astimezone(UTC)
    raise UsageError(
        f"--since {text!r}: write how long ago, such as 30m, 1h30m, 2d or '5 minutes ago', "
        "or a time, such as 2026-11-20 or 2026-11-20T10:00Z (UTC if it names no zone)"
    )


def span(text: str) -> timedelta | None:
    """The span of time that `text` names (`2h`, `1h30m`); None if it names none."""
    amounts = {} if text.rstrip().endswith("ago") else _amounts(text.strip())
    try:
        return timedelta(**amounts) if amounts else None
    except OverflowError:
        return timedelta.max


def _amounts(text: str) -> dict[str, float]:
    """How many of each unit of `timedelta`; empty if the text is no span."""
    match = _SPAN.fullmatch(text)
    return {unit: float(amount) for unit, amount in match.groupdict().items() if amount} if match else {}


def _before(now: datetime, amounts: dict[str, float]) -> datetime:
    try:
        return max(now.astimezone(UTC) - timedelta(**amounts), _EARLIEST)
    except OverflowError:  # before the year 1
        return _EARLIEST


def _moment(text: str, match: re.Match[str]) -> datetime:
    date, time, zone = match["date"], match["time"] or "00:00", (match["zone"] or "Z").strip()
    try:
        return datetime.fromisoformat(f"{date}T{time}{zone.replace('UTC', 'Z')}")
    except ValueError:
        raise UsageError(f"--since {text!r}: there is no such date or time") from None
