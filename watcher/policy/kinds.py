"""The table of kinds of findings, as policy sees them: how severe each is, and when a run's end closes it.

What an alert on a kind says is in `watcher.alerts.kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from watcher.model import ENDED_STATUSES, Finding, FindingKind, RuleFamily, Severity

_NEVER: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Kind:
    phrase: str
    """What happened, for the history; a template with `{rule}`."""
    severity: Severity
    ends_with: frozenset[str] = _NEVER
    """The final statuses of a run that close the finding, because it mattered only until then."""


KINDS: Mapping[FindingKind, Kind] = MappingProxyType(
    {
        # A run that was stopped burns no more. One that went on to its end has a model that somebody may use.
        FindingKind.RULE_ISSUE: Kind("{rule} found an issue", Severity.CRITICAL, frozenset({"Stopped"})),
        FindingKind.RULE_ERROR: Kind("{rule} could not run", Severity.WARNING, ENDED_STATUSES),
        FindingKind.RULE_UNEVALUATED: Kind("{rule} was not evaluated", Severity.WARNING, ENDED_STATUSES),
        FindingKind.DIVERGENCE: Kind(
            "Watcher and Debugger disagree on {rule}", Severity.WARNING, ENDED_STATUSES
        ),
        FindingKind.RULE_STUCK: Kind("{rule} is stuck", Severity.WARNING, ENDED_STATUSES),
        FindingKind.RULE_DEFECT: Kind("{rule} cannot work", Severity.WARNING, ENDED_STATUSES),
        FindingKind.JOB_FAILED: Kind("the job failed", Severity.CRITICAL),
        FindingKind.JOB_STOPPED: Kind(
            "the job was stopped, not by Watcher", Severity.WARNING, ENDED_STATUSES
        ),
        FindingKind.JOB_COMPLETED: Kind("the job completed", Severity.INFO, ENDED_STATUSES),
    }
)

RULES: Mapping[str, Severity] = MappingProxyType(
    dict.fromkeys(
        (
            "ClassImbalance",
            "Confusion",
            "FeatureImportanceOverweight",
            "SimilarAcrossRuns",
            "TreeDepth",
        ),
        Severity.WARNING,
    )
)
"""Built-in rules whose issue is about the data or the model, and not a training that goes wrong."""


def severity(kind: FindingKind, family: RuleFamily | None, invokes: str) -> Severity:
    """`invokes`: the built-in rule behind the rule's name. A profiler rule finds that resources are used
    badly, not that the training goes wrong."""
    if kind is not FindingKind.RULE_ISSUE:
        return KINDS[kind].severity
    if family is RuleFamily.PROFILER:
        return Severity.WARNING
    return RULES.get(invokes, KINDS[kind].severity)


def closed_by(kind: FindingKind, status: str) -> bool:
    """Whether a finding of this kind no longer matters once its run has this status."""
    return status in KINDS[kind].ends_with


def phrase(finding: Finding) -> str:
    """`LossNotDecreasing found an issue at step 24`."""
    step = f" at step {finding.step}" if finding.step is not None else ""
    return KINDS[finding.kind].phrase.format(rule=finding.rule) + step
