"""Whether a rule's processing job does its work, by what its log says: knowledge becomes a reason. Pure.

Silence is counted in training time only: before training begins a rule has nothing to look at. A profiler
rule is judged by its errors alone. It says a few words when it starts and when it has written its report,
and nothing for hours between, so that its silence tells nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from watcher.logs.rule_log import RuleLog
from watcher.model import IN_PROGRESS, JobSnapshot, Outcome, RuleSource
from watcher.text import duration

ERROR_STANDS = timedelta(seconds=60)
"""So long after an error that nothing has followed, the rule's status would tell of it, too. A rule that
fires, and one that fails, writes an exception some seconds before SageMaker changes its status."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of one rule and of the log of its processing job."""

    training_since: datetime | None = None
    """Since when the job has been training without a break; None while it is not."""
    log: RuleLog = field(default_factory=RuleLog)
    has_stream: bool = False
    until: datetime | None = None
    """All that was written before this is known; None before the log was read for the first time."""


def mute(heard: Heard, rule: Outcome, job: JobSnapshot, now: datetime, mute_after: float) -> str | None:
    """Why it is said of this rule that it does not do its work; None where nothing shows that.

    `mute_after` is in seconds.
    """
    if rule.status != IN_PROGRESS or not job.in_progress:
        return None
    log, until, training_since = heard.log, heard.until, heard.training_since
    if until and log.error_at and until - log.error_at > ERROR_STANDS:
        return (
            f"The log of its processing job ends with an error, {_at(log.error_at, now)}, and the rule's "
            f"status is still {rule.status}: {log.error}"
        )
    if rule.source is RuleSource.PROFILER or training_since is None:
        return None
    patience = timedelta(seconds=mute_after)
    if not rule.evaluation_job_arn:
        trained = now - training_since
        return (
            f"It has no processing job after {duration(trained)} of training" if trained > patience else None
        )
    if until is None:
        return None
    quiet = until - max(log.last_at or training_since, training_since)
    if quiet <= patience:
        return None
    if log.last_at:
        return (
            f"Its processing job has written nothing in {duration(quiet)} of training; its last line, "
            f"{_at(log.last_at, now)}: {log.last_line}"
        )
    missing = "has written nothing" if heard.has_stream else "has no log stream"
    return f"Its processing job {missing} after {duration(quiet)} of training"


def _at(then: datetime, now: datetime) -> str:
    day = "" if then.date() == now.date() else f"{then:%Y-%m-%d} "
    return f"at {day}{then:%H:%M:%S} UTC"
