"""Decides when to look again at what a job has saved. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from watcher.model import Evaluation, Reads

MIN_LOOK_INTERVAL_S, MAX_LOOK_INTERVAL_S = 5.0, 120.0
NEW_STEPS_PER_LOOK = 5
"""About how many new steps a look should find; the interval adapts to this."""
METRIC_INTERVAL_S = 60.0
"""Metrics have one new value in this time, and the profiler saves one file."""


def next_look(before: Evaluation, steps: int, now: datetime) -> tuple[float, datetime]:
    """The interval, in seconds, and the time of the next look after one that found `steps` new ones."""
    if before.reads is Reads.TENSORS:
        interval = next_interval(before.interval, steps)
        return interval, now + timedelta(seconds=interval)
    slower = min(max(before.interval * 2, METRIC_INTERVAL_S), MAX_LOOK_INTERVAL_S)
    interval = METRIC_INTERVAL_S if steps else slower
    if before.reads.together:
        return interval, next_minute(now, interval)
    return interval, now + timedelta(seconds=interval)


def next_interval(last: float, steps: int) -> float:
    """Seconds until the next look, from the last interval and how many steps were new after it.

    A job that saves nothing is looked at less and less often.
    """
    wanted = last * NEW_STEPS_PER_LOOK / steps if steps else last * 2
    return min(max(wanted, MIN_LOOK_INTERVAL_S), MAX_LOOK_INTERVAL_S)


def next_minute(now: datetime, interval: float = METRIC_INTERVAL_S) -> datetime:
    """When to look at metrics next: in `interval` (whole minutes, in seconds) or less, at a time when those
    of all other jobs are looked at too, because metrics of many jobs are read in one request."""
    seconds = now.timestamp()
    return datetime.fromtimestamp((seconds // interval + 1) * interval, UTC)
