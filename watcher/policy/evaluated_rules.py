"""Decides which rules of a job Watcher evaluates itself, and whether on tensors or on metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from watcher.config.settings import Rules
from watcher.model import JobSnapshot, Reads, RuleConfiguration, RuleFamily


def local_rules(job: JobSnapshot, settings: Rules) -> tuple[RuleConfiguration, ...]:
    """The rules of a job that Watcher evaluates itself; none if the job has neither tensors nor metrics.

    A job's own rules are evaluated on tensors only, as Debugger does.
    """
    if settings.local == "off" or not (job.debug_output or reads_metrics(job)):
        return ()
    own = _own(job)
    if own or settings.local == "mirror":
        # Without custom rules, which have their own source, and may have the name of a built-in rule.
        return tuple(rule for rule in own if "source_s3_uri" not in rule.parameters)
    return tuple(
        RuleConfiguration(attached.rule, RuleFamily.DEBUGGER, attached.parameters)
        for attached in settings.attach
        if fnmatchcase(job.name, attached.job)
    )


def reads_metrics(job: JobSnapshot) -> bool:
    """Whether rules may be evaluated on the job's metrics if it saves no tensors."""
    return not _own(job) and bool(job.metrics or job.final_metrics)


def first_reads(job: JobSnapshot, settings: Rules) -> Iterator[Reads]:
    """What new evaluations of the job read, one for each family that has rules. It changes to metrics later
    if the hook saves nothing."""
    if local_rules(job, settings):
        yield Reads.TENSORS if job.debug_output else Reads.METRICS


def _own(job: JobSnapshot) -> tuple[RuleConfiguration, ...]:
    return tuple(rule for rule in job.rules if rule.family is RuleFamily.DEBUGGER)
