"""Checks of profiler rules: whether a rule can judge anything on this job. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from watcher.aws.instance_types import gpus
from watcher.lint.subject import Problem, Reason
from watcher.model import JobSnapshot, RuleConfiguration


def problems(job: JobSnapshot, configuration: RuleConfiguration) -> Iterator[Problem]:
    """None for a custom rule: what it reads is not known."""
    if "source_s3_uri" in configuration.parameters:
        return
    import rules  # not at the top: it imports numpy, and most jobs have no profiler rule
    from rules import profiler

    rule = profiler.find_or_none(configuration.invokes)
    if rule is None:
        return
    if not job.profiler_output:
        sentence = "the job has no ProfilerConfig with an S3OutputPath: the rule has nothing to read"
        fix = "switch the profiler on (disable_profiler=False, with a profiler_config), or drop the rule"
        yield Problem(Reason.NO_PROFILER_OUTPUT, sentence, fix)
        return
    try:
        profiler.load(configuration.invokes, configuration.parameters)
    except rules.RuleError as error:
        yield Problem(Reason.REFUSED_PARAMETERS, str(error), "correct or remove the parameter")
    types = [type_ for type_, _ in job.instances]
    if profiler.Need.GPU in rule.needs and types and all(gpus(type_) == 0 for type_ in types):
        sentence = f"{rule.name} judges GPUs, and {' and '.join(types)} has none: it can never fire"
        yield Problem(Reason.NO_GPU, sentence, "drop the rule, or train on an instance type with GPUs")
