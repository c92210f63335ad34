"""Overfit as documented."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import Collection, Mode, ParameterError, Status, Step
from rules.base import Value
from rules.overfit import Overfit
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

LOSSES = {"losses": Collection(include_regex=("^[a-zA-z]+-.+(?<!(auc|map))$", "_loss$"))}
"""The collection as XGBoost's hook writes it, and as a hook of a framework with modes might."""


def rule(**parameters: str) -> Overfit:
    evaluation = Overfit(parameters)
    evaluation.learn(LOSSES)
    return evaluation


def rounds(values: Iterable[tuple[float, float]], metric: str = "logloss") -> Saved:
    """What XGBoost saves: (training, validation) at each step."""
    return [
        (Step(number), {f"train-{metric}": train, f"validation-{metric}": validation})
        for number, (train, validation) in enumerate(values)
    ]


def moded(values: Iterable[tuple[Mode, Value]], tensor: str = "ce_loss") -> Saved:
    return [(Step(number, mode, number // 2), {tensor: value}) for number, (mode, value) in enumerate(values)]


def test_a_validation_loss_near_the_training_loss_is_not_an_issue() -> None:
    verdict = run(rule(), rounds([(1.0, 1.05), (0.5, 0.52)]))
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 2)
    assert verdict.tensors == ("train-logloss", "validation-logloss")


def test_a_validation_loss_far_above_the_training_loss_fires_and_the_sentence_gives_both_means() -> None:
    verdict = run(rule(), rounds([(1.0, 1.0), (0.5, 1.0)]))
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "overfit", 1)
    assert verdict.explanation == (
        "up to step 1, the mean validation loss validation-logloss is 1 and that of training is 0.75: "
        "a ratio of 0.333; the rule allows 0.1"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.threshold) == ("validation-logloss", 1, 1.0, 0.1)
    assert row.missed_by == pytest.approx(1 / 3 - 0.1)


def test_a_ratio_of_exactly_ratio_threshold_is_allowed_and_a_little_more_is_not() -> None:
    assert run(rule(ratio_threshold="0.25"), rounds([(1.0, 1.25)])).status is Status.NO_ISSUES_FOUND
    above = rounds([(1.0, math.nextafter(1.25, 2))])
    assert run(rule(ratio_threshold="0.25"), above).status is Status.ISSUES_FOUND


def test_the_means_cover_all_values_since_start_step() -> None:
    saved = rounds([(1.0, 9.0), (1.0, 1.0), (3.0, 3.0)])
    assert run(rule(start_step="1"), saved).status is Status.NO_ISSUES_FOUND
    verdict = run(rule(start_step="0", patience="3"), saved)
    assert verdict.evidence[0].value == pytest.approx(13 / 3)


def test_fewer_evaluations_in_a_row_than_patience_are_not_an_issue() -> None:
    high, mended = (1.0, 2.0), (8.0, 0.0)
    assert run(rule(patience="3"), rounds([high, high])).status is Status.NO_ISSUES_FOUND
    verdict = run(rule(patience="3"), rounds([high, high, high]))
    assert verdict.step == 2
    assert "3 evaluations in a row" in verdict.explanation
    interrupted = rounds([high, high, mended, (0.0, 20.0), (0.0, 0.0)])
    assert run(rule(patience="3"), interrupted).status is Status.NO_ISSUES_FOUND


def test_a_tensor_saved_in_two_modes_is_compared_between_train_and_eval() -> None:
    saved = moded([(Mode.TRAIN, 1.0), (Mode.EVAL, 1.0), (Mode.TRAIN, 0.5), (Mode.EVAL, 1.0)])
    verdict = run(rule(), saved)
    assert (verdict.reason, verdict.step, verdict.steps_checked) == ("overfit", 3, 2)


@pytest.mark.parametrize(
    ("training", "validation"), [("train_loss", "val_loss"), ("Training:ce_loss", "test:ce_loss")]
)
def test_with_modes_names_that_differ_only_in_their_data_are_one_loss(training: str, validation: str) -> None:
    saved = [(Step(0, Mode.TRAIN), {training: 1.0}), (Step(0, Mode.EVAL), {validation: 1.5})]
    verdict = run(rule(tensor_regex="loss"), saved)
    assert verdict.status is Status.ISSUES_FOUND
    assert [row.tensor for row in verdict.evidence] == [validation]
    assert verdict.tensors == tuple(sorted((training, validation)))


def test_a_loss_with_the_same_name_takes_precedence_over_one_with_a_similar_name() -> None:
    training = {"loss": 1.0, "train_loss": 9.0}
    saved = [(Step(0, Mode.TRAIN), training), (Step(1, Mode.EVAL), {"loss": 1.01})]
    assert run(rule(tensor_regex="loss"), saved).status is Status.NO_ISSUES_FOUND


def test_two_validation_sets_are_compared_with_the_same_training_loss() -> None:
    saved = [
        (Step(0, Mode.TRAIN), {"train:loss": 1.0}),
        (Step(0, Mode.EVAL), {"validation:loss": 1.05, "test:loss": 3.0}),
    ]
    (row,) = run(rule(tensor_regex="loss"), saved).evidence
    assert (row.tensor, row.value) == ("test:loss", 3.0)


def test_only_steps_with_a_validation_value_are_evaluations() -> None:
    saved = moded([(Mode.TRAIN, 1.0), (Mode.EVAL, 1.05), (Mode.TRAIN, 0.1), (Mode.TRAIN, 0.1)])
    verdict = run(rule(), saved)
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 1)


def test_values_of_predict_mode_are_ignored() -> None:
    saved = moded([(Mode.TRAIN, 1.0), (Mode.PREDICT, 9.0), (Mode.EVAL, 1.0)])
    assert run(rule(), saved).status is Status.NO_ISSUES_FOUND


def test_negative_losses_are_compared_in_the_right_direction() -> None:
    assert run(rule(), rounds([(-2.0, -1.0)])).status is Status.ISSUES_FOUND
    assert run(rule(), rounds([(-2.0, -3.0)])).status is Status.NO_ISSUES_FOUND


def test_a_training_loss_of_zero_overfits_unless_validation_is_zero_too() -> None:
    assert run(rule(), rounds([(0.0, 0.1)])).status is Status.ISSUES_FOUND
    assert run(rule(), rounds([(0.0, 0.0)])).status is Status.NO_ISSUES_FOUND


def test_every_loss_is_compared_separately_and_all_that_fire_at_a_step_are_evidence() -> None:
    (step, first), (_, second) = rounds([(1.0, 2.0)], "rmse")[0], rounds([(1.0, 3.0)], "mae")[0]
    verdict = run(rule(), [(step, {**first, **second, "train-mape": 1.0, "validation-mape": 1.0})])
    assert [row.tensor for row in verdict.evidence] == ["validation-mae", "validation-rmse"]


def test_tensor_regex_reads_other_tensors_instead_of_the_losses() -> None:
    (step, overfit), (_, fine) = rounds([(1.0, 2.0)], "rmse")[0], rounds([(1.0, 1.0)], "mae")[0]
    verdict = run(rule(tensor_regex="-mae$,nosuch"), [(step, {**overfit, **fine})])
    assert (verdict.status, verdict.tensors) == (Status.NO_ISSUES_FOUND, ("train-mae", "validation-mae"))


@pytest.mark.parametrize("metric", ["aucpr", "ndcg@5", "accuracy"])
def test_a_metric_that_should_rise_is_left_out_and_the_verdict_says_so(metric: str) -> None:
    verdict = run(rule(), rounds([(0.5, 0.9)], metric))
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "only_rising_metrics")
    assert verdict.notes == (f"left out, because they should rise: train-{metric}, validation-{metric}",)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_numbers_are_left_out_of_the_means_and_mentioned(bad: float) -> None:
    saved = rounds([(1.0, 1.0), (bad, 1.0), (1.0, bad), (1.0, 1.0), (0.2, 1.0)])
    verdict = run(rule(), saved)
    assert (verdict.status, verdict.step, verdict.steps_checked) == (Status.ISSUES_FOUND, 4, 4)
    assert verdict.notes == (
        "left out of the means, where NaN or infinite: train-logloss, validation-logloss",
    )


@pytest.mark.parametrize(
    ("parameters", "saved", "reason", "word"),
    [
        ({}, [], "nothing_saved", "no step"),
        ({"tensor_regex": "nosuch"}, rounds([(1.0, 1.0)]), "no_tensor_matches", "none"),
        ({"start_step": "5"}, rounds([(1.0, 9.0)]), "no_step_in_range", "from step 5 on"),
        ({}, rounds([(math.nan, 1.0)]), "non_finite", "NaN"),
        ({}, moded([(Mode.EVAL, 1.0)]), "no_pair", "both"),
        ({}, moded([(Mode.TRAIN, 1.0)]), "no_pair", "both"),
        ({}, moded([(Mode.GLOBAL, 1.0)]), "no_modes", "neither a mode nor the name"),
        ({}, moded([(Mode.TRAIN, np.ones(2)), (Mode.EVAL, np.ones(2))]), "no_scalar", "not single numbers"),
        ({}, moded([(Mode.TRAIN, np.array(["text"]))]), "no_scalar", "not single numbers"),
        (
            {"tensor_regex": "relu"},
            moded([(Mode.TRAIN, 1.0)], "smdebug/reductions/mean/relu"),
            "only_reductions",
            "reductions",
        ),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    parameters: dict[str, str], saved: Saved, reason: str, word: str
) -> None:
    verdict = run(rule(**parameters), saved)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert word in verdict.explanation


def test_a_job_without_a_losses_collection_is_not_evaluated() -> None:
    evaluation = Overfit({})
    evaluation.learn({})
    verdict = run(evaluation, rounds([(1.0, 9.0)]))
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "no_such_collection")


def test_the_defaults_are_those_that_aws_documents() -> None:
    defaults = Overfit({}).parameters
    assert (defaults.tensor_regex, defaults.start_step, defaults.patience, defaults.ratio_threshold) == (
        (), 0, 1, 0.1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("patience", "0", "a whole number of at least 1"),
        ("start_step", "-1", "a whole number of at least 0"),
        ("ratio_threshold", "-0.1", "a number of at least 0"),
        ("ratio_threshold", "nan", "a number of at least 0"),
        ("tensor_regex", "(", "regular expressions separated by commas"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rule(**{name: text})
    assert str(refused.value) == f"Overfit: {name} must be {valid}, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="it has tensor_regex, start_step, patience, ratio_threshold"):
        rule(threshold="1")


losses = st.one_of(st.floats(0.1, 2.0), st.sampled_from([math.nan, math.inf]), st.just(np.ones(2)))
names = st.sampled_from(["train-rmse", "validation-rmse", "train-auc", "ce_loss", "noise"])
steps = st.lists(
    st.tuples(st.sampled_from([Mode.GLOBAL, Mode.TRAIN, Mode.EVAL]), st.dictionaries(names, losses)),
    max_size=20,
)


@given(steps, st.sets(st.integers(0, 20)), st.integers(1, 4), st.integers(0, 5))
def test_a_rule_restored_from_its_state_continues_as_if_it_had_never_stopped(
    values: list[tuple[Mode, dict[str, Value]]], restarts: set[int], patience: int, start_step: int
) -> None:
    saved = [(Step(number, mode, number), tensors) for number, (mode, tensors) in enumerate(values)]
    parameters = {"patience": str(patience), "start_step": str(start_step)}
    assert_restarts_keep_the_verdict(lambda: rule(**parameters), saved, restarts)


@pytest.mark.parametrize("data", ["validation", "eval", "test", "valid", "validation_0"])
def test_xgboosts_training_metric_goes_with_any_name_for_the_validation_data(data: str) -> None:
    saved: Saved = [(Step(step), {"train-rmse": 1.0, f"{data}-rmse": 2.0}) for step in range(3)]
    verdict = run(rule(tensor_regex="-rmse$"), saved)
    assert (verdict.status, verdict.evidence[0].tensor) == (Status.ISSUES_FOUND, f"{data}-rmse")
    other: Saved = [(Step(step), {"train-mae": 1.0, f"{data}-rmse": 2.0}) for step in range(3)]
    assert run(rule(tensor_regex="-(rmse|mae)$"), other).reason == "no_pair"
