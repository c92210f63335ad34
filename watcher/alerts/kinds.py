"""The table of kinds of findings, as alerts see them: what an alert says, and which evidence it has.

How severe a kind is, and when the end of a run closes it, is in `watcher.policy.kinds`. To add a kind, add a
member to `FindingKind`, a row in both tables, and the code that detects it. Channels know only its severity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

from watcher.alerts import advice
from watcher.model import Closing, Finding, FindingKind, JobSnapshot


class Log(Enum):
    """The log whose end goes with an alert."""

    RULE = auto()
    """Of the rule's processing job, or of Watcher's own evaluation."""
    TRAINING = auto()


def _none(finding: Finding, job: JobSnapshot | None) -> str:  # noqa: ARG001
    return ""


@dataclass(frozen=True, slots=True)
class Kind:
    title: str
    """A template, with `{rule}` and `{job}`."""
    advice: str = ""
    """What to do about it, if `specific_advice` returns nothing."""
    specific_advice: Callable[[Finding, JobSnapshot | None], str] = _none
    log: Log | None = None
    has_values: bool = False
    """Whether numbers decided it. The alert then has these numbers, and the curve around them."""


KINDS: Mapping[FindingKind, Kind] = MappingProxyType(
    {
        FindingKind.RULE_ISSUE: Kind(
            title="{rule} found an issue in {job}",
            specific_advice=advice.of_rule_issue,
            log=Log.RULE,
            has_values=True,
        ),
        FindingKind.RULE_ERROR: Kind(
            title="{rule} could not run on {job}",
            advice="The rule does not judge this run. The log of its processing job says why it ended: check "
            "the rule's parameters and the collections it reads.",
            specific_advice=advice.of_rule_error,
            log=Log.RULE,
        ),
        FindingKind.RULE_UNEVALUATED: Kind(
            title="{rule} was not evaluated on {job}",
            advice="The rule had no data: check its collections, their save_interval and its parameters, or "
            "the next job is not watched either.",
        ),
        FindingKind.DIVERGENCE: Kind(
            title="Watcher and Debugger disagree on {rule} in {job}",
            advice="One of them is wrong, or they read different tensors: compare the values above with the "
            "end of the rule's log before you trust either.",
            log=Log.RULE,
            has_values=True,
        ),
        FindingKind.RULE_STUCK: Kind(
            title="{rule} is stuck on {job}",
            advice="Do not rely on this rule unless its log shows progress. Watcher's own evaluation of the "
            "rule, if enabled, does not depend on it.",
            log=Log.RULE,
        ),
        FindingKind.RULE_DEFECT: Kind(
            title="{rule} cannot work on {job}",
        ),
        FindingKind.JOB_FAILED: Kind(
            title="{job} failed",
            advice="The end of the training log usually says why.",
            specific_advice=advice.of_failed_job,
            log=Log.TRAINING,
        ),
        FindingKind.JOB_STOPPED: Kind(
            title="{job} was stopped",
            advice="Watcher did not stop it: the event StopTrainingJob in CloudTrail says who did.",
            specific_advice=advice.of_stopped_job,
        ),
        FindingKind.JOB_COMPLETED: Kind(
            title="{job} completed",
        ),
    }
)


def title(finding: Finding) -> str:
    return KINDS[finding.kind].title.format(rule=finding.rule, job=finding.job)


def advice_on(finding: Finding, job: JobSnapshot | None) -> str:
    """Empty if there is nothing to do, or no more. `job` is None if the store no longer has it."""
    if finding.closing is Closing.RECOVERED:
        return ""
    kind = KINDS[finding.kind]
    return kind.specific_advice(finding, job) or kind.advice
