"""How times and numbers are said to people."""

from __future__ import annotations

from datetime import datetime


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago, in the unit people would use. A moment to come (a clock that lags) is just now."""
    if then is None:
        return ""
    seconds = max((now - then).total_seconds(), 0)
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def counts(of: dict[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in of.items())


def instances(kind: str, count: int) -> str:
    return f"{count} × {kind}" if kind else ""
