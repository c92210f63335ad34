"""Checks a job's configuration: which rules can never fire, always fire, or have nothing to read. Pure.

Debugger reports NoIssuesFound for a rule that had nothing to judge, and only when the job is over. Most of
these mistakes can be seen in the job's record from its first minute on.

Nothing is reported that the record does not show. It does not show:

- what the script does: a hook, a collection or a mode that it sets in code, the tensors that it puts into a
  collection or saves itself, the functional API, or in script mode the metrics and the names of the data.
  Containers from TensorFlow 2.6 and PyTorch 1.12 on have no zero-code-change hook any more, but the script
  may set one up;
- the names of a model's layers and tensors, so for deep learning not whether a regex finds any;
- how many steps a deep-learning run takes, unless its hyperparameters say `max_steps`, or `epochs` and
  `steps_per_epoch`. Evaluation that the script counts in the mode of training adds to these;
- how many features, classes and validation rows the data has;
- checkpoints: Debugger does not work with distributed training that uses SageMaker's checkpoints;
- what a custom rule reads: only the hook that it depends on is checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from watcher.lint import applicable, frequency, metrics, profiler, selected, thresholds
from watcher.lint.subject import Check, Problem, Reason, Subject
from watcher.model import JobSnapshot, RuleConfiguration, RuleFamily

__all__ = ["MAX_RULES_PER_JOB", "Defect", "Reason", "lint"]

MAX_RULES_PER_JOB = 20
"""SageMaker evaluates no more rules of one family than this."""


@dataclass(frozen=True, slots=True)
class Defect:
    rule: str
    """The configuration's name."""
    reason: Reason
    sentence: str
    """What is wrong, with the numbers."""
    fix: str
    """What to write instead."""
    family: RuleFamily = RuleFamily.DEBUGGER


def lint(job: JobSnapshot) -> list[Defect]:
    """The defects of each of the job's rules, in the rules' order by family, each once."""
    found: list[Defect] = []
    for family in RuleFamily:
        configured = [rule for rule in job.rules if rule.family is family]
        found += _crowding(configured, family)
        for rule in configured:
            found += [Defect(rule.name, *problem, family) for problem in _problems_of(rule, job)]
    return list(dict.fromkeys(found))


def _crowding(rules: list[RuleConfiguration], family: RuleFamily) -> Iterator[Defect]:
    beyond = rules[MAX_RULES_PER_JOB:]
    for rule in beyond:
        sentence = (
            f"the job has {len(rules)} {family.capitalize()} rules, and SageMaker evaluates at most "
            f"{MAX_RULES_PER_JOB}"
        )
        fix = f"leave out {len(beyond)} of them"
        yield Defect(rule.name, Reason.TOO_MANY_RULES, sentence, fix, family)
    for name, times in Counter(rule.name for rule in rules).items():
        if times > 1:
            sentence = (
                f"{times} rules are configured with the name {name}: their outcomes cannot be told apart"
            )
            fix = "give each a RuleConfigurationName of its own"
            yield Defect(name, Reason.SAME_NAME, sentence, fix, family)


def _problems_of(rule: RuleConfiguration, job: JobSnapshot) -> Iterable[Problem]:
    if rule.family is RuleFamily.PROFILER:
        return profiler.problems(job, rule)
    return _problems(Subject(job, rule))


def _problems(subject: Subject) -> list[Problem]:
    """The problem that makes all others irrelevant, or else the problems of what the rule reads and of its
    parameters."""
    if inapplicable := _first(applicable.CHECKS, subject):
        return inapplicable
    if subject.custom:
        return []
    # Each of these checks assumes that those before it found nothing: a tensor that is not saved at all is
    # not reported as saved too rarely.
    reads_nothing = _first((*selected.CHECKS, *metrics.CHECKS, *frequency.CHECKS), subject)
    return reads_nothing + [problem for check in thresholds.CHECKS for problem in check(subject)]


def _first(checks: Iterable[Check], subject: Subject) -> list[Problem]:
    """The problems of the first check that finds any."""
    return next((found for check in checks if (found := list(check(subject)))), [])
