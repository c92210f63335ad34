"""Compares two snapshots of a run, and reports what opened and what is over. Pure.

A report says what is so, not what to do about it: `policy.incidents` knows which findings are open already,
and ignores a report that changes nothing. So it does not matter how many snapshots lie between two looks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from watcher.model import (
    ISSUES_FOUND,
    NO_ISSUES_FOUND,
    NOT_EVALUATED,
    RECOVERED,
    RULE_ERROR,
    Closing,
    FindingKind,
    JobSnapshot,
    Judge,
    Outcome,
    Report,
    RuleFamily,
)

# "RuleEvaluationConditionMet: Evaluation of the rule X at step 140 resulted in the condition being met"
_STEP = re.compile(r"RuleEvaluationConditionMet\b.*?\bat step (\d+)", re.DOTALL)

_OPENED_BY = {ISSUES_FOUND: FindingKind.RULE_ISSUE, RULE_ERROR: FindingKind.RULE_ERROR}


def detect(before: JobSnapshot | None, after: JobSnapshot, *, stopped_by_us: bool) -> list[Report]:
    """What opened and what is over in `after`, compared with `before`. What is over comes last: what opened
    and is over already is reported as both.

    Rules are matched by family, judge and name: their order changes between answers, and rules of different
    families may share a name. `before` is None for a run that is new.
    """
    reports = [
        *_rule_reports(before, after),
        *_compared(before, after, FindingKind.DIVERGENCE, _divergences, _no_divergence),
        *_compared(before, after, FindingKind.RULE_UNEVALUATED, _unevaluated, _evaluated),
        *_job_reports(before, after, stopped_by_us),
        *_recoveries(before, after),
        *_ended_rules(before, after),
    ]
    return sorted(reports, key=lambda report: report.closing is not None)


def news(before: JobSnapshot | None, after: JobSnapshot) -> list[Outcome]:
    """The outcomes of `after` with a status that `before` did not have."""
    known = {(old.key, old.status) for old in before.outcomes} if before else set()
    return [new for new in after.outcomes if (new.key, new.status) not in known]


def stuck_rule(rule: Outcome, reason: str) -> Report:
    """A rule's processing job is stuck, for this reason."""
    # A log line in the reason may mention a step, which decided nothing.
    return replace(_report(FindingKind.RULE_STUCK, rule), reason=reason, step=None)


def unstuck_rule(rule: Outcome, reason: str) -> Report:
    """A rule's processing job, which was stuck, goes on."""
    return _recovered(FindingKind.RULE_STUCK, rule, reason)


def parse_step(details: str) -> int | None:
    """The global step in the StatusDetails of a rule that fired; None if they have none."""
    match = _STEP.search(details)
    return int(match.group(1)) if match else None


def _statuses(job: JobSnapshot | None) -> dict[tuple[RuleFamily, Judge, str], str]:
    return {outcome.key: outcome.status for outcome in job.outcomes} if job else {}


def _report(kind: FindingKind, outcome: Outcome) -> Report:
    return Report(
        kind=kind,
        rule=outcome.rule,
        family=outcome.family,
        judge=outcome.judge,
        status=outcome.status,
        step=parse_step(outcome.details) if outcome.step is None else outcome.step,
        reason=outcome.details,
    )


def _recovered(kind: FindingKind, outcome: Outcome, reason: str) -> Report:
    return replace(_report(kind, outcome), reason=reason, closing=Closing.RECOVERED)


def _rule_reports(before: JobSnapshot | None, after: JobSnapshot) -> Iterator[Report]:
    known = _statuses(before)
    for outcome in after.outcomes:
        kind = _OPENED_BY.get(outcome.status)
        if kind and known.get(outcome.key) != outcome.status:
            yield _report(kind, outcome)


def _recoveries(before: JobSnapshot | None, after: JobSnapshot) -> Iterator[Report]:
    """The rules whose issue is gone, as Watcher sees it now. Debugger ends a rule when it fires, so what it
    reports of a rule that has recovered is about the time before."""
    known, now = _statuses(before), _statuses(after)
    for outcome in after.outcomes:
        if outcome.judge is not Judge.WATCHER or outcome.status != RECOVERED:
            continue
        judged = [(outcome.family, judge, outcome.rule) for judge in Judge]
        if any(known.get(key) != now.get(key) for key in judged):
            yield _recovered(FindingKind.RULE_ISSUE, outcome, outcome.details)


def _ended_rules(before: JobSnapshot | None, after: JobSnapshot) -> Iterator[Report]:
    """A rule that has ended is not stuck."""
    known = {old.key for old in before.outcomes if not old.final} if before else set()
    for outcome in after.outcomes:
        if outcome.judge is Judge.DEBUGGER and outcome.final and outcome.key in known:
            yield _recovered(FindingKind.RULE_STUCK, outcome, f"the rule has ended: {outcome.status}")


_Select = Callable[[JobSnapshot], Mapping[str, Outcome]]
"""Takes a snapshot. Returns those of Watcher's own outcomes to which something applies, by rule."""


def _compared(
    before: JobSnapshot | None,
    after: JobSnapshot,
    kind: FindingKind,
    select: _Select,
    why_over: Callable[[JobSnapshot, str], str],
) -> Iterator[Report]:
    """What only a comparison of Watcher's own evaluation with Debugger's shows.

    Profiler rules are left out. They advise, AWS documents them less exactly, and a short job has too few
    values for most of them.
    """
    known: Mapping[str, Outcome] = select(before) if before else {}
    now = select(after)
    for rule, outcome in now.items():
        if rule not in known:
            yield _report(kind, outcome)
    for rule, outcome in known.items():
        if rule not in now:
            yield _recovered(kind, outcome, why_over(after, rule))


def _divergences(job: JobSnapshot) -> dict[str, Outcome]:
    """The local outcomes that contradict Debugger's final ones."""
    opposites = {ISSUES_FOUND: NO_ISSUES_FOUND, NO_ISSUES_FOUND: ISSUES_FOUND}
    statuses = _statuses(job)
    return {
        outcome.rule: replace(outcome, details=_contradiction(outcome))
        for outcome in job.outcomes
        if _is_own(outcome)
        and outcome.status in opposites
        and statuses.get(_debugger_key(outcome.rule)) == opposites[outcome.status]
    }


def _contradiction(outcome: Outcome) -> str:
    if outcome.status == ISSUES_FOUND:
        return f"Debugger says NoIssuesFound, but for Watcher the rule fires: {outcome.details}"
    return "Debugger says IssuesFound, but on the saved tensors the rule does not fire for Watcher"


def _no_divergence(job: JobSnapshot, rule: str) -> str:
    debugger, own = _both_statuses(job, rule)
    return f"Watcher and Debugger no longer disagree: Debugger says {debugger}, and Watcher {own}"


def _evaluated(job: JobSnapshot, rule: str) -> str:
    debugger, own = _both_statuses(job, rule)
    return f"The rule is evaluated: Debugger says {debugger}, and Watcher {own}"


def _both_statuses(job: JobSnapshot, rule: str) -> tuple[str, str]:
    statuses = _statuses(job)
    return (
        statuses.get(_debugger_key(rule), "nothing"),
        statuses.get((RuleFamily.DEBUGGER, Judge.WATCHER, rule), "nothing"),
    )


def _is_own(outcome: Outcome) -> bool:
    """Whether Watcher judged a rule that is compared with Debugger's."""
    return (outcome.family, outcome.judge) == (RuleFamily.DEBUGGER, Judge.WATCHER)


def _debugger_key(rule: str) -> tuple[RuleFamily, Judge, str]:
    return RuleFamily.DEBUGGER, Judge.DEBUGGER, rule


def _unevaluated(job: JobSnapshot) -> dict[str, Outcome]:
    """The local outcomes of rules that had no data, if Debugger does not report that."""
    statuses = _statuses(job)
    return {
        outcome.rule: outcome
        for outcome in job.outcomes
        if _is_own(outcome)
        and outcome.status == NOT_EVALUATED
        and statuses.get(_debugger_key(outcome.rule), NO_ISSUES_FOUND) == NO_ISSUES_FOUND
    }


def _job_reports(before: JobSnapshot | None, after: JobSnapshot, stopped_by_us: bool) -> Iterator[Report]:
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
    yield Report(kind=kind, status=after.status, reason=reason)
