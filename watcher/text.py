"""Writes text, times and numbers for people."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Removes terminal escapes and invisible characters; line ends and tabs stay."""
    if text.isprintable():
        return text
    lines = _ESCAPE_SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("", lines).strip("\n")


def truncated(text: str, limit: int, end: str = "…") -> str:
    """At most `limit` characters; a text that is longer ends in `end`."""
    return text if len(text) <= limit else text[: limit - len(end)] + end


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago, in a suitable unit. A time in the future (from another clock) is just now."""
    if then is None:
        return ""
    seconds = max((now - then).total_seconds(), 0)
    return "just now" if seconds < 5 else f"{roughly(seconds)} ago"


def roughly(seconds: float) -> str:
    """A time span in one unit: `12 s`, `4 min`, `3 h`, `5 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def duration(span: timedelta) -> str:
    """A time span in its two largest units (`2 d 3 h`, `12 min 4 s`)."""
    left = max(int(span.total_seconds()), 0)
    parts: list[tuple[int, str]] = []
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, seconds)
        if amount or parts:
            parts.append((amount, unit))
    return " ".join(f"{amount} {unit}" for amount, unit in parts[:2] if amount) or "0 s"


def counts(of: dict[str, int]) -> str:
    """`3 InProgress, 1 Failed`."""
    return ", ".join(f"{count} {word}" for word, count in of.items())


def instances(kind: str, count: int) -> str:
    """`2 × ml.p3.2xlarge`; empty if the type is not known."""
    return f"{count} × {kind}" if kind else ""
