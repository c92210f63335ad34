"""Which rules Watcher evaluates itself on a job, and what they read. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from watcher.config.settings import Rules
from watcher.model import JobSnapshot, Reads, RuleConfiguration, RuleSource

JUDGE_METRICS = frozenset(
    {"LossNotDecreasing", "Overfit", "Overtraining", "ExplodingTensor", "StalledTrainingRule"}
)
"""The rules to which single numbers are enough: a job's metrics, where it saves no tensors."""


def local_rules(job: JobSnapshot, settings: Rules) -> tuple[RuleConfiguration, ...]:
    """The rules of a job that Watcher evaluates itself; none where there is nothing to look at.

    A job's own rules are only ever evaluated on tensors, as Debugger does.
    """
    if settings.local == "off" or not (job.debug_output or reads_metrics(job)):
        return ()
    own = _own(job)
    if own or settings.local == "mirror":
        # A custom rule may bear the name of a built-in one, and is another.
        return tuple(rule for rule in own if "source_s3_uri" not in rule.parameters)
    return tuple(
        RuleConfiguration(attached.rule, RuleSource.LOCAL, attached.parameters)
        for attached in settings.attach
        if fnmatchcase(job.name, attached.job)
    )


def reads_metrics(job: JobSnapshot) -> bool:
    """Whether rules may be evaluated on its metrics, where it turns out to save no tensors."""
    return not _own(job) and bool(job.metrics or job.final_metrics)


def first_reads(job: JobSnapshot) -> Reads:
    """What a new evaluation of the job looks for. That of a hook which saves nothing may change later."""
    return Reads.TENSORS if job.debug_output else Reads.METRICS


def _own(job: JobSnapshot) -> tuple[RuleConfiguration, ...]:
    return tuple(rule for rule in job.rules if rule.source is RuleSource.DEBUGGER)
