"""Decides which rules of a job Watcher evaluates itself, and on what. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from watcher.config.settings import Rules
from watcher.model import JobSnapshot, Reads, RuleConfiguration, RuleFamily
from watcher.policy.profiler_rules import is_profiler_rule


def local_rules(job: JobSnapshot, settings: Rules) -> tuple[RuleConfiguration, ...]:
    """The rules of a job that Watcher evaluates itself."""
    return tuple(rule for family in RuleFamily for rule in of_family(family, job, settings))


def of_family(family: RuleFamily, job: JobSnapshot, settings: Rules) -> tuple[RuleConfiguration, ...]:
    """Those of one family: the job's own or, if it has none, the attached ones. None if the job has nothing
    on which to evaluate them.

    A job's own rules are evaluated on what SageMaker evaluates them on: tensors, and the profiler's output.
    """
    if settings.local == "off" or not _has_data(family, job):
        return ()
    own = _own(family, job)
    if own or settings.local == "mirror":
        # Without custom rules, which have their own source, and may have the name of a built-in rule.
        return tuple(rule for rule in own if "source_s3_uri" not in rule.parameters)
    return tuple(
        RuleConfiguration(attached.rule, family, attached.parameters)
        for attached in settings.attach
        if fnmatchcase(job.name, attached.job) and _family_of(attached.rule) is family
    )


def first_reads(job: JobSnapshot, settings: Rules) -> Iterator[Reads]:
    """What new evaluations of the job read, one for each family that has rules. It changes to metrics later
    if the hook, or the profiler, saves nothing."""
    if of_family(RuleFamily.DEBUGGER, job, settings):
        yield Reads.TENSORS if job.debug_output else Reads.METRICS
    if of_family(RuleFamily.PROFILER, job, settings):
        yield Reads.PROFILER_OUTPUT if job.profiler_output else Reads.INSTANCE_METRICS


def reads_metrics(job: JobSnapshot) -> bool:
    """Whether rules may be evaluated on the job's training metrics if it saves no tensors."""
    return not _own(RuleFamily.DEBUGGER, job) and bool(job.metrics or job.final_metrics)


def reads_instance_metrics(job: JobSnapshot) -> bool:
    """Whether profiler rules may be evaluated on the metrics of the job's instances, which every instance
    has, if it has no profiler output."""
    return not _own(RuleFamily.PROFILER, job)


def _has_data(family: RuleFamily, job: JobSnapshot) -> bool:
    if family is RuleFamily.PROFILER:
        return bool(job.profiler_output) or reads_instance_metrics(job)
    return bool(job.debug_output) or reads_metrics(job)


def _own(family: RuleFamily, job: JobSnapshot) -> tuple[RuleConfiguration, ...]:
    return tuple(rule for rule in job.rules if rule.family is family)


def _family_of(rule: str) -> RuleFamily:
    return RuleFamily.PROFILER if is_profiler_rule(rule) else RuleFamily.DEBUGGER
