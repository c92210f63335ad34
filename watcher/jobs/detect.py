"""What changed on a job that a person should know: snapshots become findings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from watcher.model import (
    ISSUES_FOUND,
    NO_ISSUES_FOUND,
    NOT_EVALUATED,
    RULE_ERROR,
    Finding,
    FindingKind,
    JobSnapshot,
    Outcome,
    RuleSource,
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
    return [
        *_rule_findings(before, after, now),
        *_local_findings(before, after, now),
        *_job_findings(before, after, now, stopped_by_us),
    ]


def news(before: JobSnapshot | None, after: JobSnapshot) -> list[Outcome]:
    """The outcomes of `after` with a status that `before` did not show."""
    known = {(old.source, old.rule, old.status) for old in before.outcomes} if before else set()
    return [new for new in after.outcomes if (new.source, new.rule, new.status) not in known]


def stuck_rule(job: JobSnapshot, rule: Outcome, reason: str, now: datetime) -> Finding:
    """The finding that a rule's processing job is stuck."""
    finding = _rule_finding(FindingKind.RULE_STUCK, job, replace(rule, details=reason), now)
    return replace(finding, step=None)  # the reason may quote a line that names one, which decided nothing


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
        step=parse_step(outcome.details) if outcome.step is None else outcome.step,
        reason=outcome.details,
    )


def _local_findings(before: JobSnapshot | None, after: JobSnapshot, now: datetime) -> Iterator[Finding]:
    """What only a second opinion tells."""
    for judge, kind in (
        (_divergences, FindingKind.DIVERGENCE),
        (_unevaluated, FindingKind.RULE_UNEVALUATED),
    ):
        known = judge(before) if before else {}
        for rule, outcome in judge(after).items():
            if rule not in known:
                yield _rule_finding(kind, after, outcome, now)


def _divergences(job: JobSnapshot) -> dict[str, Outcome]:
    """The local outcomes that contradict Debugger's final ones."""
    opposites = {ISSUES_FOUND: NO_ISSUES_FOUND, NO_ISSUES_FOUND: ISSUES_FOUND}
    debugger = {o.rule: o.status for o in job.outcomes if o.source is RuleSource.DEBUGGER}
    return {
        outcome.rule: replace(outcome, details=_contradiction(outcome))
        for outcome in job.outcomes
        if outcome.source is RuleSource.LOCAL
        and outcome.rule in debugger
        and opposites.get(outcome.status) == debugger[outcome.rule]
    }


def _contradiction(outcome: Outcome) -> str:
    if outcome.status == ISSUES_FOUND:
        return f"Debugger says NoIssuesFound, and Watcher sees the rule fire: {outcome.details}"
    return "Debugger says IssuesFound, and on the saved tensors Watcher does not see the rule fire"


def _unevaluated(job: JobSnapshot) -> dict[str, Outcome]:
    """The local outcomes of rules that had nothing to look at, where Debugger does not say so."""
    debugger = {o.rule: o.status for o in job.outcomes if o.source is RuleSource.DEBUGGER}
    return {
        outcome.rule: outcome
        for outcome in job.outcomes
        if outcome.source is RuleSource.LOCAL
        and outcome.status == NOT_EVALUATED
        and debugger.get(outcome.rule, NO_ISSUES_FOUND) == NO_ISSUES_FOUND
    }


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
