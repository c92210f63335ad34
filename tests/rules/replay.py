"""The law that every rule keeps: a restart at any step changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence

from rules import Rule, Step, Verdict
from rules.base import Value

Saved = Sequence[tuple[Step, Mapping[str, Value]]]


def run(rule: Rule, saved: Saved) -> Verdict:
    """The verdict on a whole job, fed step by step."""
    for step, tensors in saved:
        if verdict := rule.observe(step, tensors):
            return verdict
    return rule.verdict(ended=True)


def run_with_restarts(make: Callable[[], Rule], saved: Saved, restarts: Collection[int]) -> Verdict:
    """The same, by a new object after each of these positions, which has seen only what a restarted
    process would hand it: the state, as JSON, and the steps it asks to see again."""
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


def same_verdict_with_restarts(make: Callable[[], Rule], saved: Saved, restarts: Collection[int]) -> None:
    """Asserts the law. `make` gives a new rule that has learnt the job's collections."""
    # As text: NaN is not equal to itself, and a verdict may hold some.
    assert repr(run_with_restarts(make, saved, restarts)) == repr(run(make(), saved))
