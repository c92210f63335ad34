"""What changed on a job that a person should know: snapshots become findings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from watcher.model import (
    ISSUES_FOUND,
    RULE_ERROR,
    Finding,
    FindingKind,
    JobSnapshot,
    Outcome,
    finding_id,
)

# "RuleEvaluationConditionMet: Evaluation of the rule X at step 140 resulted in the condition being met"
_STEP = re.compile(r"RuleEvaluationConditionMet\b.*?\bat step (\d+)", re.DOTALL)

_RULE_FINDINGS = {ISSUES_FOUND: FindingKind.RULE_ISSUE, RULE_ERROR: FindingKind.RULE_ERROR}


def detect(
    before: JobSnapshot | None, after: JobSnapshot, *, now: datetime, stopped_by_us: bool
) -> list[Finding]:
    """The findings of `after` that `before` did not show yet.

    Rules are matched by source and name: their order changes between two answers, and two rules may
    share a name across sources. `before` is None for a job that was never seen.
    """
    return [*_rule_findings(before, after, now), *_job_findings(before, after, now, stopped_by_us)]


def parse_step(details: str) -> int | None:
    """The global step in the StatusDetails of a rule that fired; None where they name none."""
    match = _STEP.search(details)
    return int(match.group(1)) if match else None


def _rule_findings(before: JobSnapshot | None, after: JobSnapshot, now: datetime) -> Iterator[Finding]:
    known = {(old.source, old.rule): old.status for old in before.outcomes} if before else {}
    for outcome in after.outcomes:
        kind = _RULE_FINDINGS.get(outcome.status)
        if kind and known.get((outcome.source, outcome.rule)) != outcome.status:
            yield _rule_finding(kind, after, outcome, now)


def _rule_finding(kind: FindingKind, job: JobSnapshot, outcome: Outcome, now: datetime) -> Finding:
    return Finding(
        id=finding_id(job.arn, kind, outcome.rule, outcome.source),
        kind=kind,
        job_arn=job.arn,
        job=job.name,
        status=outcome.status,
        opened_at=now,
        rule=outcome.rule,
        source=outcome.source,
        step=parse_step(outcome.details),
        reason=outcome.details,
    )


def _job_findings(
    before: JobSnapshot | None, after: JobSnapshot, now: datetime, stopped_by_us: bool
) -> Iterator[Finding]:
    if before is not None and before.status == after.status:
        return
    match after.status:
        case "Failed":
            kind, reason = FindingKind.JOB_FAILED, after.failure_reason
        case "Stopped" if not stopped_by_us:
            # MaxRuntimeExceeded, MaxWaitTimeExceeded and Interrupted are stops by a limit or by the
            # service; all SageMaker tells of them is the secondary status.
            limit = after.secondary_status if after.secondary_status != "Stopped" else ""
            kind, reason = FindingKind.JOB_STOPPED, limit
        case "Completed":
            kind, reason = FindingKind.JOB_COMPLETED, ""
        case _:
            return
    yield Finding(
        id=finding_id(after.arn, kind, None, None),
        kind=kind,
        job_arn=after.arn,
        job=after.name,
        status=after.status,
        opened_at=now,
        reason=reason,
    )
