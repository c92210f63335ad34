"""Decides from its log whether a rule's processing job is stuck or goes on again, and says why. Pure.

Only training time counts as silence: before training begins, a rule has no data to evaluate. A profiler
rule is judged by its errors alone: it logs a few lines when it starts and when it has written its report,
and nothing for hours in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from watcher.logs.rule_log import RuleLog
from watcher.model import IN_PROGRESS, JobSnapshot, Outcome, RuleFamily
from watcher.redaction import redacted
from watcher.text import duration

MAX_STATUS_DELAY = timedelta(seconds=60)
"""A rule that fires, and one that fails, logs an exception some seconds before SageMaker changes its status.
An error that is older than this, with nothing logged after it and the status unchanged, means stuck."""


@dataclass(frozen=True, slots=True)
class RuleActivity:
    """What the log of one rule's processing job shows, and how far it has been read."""

    training_since: datetime | None = None
    """When the current uninterrupted training began; None while the job is not training."""
    log: RuleLog = field(default_factory=RuleLog)
    has_stream: bool = False
    read_until: datetime | None = None
    """Everything logged before this time has been read; None before the first read."""


def why_stuck(
    activity: RuleActivity, rule: Outcome, job: JobSnapshot, now: datetime, stuck_after: float
) -> str | None:
    """The reason why this rule's processing job counts as stuck; None if it does not.

    `stuck_after`: seconds of training without a log line.
    """
    if rule.status != IN_PROGRESS or not job.in_progress:
        return None
    log, read_until, training_since = activity.log, activity.read_until, activity.training_since
    if read_until and log.error_at and read_until - log.error_at > MAX_STATUS_DELAY:
        return (
            f"The log of its processing job ends with an error, {_at(log.error_at, now)}, and the rule's "
            f"status is still {rule.status}: {redacted(log.error)}"
        )
    if rule.family is RuleFamily.PROFILER or training_since is None:
        return None
    allowed = timedelta(seconds=stuck_after)
    if not rule.evaluation_job_arn:
        trained = now - training_since
        return (
            f"It has no processing job after {duration(trained)} of training" if trained > allowed else None
        )
    if read_until is None:
        return None
    quiet = read_until - max(log.last_at or training_since, training_since)
    if quiet <= allowed:
        return None
    if log.last_at:
        return (
            f"Its processing job has written nothing in {duration(quiet)} of training; its last line, "
            f"{_at(log.last_at, now)}: {log.last_line}"
        )
    missing = "has written nothing" if activity.has_stream else "has no log stream"
    return f"Its processing job {missing} after {duration(quiet)} of training"


def why_unstuck(activity: RuleActivity, reported_at: datetime, now: datetime) -> str | None:
    """Why a rule's processing job that was reported as stuck counts as going on; None if it does not."""
    log = activity.log
    if log.last_at is None or log.last_at <= reported_at:
        return None
    later = duration(log.last_at - reported_at)
    return (
        f"Its processing job wrote again {_at(log.last_at, now)}, {later} after it was reported as stuck: "
        f"{log.last_line}"
    )


def _at(then: datetime, now: datetime) -> str:
    day = "" if then.date() == now.date() else f"{then:%Y-%m-%d} "
    return f"at {day}{then:%H:%M:%S} UTC"
