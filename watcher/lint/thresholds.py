"""Checks whether the rule's parameters alone decide its verdict, regardless of the tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from watcher.lint.hook import saved_by_any
from watcher.lint.subject import Check, Problem, Reason, Subject

if TYPE_CHECKING:
    from rules import Forest

_DEFAULT_MAX_DEPTH = 6
"""XGBoost's default of `max_depth`."""
_MAX_STEPS_SEARCHED = 1_000_000
"""To find the first saved step."""


def _fixed_outcomes(subject: Subject) -> Iterator[Problem]:
    if subject.rule is None:
        return
    for outcome in subject.rule.fixed_outcomes(_forest(subject)):
        reason = Reason.ALWAYS_FIRES if outcome.fires else Reason.NEVER_FIRES
        yield Problem(reason, outcome.sentence, outcome.fix)


def _forest(subject: Subject) -> Forest | None:
    """None if it is not known how deep a tree may grow, or if that is not limited."""
    from rules import Forest

    depth = _max_depth(subject)
    if not depth:
        return None
    return Forest(
        max_depth=depth,
        first_step=next(saved_by_any(subject.schedules, _MAX_STEPS_SEARCHED), None),
        trees_per_step=max(subject.count("num_class"), 1) * max(subject.count("num_parallel_tree"), 1),
    )


def _max_depth(subject: Subject) -> int:
    """How deep a tree of SageMaker's XGBoost may grow; 0 if that is not known, or not limited."""
    if not subject.built_in_algorithm or subject.hyperparameter("booster") == "gblinear":
        return 0
    return subject.count("max_depth") if "max_depth" in subject.job.hyperparameters else _DEFAULT_MAX_DEPTH


CHECKS: tuple[Check, ...] = (_fixed_outcomes,)
