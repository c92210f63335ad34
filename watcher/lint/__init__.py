"""Preflight lint: why a rule of a job can never fire, always will, or reads nothing. Pure.

Debugger says NoIssuesFound for a rule that never had anything to look at, and it says so when the job is
over. Most of these mistakes stand in the job's record, from its first minute on.

Where the record cannot tell, nothing is said. It does not show:

- what the script does: a hook, a collection or a mode that it sets in code, the functional API, or in
  script mode the metrics and what it calls its data. The zero-code-change hook, which containers from
  TensorFlow 2.6 and PyTorch 1.12 on no longer have, may be there in code as well;
- the names of a model's layers and tensors, so for deep learning whether a regex finds any;
- how many steps a deep-learning run takes, unless its hyperparameters say `max_steps`, or `epochs` and
  `steps_per_epoch`. Evaluation that the script counts in the mode of training adds to these;
- how many features, classes and validation rows the data has;
- checkpoints: distributed training with SageMaker's checkpoints has no Debugger;
- custom rules: only of the hook that they depend on is anything said.

Profiler rules read no tensors and are not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from watcher.lint import applicable, frequency, metrics, selected, thresholds
from watcher.lint.subject import Check, Problem, Reason, Subject
from watcher.model import JobSnapshot, RuleConfiguration, RuleSource

__all__ = ["MOST_RULES", "Defect", "Reason", "lint"]

MOST_RULES = 20
"""Debugger rules a job."""


@dataclass(frozen=True, slots=True)
class Defect:
    rule: str
    """The configuration's name."""
    reason: Reason
    sentence: str
    """What is wrong, with the numbers."""
    mend: str
    """What to write instead."""


def lint(job: JobSnapshot) -> list[Defect]:
    """The defects of each of the job's Debugger rules, in the rules' order, each once."""
    configured = [rule for rule in job.rules if rule.source is RuleSource.DEBUGGER]
    found = [*_crowding(configured)]
    for rule in configured:
        found += [Defect(rule.name, *problem) for problem in _problems(Subject(job, rule))]
    return list(dict.fromkeys(found))


def _crowding(rules: list[RuleConfiguration]) -> Iterator[Defect]:
    beyond = rules[MOST_RULES:]
    for rule in beyond:
        sentence = f"the job has {len(rules)} Debugger rules, and SageMaker evaluates at most {MOST_RULES}"
        yield Defect(rule.name, Reason.TOO_MANY_RULES, sentence, f"leave out {len(beyond)} of them")
    for name, times in Counter(rule.name for rule in rules).items():
        if times > 1:
            sentence = f"{times} rules are configured under the name {name}: their outcomes look the same"
            yield Defect(name, Reason.SAME_NAME, sentence, "give each a RuleConfigurationName of its own")


def _problems(subject: Subject) -> list[Problem]:
    """The first thing for which nothing else matters, or all that is wrong with what the rule reads."""
    if inapplicable := _first(applicable.CHECKS, subject):
        return inapplicable
    if subject.custom:
        return []
    # Each of these rests on those before it: what is not saved at all is not saved too seldom.
    reads_nothing = _first((*selected.CHECKS, *metrics.CHECKS, *frequency.CHECKS), subject)
    return reads_nothing + [problem for check in thresholds.CHECKS for problem in check(subject)]


def _first(checks: Iterable[Check], subject: Subject) -> list[Problem]:
    """What the first check finds that finds anything."""
    return next((found for check in checks if (found := list(check(subject)))), [])
