"""Tells the reader of an alert, in a sentence or two, what to do about a rule or a failure.

A rule brings its own advice, which says what usually makes it fire. Advice on a failure depends on the prefix
that SageMaker gives to `FailureReason`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from watcher.model import Finding, JobSnapshot, RuleFamily

_REPORTS: Mapping[str, str] = {
    "CreateXgboostReport": "Read xgboost_report.html in the rule's output under the job's S3 output path.",
    "OverallSystemUsage": "Read profiler-report.html in the rule's output under the job's S3 output path.",
}
"""Advice on rules that only write a report."""

_RULE_ERRORS = (
    (
        "No debugging data was saved",
        "The hook saved nothing. Check that the job has a DebugHookConfig with the collections this rule "
        "reads, that save_interval is smaller than the number of steps, and that Debugger supports the "
        "framework and its version in this image (in script mode the script must set up the hook).",
    ),
    (
        "AccessDenied",
        "The job's role may not read the debug output: allow s3:GetObject and s3:ListBucket on it.",
    ),
    (
        "InternalServerError",
        "This is an error of SageMaker, not of the job: the rule is not evaluated this time.",
    ),
    ("InternalError", "This is an error of SageMaker, not of the job: the rule is not evaluated this time."),
    (
        "ClientError",
        "The rule's settings are wrong: check its parameters, and the names of collections and tensors, "
        "against the rule's documentation.",
    ),
)
"""A part of StatusDetails, and what to do about it. The first that matches counts."""

_FAILURES = (
    (
        "exit code: 137",
        "The container was killed, usually because it ran out of memory: use a larger instance or smaller "
        "batches.",
    ),
    (
        "CapacityError",
        "AWS has no such instances available now: try again later, or use another instance type or region.",
    ),
    (
        "ResourceLimitExceeded",
        "The account's quota for this instance type is used up: ask for more in Service Quotas.",
    ),
    (
        "InternalServerError",
        "This is an error of SageMaker, not of the job: start it again, and ask AWS Support if it recurs.",
    ),
    (
        "ClientError",
        "The request or its data are wrong: check the S3 paths of the channels, the role's permissions on "
        "them, and the hyperparameters.",
    ),
    (
        "AlgorithmError",
        "The training code ended with an error: the end of the training log has its traceback.",
    ),
)
"""A part of FailureReason, and what to do about it. The first that matches counts."""

_STOPS = {
    "MaxRuntimeExceeded": "The job used up MaxRuntimeInSeconds: raise it, and use checkpoints so that the "
    "next run resumes from here.",
    "MaxWaitTimeExceeded": "No spot capacity came within MaxWaitTimeInSeconds: raise it, or use on-demand "
    "instances.",
    "Interrupted": "AWS reclaimed the spot instance: use checkpoints, so that the next run resumes.",
}
"""By the job's secondary status, since SageMaker does not report these stops anywhere else."""


def rule_advice(name: str, family: RuleFamily = RuleFamily.DEBUGGER) -> str:
    """What to do when this rule fires; empty for an unknown rule."""
    if name in _REPORTS:
        return _REPORTS[name]
    import rules  # imports numpy, so only once a rule has fired
    from rules import profiler

    find = profiler.find_or_none if family is RuleFamily.PROFILER else rules.find_or_none
    rule = find(name)
    return rule.advice if rule else ""


def of_rule_issue(finding: Finding, job: JobSnapshot | None) -> str:
    return rule_advice(built_in_rule(finding, job), finding.family or RuleFamily.DEBUGGER)


def of_rule_error(finding: Finding, job: JobSnapshot | None) -> str:  # noqa: ARG001
    return _first_match(_RULE_ERRORS, finding.reason)


def of_failed_job(finding: Finding, job: JobSnapshot | None) -> str:  # noqa: ARG001
    return _first_match(_FAILURES, finding.reason)


def of_stopped_job(finding: Finding, job: JobSnapshot | None) -> str:  # noqa: ARG001
    return _STOPS.get(job.secondary_status, "") if job else ""


def built_in_rule(finding: Finding, job: JobSnapshot | None) -> str:
    """The built-in rule behind the name that the job's owner chose; that name itself if the job's record does
    not say."""
    name = finding.rule or ""
    configured = job.rule(name, finding.family) if job and finding.family else None
    return configured.invokes if configured else name


def _first_match(sentences: Iterable[tuple[str, str]], reason: str) -> str:
    return next((sentence for part, sentence in sentences if part in reason), "")
