"""LossNotDecreasing as documented."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rules
from rules import Collection, Mode, Rule, Status, Step, Verdict
from rules.base import Value

METRICS = {
    "metrics": Collection(include_regex=("^[a-zA-z]+-[a-zA-z0-9]+$",)),
    "losses": Collection(include_regex=("^[a-zA-z]+-.+(?<!(auc|map))$",)),
}


def rule(**parameters: str) -> Rule:
    evaluation = rules.load("LossNotDecreasing", {"collection_names": "metrics", **parameters})
    evaluation.learn(METRICS)
    return evaluation


def run(evaluation: Rule, saved: Iterable[tuple[int | Step, Mapping[str, Value]]]) -> Verdict:
    for at, tensors in saved:
        step = at if isinstance(at, Step) else Step(at)
        if verdict := evaluation.observe(step, tensors):
            return verdict
    return evaluation.verdict(ended=True)


def losses(values: Mapping[int, float], tensor: str = "train-error") -> list[tuple[int, dict[str, float]]]:
    return [(step, {tensor: value}) for step, value in values.items()]


def test_a_loss_that_falls_enough_is_not_an_issue() -> None:
    verdict = run(rule(num_steps="2", diff_percent="5"), losses({0: 1.0, 2: 0.9, 4: 0.8}))
    assert verdict == Verdict(Status.NO_ISSUES_FOUND, step=4, steps_checked=2, tensors=("train-error",))


def test_a_loss_that_falls_too_little_is_a_plateau_and_the_sentence_says_by_how_much() -> None:
    verdict = run(rule(num_steps="2", diff_percent="5"), losses({6: 0.7, 8: 0.5, 10: 0.494}))
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "plateau", 10)
    assert verdict.explanation == "train-error fell 1.2 % between step 8 and step 10; the rule wants 5 %"
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.previous_step, row.previous_value, row.threshold) == (
        "train-error", 10, 0.494, 8, 0.5, 5.0,
    )  # fmt: skip
    assert row.missed_by == pytest.approx(3.8)


def test_a_fall_of_exactly_diff_percent_is_enough() -> None:
    assert (
        run(rule(num_steps="1", diff_percent="50"), losses({0: 1.0, 1: 0.5})).status is Status.NO_ISSUES_FOUND
    )


def test_a_rise_beyond_the_tolerance_is_an_increase() -> None:
    verdict = run(rule(num_steps="1"), losses({0: 0.5, 1: 0.6}))
    assert verdict.reason == "increase"
    assert (
        verdict.explanation
        == "train-error rose 20 % between step 0 and step 1; the rule wants a fall of 0.1 %"
    )


def test_a_rise_within_the_tolerance_is_a_plateau() -> None:
    parameters = {"num_steps": "1", "increase_threshold_percent": "30"}
    assert run(rule(**parameters), losses({0: 0.5, 1: 0.6})).reason == "plateau"


def test_a_constant_loss_of_zero_is_a_plateau() -> None:
    verdict = run(rule(num_steps="1"), losses({0: 0.0, 1: 0.0}))
    assert verdict.reason == "plateau"
    assert verdict.explanation.startswith("train-error did not change between step 0 and step 1")


def test_a_negative_loss_that_falls_further_is_not_an_issue() -> None:
    assert run(rule(num_steps="1"), losses({0: -1.0, 1: -1.5})).status is Status.NO_ISSUES_FOUND


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_a_number_fires_for_that_reason(bad: float) -> None:
    verdict = run(rule(num_steps="1"), losses({0: 0.5, 1: bad}))
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "non_finite", 1)
    assert verdict.evidence[0].missed_by is None
    assert verdict.explanation == f"train-error is {bad:g} at step 1 (0.5 at step 0)"


def test_a_loss_that_was_not_a_number_at_the_reference_step_also_fires() -> None:
    assert run(rule(num_steps="1"), losses({0: math.nan, 1: 0.5})).reason == "non_finite"


def test_in_awss_worked_example_a_check_at_21_compares_with_9_and_the_next_is_at_33() -> None:
    evaluation = rule(num_steps="10", diff_percent="5")
    checks = []
    for step in range(9, 40, 3):  # saved every third step, and counted so that a check is due at 21
        before = evaluation.verdict(ended=False).steps_checked
        assert evaluation.observe(Step(step), {"train-error": 0.8**step}) is None
        if evaluation.verdict(ended=False).steps_checked > before:
            checks.append(step)
    assert checks == [21, 33]

    flat_at_21 = {step: 0.5 if step in (9, 21) else 0.9 - step / 100 for step in range(9, 22, 3)}
    (row,) = run(rule(num_steps="10", diff_percent="5"), losses(flat_at_21)).evidence
    assert (row.previous_step, row.step) == (9, 21)


def test_the_first_check_waits_until_num_steps_have_passed_since_the_first_saved_step() -> None:
    evaluation = rule(num_steps="10")
    assert all(evaluation.observe(Step(step), {"train-error": 1.0}) is None for step in (0, 3, 6, 9))
    verdict = evaluation.observe(Step(12), {"train-error": 1.0})
    assert verdict is not None
    assert (verdict.evidence[0].previous_step, verdict.step) == (0, 12)


def test_each_tensor_is_counted_from_its_own_first_saved_step() -> None:
    late = [(0, {"train-error": 1.0}), (1, {"train-error": 0.9, "validation-error": 1.0}),
            (2, {"train-error": 0.8, "validation-error": 1.0}),
            (3, {"train-error": 0.7, "validation-error": 1.0})]  # fmt: skip
    verdict = run(rule(num_steps="2"), late)
    assert [(row.tensor, row.previous_step, row.step) for row in verdict.evidence] == [
        ("validation-error", 1, 3)
    ]


def test_all_tensors_that_fire_at_one_step_are_evidence_and_the_first_gives_the_reason() -> None:
    saved = [
        (0, {"validation-error": 0.5, "train-error": 0.5}),
        (2, {"validation-error": 0.9, "train-error": 0.5}),
    ]
    verdict = run(rule(num_steps="2"), saved)
    assert verdict.reason == "plateau"
    assert [row.tensor for row in verdict.evidence] == ["train-error", "validation-error"]
    assert verdict.tensors == ("train-error", "validation-error")


@pytest.mark.parametrize(
    "metric",
    ["auc", "aucpr", "map@5-", "ndcg@10", "accuracy", "f1_macro", "recall_macro", "auc_1", "accuracy:0"],
)
def test_a_metric_that_should_rise_is_left_out_and_the_verdict_says_so(metric: str) -> None:
    evaluation = rules.load("LossNotDecreasing", {"tensor_regex": "^validation-", "num_steps": "1"})
    verdict = run(evaluation, losses({0: 0.5, 1: 0.5}, f"validation-{metric}"))
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "only_rising_metrics")
    assert verdict.notes == (f"left out, because they should rise: validation-{metric}",)


@pytest.mark.parametrize(
    "metric", ["error", "merror@0.7", "aft-nloglik", "loss", "interval-regression-accuracy"]
)
def test_a_metric_that_should_fall_is_judged(metric: str) -> None:
    evaluation = rules.load("LossNotDecreasing", {"tensor_regex": "^validation-", "num_steps": "1"})
    assert run(evaluation, losses({0: 0.5, 1: 0.5}, f"validation-{metric}")).status is Status.ISSUES_FOUND


def test_a_tensor_with_several_elements_is_left_out_and_the_verdict_says_so() -> None:
    saved = [
        (step, {"train-error": np.ones(3), "validation-error": np.array([1.0 - step / 5])}) for step in (0, 1)
    ]
    verdict = run(rule(num_steps="1"), saved)
    assert (verdict.status, verdict.tensors) == (Status.NO_ISSUES_FOUND, ("validation-error",))
    assert verdict.notes == ("left out, because they have several elements: train-error",)


def test_the_losses_collection_is_read_by_default() -> None:
    flat = losses({0: 1.0, 10: 1.0}, "train-error@0.7")  # in XGBoost's losses, not in its metrics
    for parameters, expected in (
        ({}, Status.ISSUES_FOUND),
        ({"collection_names": "metrics"}, Status.ISSUES_FOUND),
        ({"collection_names": "metrics", "use_losses_collection": "False"}, Status.NOT_EVALUATED),
        ({"use_losses_collection": "False"}, Status.NOT_EVALUATED),
    ):
        evaluation = rules.load("LossNotDecreasing", parameters)
        evaluation.learn(METRICS)
        assert run(evaluation, flat).status is expected, parameters


@pytest.mark.parametrize("collections", [{}, {"metrics": METRICS["metrics"]}])
def test_without_a_losses_collection_and_without_parameters_every_scalar_is_read(
    collections: Mapping[str, Collection],
) -> None:
    evaluation = rules.load("LossNotDecreasing", {})
    evaluation.learn(collections)
    flat = {"mean_cost": np.array([1.0]), "weight": np.ones(3), "val_auc": 1.0}
    flat["smdebug/reductions/mean/weight"] = 1.0
    verdict = run(evaluation, [(0, flat), (10, flat)])
    assert (verdict.status, verdict.tensors) == (Status.ISSUES_FOUND, ("mean_cost",))
    assert verdict.notes == ("left out, because they should rise: val_auc",)
    assert not evaluation.wants("weight"), "it need not be decoded again"


def test_a_losses_collection_is_read_alone() -> None:
    evaluation = rules.load("LossNotDecreasing", {})
    evaluation.learn({"losses": Collection(tensor_names=frozenset({"a-loss"}))})
    verdict = run(evaluation, [(step, {"a-loss": 9.0 - step, "mean_cost": 1.0}) for step in (0, 5, 10)])
    assert (verdict.status, verdict.tensors) == (Status.NO_ISSUES_FOUND, ("a-loss",))


def test_a_reduction_is_not_a_loss() -> None:
    saved = [(step, {"smdebug/reductions/mean/train-error": 1.0}) for step in (0, 10)]
    verdict = run(rules.load("LossNotDecreasing", {"tensor_regex": "error"}), saved)
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "only_reductions")


def modes(steps: Iterable[tuple[int, Mode, int, float]]) -> list[tuple[Step, dict[str, float]]]:
    return [(Step(number, mode, mode_step), {"a-loss": value}) for number, mode, mode_step, value in steps]


def test_without_a_mode_eval_values_replace_train_values() -> None:
    saved = modes([
        (0, Mode.TRAIN, 0, 1.0), (1, Mode.EVAL, 0, 1.0), (2, Mode.TRAIN, 1, 1.0),
        (3, Mode.EVAL, 1, 0.5), (4, Mode.TRAIN, 2, 1.0), (5, Mode.EVAL, 2, 0.5),
    ])  # fmt: skip
    verdict = run(rule(num_steps="1"), saved)
    assert (verdict.step, verdict.evidence[0].previous_step) == (5, 3)


def test_a_configured_mode_is_the_only_one_read_and_counts_its_own_steps() -> None:
    saved = modes([
        (0, Mode.TRAIN, 0, 1.0), (10, Mode.EVAL, 0, 1.0), (11, Mode.TRAIN, 1, 0.5),
        (20, Mode.EVAL, 1, 0.1), (21, Mode.TRAIN, 2, 0.5),
    ])  # fmt: skip
    verdict = run(rule(num_steps="1", mode="train"), saved)
    assert (verdict.step, verdict.evidence[0].previous_step) == (21, 11)


def test_mode_global_reads_every_mode_at_global_steps() -> None:
    saved = modes([(0, Mode.TRAIN, 0, 1.0), (1, Mode.EVAL, 0, 1.0)])
    verdict = run(rule(num_steps="1", mode="GLOBAL"), saved)
    assert (verdict.step, verdict.evidence[0].previous_step) == (1, 0)


@pytest.mark.parametrize(
    ("parameters", "saved", "reason", "word"),
    [
        ({}, [], "nothing_saved", "no step"),
        ({"num_steps": "10"}, losses({0: 1.0}), "too_few_steps", "10"),
        ({"num_steps": "10"}, losses({0: 1.0, 9: 1.0}), "too_few_steps", "10"),
        ({"collection_names": "metrix"}, [(0, {"other": 1.0})], "no_such_collection", "metrix"),
        ({"tensor_regex": "nosuch"}, [(0, {"other": 1.0})], "no_tensor_matches", "none"),
        ({}, [(0, {"train-error": np.ones(2)})], "no_scalar", "several"),
        ({"mode": "EVAL"}, losses({0: 1.0, 10: 1.0}), "no_values_in_mode", "EVAL"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    parameters: dict[str, str], saved: list[tuple[int, dict[str, float]]], reason: str, word: str
) -> None:
    verdict = run(rule(**parameters), saved)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert word in verdict.explanation


def test_a_rule_that_has_not_fired_is_in_progress_while_the_job_runs() -> None:
    evaluation = rule(num_steps="1")
    assert evaluation.verdict(ended=False).status is Status.IN_PROGRESS
    evaluation.observe(Step(0), {"train-error": 1.0})
    evaluation.observe(Step(1), {"train-error": 0.5})
    assert evaluation.verdict(ended=False) == Verdict(
        Status.IN_PROGRESS, step=1, steps_checked=1, tensors=("train-error",)
    )


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("num_steps", "0", "a whole number of at least 1"),
        ("num_steps", "2.5", "a whole number of at least 1"),
        ("diff_percent", "0", "a number above 0 and below 100"),
        ("diff_percent", "100", "a number above 0 and below 100"),
        ("diff_percent", "nan", "a number above 0 and below 100"),
        ("increase_threshold_percent", "-1", "a number above 0 and below 100"),
        ("mode", "PREDICT", "one of EVAL, TRAIN, GLOBAL"),
        ("use_losses_collection", "maybe", "True or False"),
        ("tensor_regex", "(", "regular expressions separated by commas"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(rules.ParameterError) as refused:
        rule(**{name: text})
    assert str(refused.value) == f"LossNotDecreasing: {name} must be {valid}, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        rules.ParameterError, match=r"no parameter 'num_step' \(did you mean num_steps\?\); it has "
    ) as e:
        rule(num_step="3")
    assert all(name in str(e.value) for name in ("collection_names", "diff_percent", "mode"))


values = st.floats(allow_nan=True, allow_infinity=True, width=32)
step_modes = st.sampled_from([Mode.GLOBAL, Mode.TRAIN, Mode.EVAL])
saved_steps = st.lists(
    st.tuples(
        st.integers(1, 5),
        step_modes,
        st.dictionaries(
            st.sampled_from(["train-error", "validation-error", "train-auc", "noise"]),
            st.one_of(st.floats(0.1, 1.0), values, st.just(np.ones(2))),
        ),
    ),
    max_size=25,
)


@given(saved_steps, st.sets(st.integers(0, 25)), st.integers(1, 6), st.sampled_from(["", "TRAIN", "GLOBAL"]))
def test_a_rule_restored_from_its_state_continues_as_if_it_had_never_stopped(
    gaps: list[tuple[int, Mode, dict[str, float]]], restarts: set[int], num_steps: int, mode: str
) -> None:
    parameters = {"num_steps": str(num_steps), "diff_percent": "20", "mode": mode}
    whole, broken = rule(**parameters), rule(**parameters)
    number = 0
    for index, (gap, step_mode, tensors) in enumerate(gaps):
        if index in restarts:
            state = json.loads(json.dumps(broken.state()))
            broken = rule(**parameters)
            broken.restore(state)
        number += gap
        step = Step(number, step_mode, number // 2)
        expected = whole.observe(step, tensors)
        assert repr(broken.observe(step, tensors)) == repr(
            expected
        )  # compared by repr because NaN is not equal to itself
        assert repr(broken.state()) == repr(whole.state())
        assert repr(broken.verdict(ended=True)) == repr(whole.verdict(ended=True))
        if expected:
            break


def test_the_state_of_a_rule_does_not_grow_with_the_job() -> None:
    evaluation = rule(num_steps="5", diff_percent="0.1")
    sizes = []
    for step in range(2000):
        evaluation.observe(Step(step), {"train-error": 1e6 * 0.99**step})
        sizes.append(len(json.dumps(evaluation.state())))
    assert max(sizes) < 500
