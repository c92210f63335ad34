"""Compares two snapshots of a job, and returns findings for what a person should know. Pure."""

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
    """The findings of `after` that `before` did not have.

    Rules are matched by source and name: their order changes between answers, and rules of different
    sources may share a name. `before` is None for a job that is new.
    """
    return [
        *_rule_findings(before, after, now),
        *_local_findings(before, after, now),
        *_job_findings(before, after, now, stopped_by_us),
    ]


def news(before: JobSnapshot | None, after: JobSnapshot) -> list[Outcome]:
    """The outcomes of `after` with a status that `before` did not have."""
    known = {(old.source, old.rule, old.status) for old in before.outcomes} if before else set()
    return [new for new in after.outcomes if (new.source, new.rule, new.status) not in known]


def stuck_rule(job: JobSnapshot, rule: Outcome, reason: str, now: datetime) -> Finding:
    """The finding that a rule's processing job is stuck."""
    finding = _rule_finding(FindingKind.RULE_STUCK, job, replace(rule, details=reason), now)
    return replace(finding, step=None)  # a log line in the reason may mention a step, which decided nothing


def parse_step(details: str) -> int | None:
    """The global step in the StatusDetails of a rule that fired; None if they have none."""
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
    """Findings that only Watcher's own evaluation makes possible."""
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
        return f"Debugger says NoIssuesFound, but for Watcher the rule fires: {outcome.details}"
    return "Debugger says IssuesFound, but on the saved tensors the rule does not fire for Watcher"


def _unevaluated(job: JobSnapshot) -> dict[str, Outcome]:
    """The local outcomes of rules that had no data, if Debugger does not report that."""
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
            # MaxRuntimeExceeded, MaxWaitTimeExceeded and Interrupted: SageMaker stopped it itself, which
            # only the secondary status says.
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
