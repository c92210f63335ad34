"""The value that a rule required, in the evidence of its verdict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import rules
from rules import Collection, Mode, Step, Verdict

LOSSES = {"losses": Collection(tensor_names=frozenset({"loss"}))}


def first_verdict(rule: str, parameters: dict[str, str], values: list[float]) -> Verdict | None:
    """The first verdict of a rule on these values of a validation loss, one per step."""
    evaluation = rules.load(rule, parameters)
    evaluation.learn(LOSSES)
    seen = (evaluation.observe(Step(step, Mode.EVAL), {"loss": value}) for step, value in enumerate(values))
    return next(filter(None, seen), None)


@given(st.floats(0.01, 1e6), st.floats(0.5, 2), st.floats(0.5, 90), st.booleans())
def test_a_loss_just_below_the_needed_value_satisfies_the_rule_and_one_just_above_does_not(
    first: float, share: float, percent: float, above: bool
) -> None:
    parameters = {"num_steps": "1", "diff_percent": str(percent)}
    if verdict := first_verdict("LossNotDecreasing", parameters, [first, first * share]):
        [row] = verdict.evidence
        assert row.needed is not None
        other = row.needed + (1 if above else -1) * first * 1e-3
        assert bool(first_verdict("LossNotDecreasing", parameters, [first, other])) is above


def test_the_needed_value_of_a_constant_loss_is_lower_by_the_percentage() -> None:
    verdict = first_verdict("LossNotDecreasing", {"num_steps": "1", "diff_percent": "5"}, [0.5, 0.5])
    assert verdict
    assert [row.needed for row in verdict.evidence] == [0.475]


def test_the_needed_value_without_a_new_optimum_is_lower_than_the_last_by_delta() -> None:
    parameters = {"patience_validation": "2", "delta": "0.1"}
    verdict = first_verdict("Overtraining", parameters, [0.5, 0.5, 0.5])
    assert verdict
    assert [row.needed for row in verdict.evidence] == [0.4]


def test_a_loss_that_is_not_a_number_has_no_needed_value() -> None:
    verdict = first_verdict("LossNotDecreasing", {"num_steps": "1"}, [0.5, float("nan")])
    assert verdict
    assert [row.needed for row in verdict.evidence] == [None]
