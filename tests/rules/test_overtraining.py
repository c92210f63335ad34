"""Overtraining as documented."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import Collection, Mode, ParameterError, Status, Step
from rules.base import Value
from rules.overtraining import Overtraining
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

LOSSES = {"losses": Collection(include_regex=("^[a-zA-z]+-.+(?<!(auc|map))$", "_loss$"))}


def rule(**parameters: str) -> Overtraining:
    evaluation = Overtraining(parameters)
    evaluation.learn(LOSSES)
    return evaluation


def rounds(train: Iterable[float], validation: Iterable[float]) -> Saved:
    """What XGBoost saves in every fifth round."""
    return [
        (Step(5 * index), {"train-rmse": trained, "validation-rmse": validated})
        for index, (trained, validated) in enumerate(zip(train, validation, strict=True))
    ]


def validated(values: Iterable[float]) -> Saved:
    return [(Step(number), {"validation-rmse": value}) for number, value in enumerate(values)]


def test_a_validation_loss_that_keeps_falling_is_not_an_issue() -> None:
    verdict = run(rule(patience_validation="1"), validated([1.0, 0.75, 0.5]))
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 2)


def test_patience_values_without_an_optimum_fire_and_one_fewer_do_not() -> None:
    assert run(rule(), validated([0.5] + [0.6] * 9)).status is Status.NO_ISSUES_FOUND
    verdict = run(rule(), validated([0.5] + [0.6] * 10))
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "no_new_optimum", 10)


def test_the_sentence_and_the_evidence_name_the_optimum_and_the_training_loss() -> None:
    saved = rounds([1.0, 0.5, 0.5, 0.5], [1.0, 0.5, 0.75, 0.75])
    verdict = run(rule(patience_validation="2", patience_train="2", delta="0.125"), saved)
    assert verdict.explanation == (
        "validation-rmse has had no new optimum since 0.5 at step 5, 2 saved values ago; it is 0.75 at step "
        "15, and an optimum has to be lower by 0.125"
        "; the training loss has had none either, for 2 saved values"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.previous_step, row.previous_value) == (
        "validation-rmse", 15, 0.75, 5, 0.5,
    )  # fmt: skip
    assert (row.threshold, row.missed_by) == (0.125, 0.375)


def test_a_training_loss_that_still_falls_is_mentioned_and_does_not_prevent_firing() -> None:
    saved = rounds([1.0, 0.5, 0.25, 0.125], [1.0, 0.5, 0.75, 0.75])
    verdict = run(rule(patience_validation="2", patience_train="1"), saved)
    assert verdict.explanation.endswith("; the training loss still falls")


def test_an_exhausted_training_patience_alone_does_not_fire() -> None:
    saved = rounds([0.5] * 8, [1.0 - 0.1 * step for step in range(8)])
    assert run(rule(patience_train="1"), saved).status is Status.NO_ISSUES_FOUND


def test_a_fall_by_exactly_delta_is_an_optimum_and_a_smaller_one_is_not() -> None:
    parameters = {"patience_validation": "1", "delta": "0.25"}
    assert run(rule(**parameters), validated([1.0, 0.75])).status is Status.NO_ISSUES_FOUND
    verdict = run(rule(**parameters), validated([1.0, math.nextafter(0.75, 1)]))
    assert verdict.status is Status.ISSUES_FOUND


def test_a_slow_fall_is_an_optimum_once_it_adds_up_to_delta() -> None:
    slowly = [1.0, 0.875, 0.75, 0.625, 0.5]
    assert (
        run(rule(patience_validation="2", delta="0.25"), validated(slowly)).status is Status.NO_ISSUES_FOUND
    )


def test_with_a_delta_of_zero_an_equal_value_is_not_an_optimum() -> None:
    parameters = {"patience_validation": "1", "delta": "0"}
    assert run(rule(**parameters), validated([0.5, 0.5])).status is Status.ISSUES_FOUND
    assert run(rule(**parameters), validated([0.5, 0.4999])).status is Status.NO_ISSUES_FOUND


def test_the_training_loss_is_found_under_another_spelling_of_its_name() -> None:
    evaluation = Overtraining({"patience_validation": "1", "delta": "0.5"})
    evaluation.learn({"losses": Collection(tensor_names=frozenset({"loss", "val_loss"}))})
    saved = [
        (Step(number, mode), {name: value})
        for number, value in enumerate([3.0, 2.75])
        for mode, name in ((Mode.TRAIN, "loss"), (Mode.EVAL, "val_loss"))
    ]
    assert "; the training loss still falls" in run(evaluation, saved).explanation


def test_eval_mode_counts_as_validation() -> None:
    saved = [
        (Step(0, Mode.TRAIN, 0), {"ce_loss": 0.5}),
        (Step(1, Mode.EVAL, 0), {"ce_loss": 0.5}),
        (Step(2, Mode.TRAIN, 1), {"ce_loss": 0.5}),
        (Step(3, Mode.EVAL, 1), {"ce_loss": 0.5}),
    ]
    verdict = run(rule(patience_validation="1"), saved)
    assert (verdict.step, verdict.evidence[0].previous_step) == (3, 1)


def test_a_metric_that_should_rise_is_left_out() -> None:
    saved: Saved = [(Step(number), {"validation-aucpr": 0.5}) for number in range(20)]
    assert run(rule(), saved).reason == "only_rising_metrics"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_a_number_is_not_an_optimum_and_counts_towards_patience(bad: float) -> None:
    verdict = run(rule(patience_validation="2"), validated([0.5, bad, bad]))
    assert (verdict.status, verdict.step) == (Status.ISSUES_FOUND, 2)
    assert (verdict.evidence[0].previous_value, verdict.evidence[0].missed_by) == (0.5, None)


def test_a_loss_that_never_was_a_number_also_fires() -> None:
    verdict = run(rule(patience_validation="2"), validated([math.nan] * 3))
    assert verdict.explanation.startswith(
        "validation-rmse has had no number since step 0, 2 saved values ago"
    )
    assert verdict.evidence[0].previous_step is None


@pytest.mark.parametrize(
    ("saved", "reason", "word"),
    [
        ([], "nothing_saved", "no step"),
        ([(Step(0), {"noise": 1.0})], "no_tensor_matches", "none"),
        ([(Step(0), {"train-rmse": 1.0})], "no_validation_values", "only of training"),
        (validated([1.0]), "too_few_steps", "one validation value"),
        ([(Step(0), {"ce_loss": 1.0})], "no_modes", "neither a mode nor the name"),
        ([(Step(0), {"validation-rmse": np.ones(2)})], "no_scalar", "not single numbers"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(saved: Saved, reason: str, word: str) -> None:
    verdict = run(rule(), saved)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert word in verdict.explanation


def test_a_job_without_a_losses_collection_is_not_evaluated() -> None:
    evaluation = Overtraining({})
    evaluation.learn({})
    assert run(evaluation, validated([1.0] * 20)).reason == "no_such_collection"


def test_the_defaults_are_those_that_aws_documents() -> None:
    defaults = Overtraining({}).parameters
    assert (defaults.patience_train, defaults.patience_validation, defaults.delta) == (5, 10, 0.01)


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("patience_train", "0", "a whole number of at least 1"),
        ("patience_validation", "1.5", "a whole number of at least 1"),
        ("delta", "-1", "a number of at least 0"),
        ("delta", "inf", "a number of at least 0"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rule(**{name: text})
    assert str(refused.value) == f"Overtraining: {name} must be {valid}, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="it has patience_train, patience_validation, delta"):
        rule(patience="3")


losses = st.one_of(st.floats(0.1, 0.2), st.sampled_from([math.nan, math.inf]), st.just(np.ones(2)))
names = st.sampled_from(["train-rmse", "validation-rmse", "train-auc", "ce_loss", "noise"])
steps = st.lists(
    st.tuples(st.sampled_from([Mode.GLOBAL, Mode.TRAIN, Mode.EVAL]), st.dictionaries(names, losses)),
    max_size=20,
)


@given(steps, st.sets(st.integers(0, 20)), st.integers(1, 5))
def test_a_rule_restored_from_its_state_continues_as_if_it_had_never_stopped(
    values: list[tuple[Mode, dict[str, Value]]], restarts: set[int], patience: int
) -> None:
    saved = [(Step(number, mode, number), tensors) for number, (mode, tensors) in enumerate(values)]
    parameters = {"patience_validation": str(patience), "patience_train": "2"}
    assert_restarts_keep_the_verdict(lambda: rule(**parameters), saved, restarts)
