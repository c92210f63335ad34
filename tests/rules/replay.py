"""Replays saved steps to a rule, with and without restarts: a restart must not change the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence

from rules import Rule, Step, Verdict
from rules.base import Value

Saved = Sequence[tuple[Step, Mapping[str, Value]]]


def run(rule: Rule, saved: Saved) -> Verdict:
    """The verdict on a whole job, given step by step."""
    for step, tensors in saved:
        if verdict := rule.observe(step, tensors):
            return verdict
    return rule.verdict(ended=True)


def verdict_with_restarts(make: Callable[[], Rule], saved: Saved, restarts: Collection[int]) -> Verdict:
    """The same verdict, with a new rule object after each of these positions. The new object gets only what a
    restarted process would give it: the state as JSON, and the steps that it asks to see again."""
    by_number = {step.number: (step, tensors) for step, tensors in saved}
    rule = make()
    for position, (step, tensors) in enumerate(saved):
        if verdict := rule.observe(step, tensors):
            return verdict
        if position in restarts:
            state = json.loads(json.dumps(rule.state()))
            recalled = rule.recalls()
            rule = make()
            rule.restore(state)
            assert rule.recalls() == recalled
            for number in recalled:
                rule.recall(*by_number[number])
    return rule.verdict(ended=True)


def assert_restarts_keep_the_verdict(
    make: Callable[[], Rule], saved: Saved, restarts: Collection[int]
) -> None:
    """Assert that restarts do not change the verdict. `make` returns a new rule that has learnt the job's
    collections."""
    # Compared as text: a verdict may contain NaN, which is not equal to itself.
    assert repr(verdict_with_restarts(make, saved, restarts)) == repr(run(make(), saved))
