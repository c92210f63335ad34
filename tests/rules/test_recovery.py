"""When what a rule found counts as recovered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rules
from rules import Collection, Mode, Recovered, Rule, Step
from rules.base import Value

COLLECTIONS = {
    "losses": Collection(include_regex=("loss",)),
    "gradients": Collection(include_regex=("gradient",)),
    "labels": Collection(include_regex=("labels",)),
    "predictions": Collection(include_regex=("predictions",)),
}

Saved = Sequence[tuple[Step, Mapping[str, Value]]]


def made(name: str, **parameters: str) -> Rule:
    rule = rules.load(name, parameters)
    rule.learn(COLLECTIONS)
    return rule


def history(rule: Rule, saved: Saved, restarts: Iterable[int] = ()) -> list[tuple[str, int | None, str]]:
    """What happened, in order, when the rule and its successors saw these steps: what, step, explanation.

    After each of the positions `restarts`, the rule is a new object with the state of the old one.
    """
    happened: list[tuple[str, int | None, str]] = []
    for position, (step, tensors) in enumerate(saved):
        if verdict := rule.observe(step, tensors):
            happened.append(("fired", verdict.step, verdict.explanation))
            successor = rule.successor(verdict)
            if successor is None:
                happened.append(("ended", step.number, ""))
                return happened
            successor.learn(COLLECTIONS)
            rule = successor
        elif recovered := rule.recovered():
            happened.append(("recovered", recovered.step, recovered.explanation))
        if position in set(restarts):
            rule = restarted(rule, saved)
    return happened


def restarted(rule: Rule, saved: Saved) -> Rule:
    again = type(rule)(rule._given)
    again.restore(json.loads(json.dumps(rule.state())))
    again.learn(COLLECTIONS)
    by_number = {step.number: (step, tensors) for step, tensors in saved}
    for number in again.recalls():
        again.recall(*by_number[number])
    return again


def recoveries(rule: Rule, saved: Saved) -> list[tuple[int | None, str]]:
    return [(step, said) for what, step, said in history(rule, saved) if what == "recovered"]


def steps(name: str, *values: Any) -> Saved:
    """One tensor, saved at each step from 0 on."""
    return [(Step(number), {name: value}) for number, value in enumerate(values)]


def one_recovery(rule: Rule, saved: Saved) -> tuple[int | None, str]:
    (recovery,) = recoveries(rule, saved)
    return recovery


def test_a_loss_has_recovered_when_it_falls_over_the_next_num_steps():
    saved = [(Step(number), {"loss": loss}) for number, loss in ((130, 0.61), (140, 0.61), (145, 0.5))]
    rule = made("LossNotDecreasing", num_steps="10")

    assert recoveries(rule, saved) == []

    rule = made("LossNotDecreasing", num_steps="10")
    assert one_recovery(rule, [*saved, (Step(150), {"loss": 0.42})]) == (
        150,
        "The loss falls again: loss 0.61 at step 140, 0.42 at step 150",
    )


def test_a_loss_that_is_still_flat_is_the_same_issue_with_the_numbers_of_its_beginning():
    rule = made("LossNotDecreasing", num_steps="1")
    happened = history(rule, steps("loss", 3.0, 3.0, 3.0, 2.0))

    assert [(what, step) for what, step, _ in happened] == [("fired", 1), ("fired", 2), ("recovered", 3)]
    assert happened[-1][2] == "The loss falls again: loss 3 at step 1, 2 at step 3"


def test_each_loss_that_fired_has_to_fall_and_not_only_the_others():
    saved: Saved = [
        (Step(0), {"a_loss": 3.0, "b_loss": 3.0}),
        (Step(1), {"a_loss": 3.0, "b_loss": 2.0}),
        (Step(2), {"b_loss": 1.0}),
        (Step(3), {"a_loss": 2.0, "b_loss": 0.5}),
    ]
    assert one_recovery(made("LossNotDecreasing", num_steps="1"), saved)[0] == 3


def test_values_of_training_do_not_show_that_the_validation_loss_recovers():
    def at(number: int, mode: Mode, loss: float) -> tuple[Step, Mapping[str, Value]]:
        return Step(number, mode, number), {"loss": loss}

    saved = [
        at(0, Mode.EVAL, 3.0),
        at(1, Mode.EVAL, 3.0),
        *(at(number, Mode.TRAIN, 1 / number) for number in range(2, 9)),
    ]
    rule = made("LossNotDecreasing", num_steps="1")
    assert recoveries(rule, saved) == []
    rule = made("LossNotDecreasing", num_steps="1")
    assert one_recovery(rule, [*saved, at(9, Mode.EVAL, 2.0)])[0] == 9


def test_overfit_has_recovered_after_patience_evaluations_with_a_small_ratio():
    def losses(*validation: float) -> Saved:
        return [
            (Step(number), {"train-loss": 1.0, "validation-loss": value})
            for number, value in enumerate(validation)
        ]

    rule = made("Overfit", patience="2")
    assert one_recovery(rule, losses(2.0, 2.0, 1.0, 1.0, 1.0)) == (
        3,
        "The validation loss is near the training loss again: "
        "the ratio of validation-loss 1 at step 1, 0 at step 3",
    )
    # The means run over the values since it fired: (1 + 1.3) / 2 is above 1.1.
    assert recoveries(made("Overfit", patience="2"), losses(2.0, 2.0, 1.0, 1.3)) == []


def test_overtraining_has_recovered_with_an_optimum_better_than_the_one_before_it_fired():
    rule = made("Overtraining", patience_validation="2")
    saved = steps("validation-loss", 0.5, 0.6, 0.7, 0.6, 0.55, 0.4)

    happened = history(rule, saved)

    assert [(what, step) for what, step, _ in happened] == [("fired", 2), ("fired", 4), ("recovered", 5)]
    assert happened[-1][2] == (
        "The validation loss has a new optimum: validation-loss 0.7 at step 2, 0.4 at step 5"
    )


def test_an_unchanged_tensor_has_recovered_when_it_differs_among_num_steps_saved_steps():
    rule = made("UnchangedTensor", tensor_regex="weight", num_steps="2")
    assert one_recovery(rule, steps("weight", 1.0, 1.0, 1.0, 1.5)) == (
        3,
        "The tensors change again: the change of weight 0 at step 1, 0.5 at step 3",
    )


def test_large_tensors_that_change_again_have_recovered():
    rule = made("UnchangedTensor", tensor_regex="weight", num_steps="2")
    same, other = np.ones(4), np.array([1.0, 1.0, 4.0, np.inf])
    assert one_recovery(rule, steps("weight", same, same, same, other))[1].endswith("3 at step 3")


THREE_STEPS: dict[str, tuple[dict[str, str], str, Any, Any, str]] = {
    "AllZero": (
        {"tensor_regex": "w"},
        "w",
        np.zeros(4),
        np.array([0.0, 1, 1, 1]),
        "The tensors are no longer zero: w 100 % zeros at step 1, 25 % zeros at step 5",
    ),
    "TensorVariance": (
        {"tensor_regex": "w", "max_threshold": "3"},
        "w",
        np.array([0.0, 4.0]),
        np.array([0.0, 2.0]),
        "The variance is within its bounds again: w 4 at step 1, 1 at step 5",
    ),
    "DeadRelu": (
        {"tensor_regex": "w"},
        "w",
        np.zeros((2, 4)),
        np.ones((2, 4)),
        "The ReLUs are active again: w 100 % dead at step 1, 0 % dead at step 5",
    ),
    "SaturatedActivation": (
        {"tensor_regex": "tanh"},
        "tanh",
        np.full((2, 4), 99.0),
        np.zeros((2, 4)),
        "The activations are no longer saturated: tanh 100 % saturated at step 1, 0 % saturated at step 5",
    ),
    "ExplodingTensor": (
        {},
        "w",
        np.array([1.0, np.nan]),
        np.array([1.0, -2.0]),
        "The tensors are finite again: w nan at step 1, 2 at step 5",
    ),
    "VanishingGradient": (
        {},
        "gradient",
        np.full(3, 1e-9),
        np.full(3, 0.5),
        "The gradients no longer vanish: gradient 1e-09 at step 1, 0.5 at step 5",
    ),
    "FeatureImportanceOverweight": (
        {"nfeatures": "1"},
        "feature_importance/weight/f0",
        0.9,
        0.5,
        "More features decide again: feature_importance/weight 0.9 at step 1, 0.5 at step 5",
    ),
}


@pytest.mark.parametrize("name", THREE_STEPS)
def test_a_rule_that_judges_each_step_by_itself_has_recovered_after_three_good_ones(name: str):
    parameters, tensor, bad, good, sentence = THREE_STEPS[name]

    rule = made(name, **parameters)
    assert one_recovery(rule, steps(tensor, good, bad, bad, good, good, good)) == (5, sentence)
    rule = made(name, **parameters)
    assert recoveries(rule, steps(tensor, good, bad, good, good, bad, good, good)) == []


def classes(*predictions: Sequence[int]) -> Saved:
    return [
        (Step(number), {"labels": np.array([0, 0, 1, 1]), "predictions": np.array(each)})
        for number, each in enumerate(predictions)
    ]


def test_confused_classes_have_recovered_after_three_good_steps():
    wrong, right = (0, 1, 1, 1), (0, 0, 1, 1)
    assert one_recovery(made("Confusion"), classes(wrong, right, right, right)) == (
        3,
        "The classes are told apart again: the least share on the diagonal (min_diag) 0.6667 at step 0, "
        "1 at step 3",
    )


def test_cells_off_the_diagonal_have_recovered_after_three_good_steps():
    rule = made("Confusion", min_diag="0")
    wrong, right = (0, 1, 1, 1), (0, 0, 1, 1)
    assert one_recovery(rule, classes(wrong, right, right, right))[1].startswith(
        "The classes are told apart again: the largest share off the diagonal (max_off_diag) 0.3333 at step 0"
    )


def test_mispredictions_have_recovered_when_none_are_left_among_the_next_samples():
    wrong, right = (1, 1, 1, 1), (0, 0, 1, 1)
    rule = made("ClassImbalance", samples="8")
    assert one_recovery(rule, classes(wrong, wrong, right, right)) == (
        3,
        "No class is mostly mispredicted any more: the largest share of a class in predictions 1 at step 1, "
        "0 at step 3",
    )


def test_an_imbalance_of_the_input_ends_the_evaluation():
    rule = made("ClassImbalance", samples="1", threshold_imbalance="2")
    saved = steps("labels", np.array([0, 0, 0, 1]))
    assert [what for what, _, _ in history(rule, saved)] == ["fired", "ended"]


def test_a_stalled_training_has_recovered_when_the_next_step_is_saved():
    rule = made("StalledTrainingRule", threshold="60")
    rule.observe(Step(7), {})
    rule.training_began(0.0)
    rule.tick(100.0)
    verdict = rule.tick(170.0)
    assert verdict is not None

    successor = rule.successor(verdict)

    assert successor is not None
    successor.training_began(0.0)
    assert successor.tick(200.0) is None  # the wait counts from the time it fired
    assert successor.recovered() is None
    successor.observe(Step(8), {})
    successor.tick(210.0)
    assert successor.recovered() == Recovered(
        8, "Training saves again: waited 70 s at step 7, 40 s at step 8"
    )
    assert successor.recovered() is None


def test_a_training_that_had_saved_nothing_recovers_with_its_first_step():
    rule = made("StalledTrainingRule", threshold="60")
    rule.training_began(0.0)
    verdict = rule.tick(60.0)
    assert verdict is not None
    successor = rule.successor(verdict)
    assert successor is not None
    successor.observe(Step(0), {})
    successor.tick(65.0)
    assert successor.recovered() == Recovered(
        0, "Training saves again: waited 60 s before the first saved step, 5 s at step 0"
    )


FINAL = {
    "CheckInputImages": {},
    "NLPSequenceRatio": {},
    "PoorWeightInitialization": {},
    "SimilarAcrossRuns": {"other_trials": "before"},
    "TreeDepth": {},
    "WeightUpdateRatio": {},
}


@pytest.mark.parametrize("name", FINAL)
def test_some_rules_cannot_recover(name: str):
    assert made(name, **FINAL[name]).checks_to_recover is None


def test_every_other_built_in_rule_recovers():
    needed = {name: {"tensor_regex": "w"} for name in ("AllZero", "TensorVariance", "UnchangedTensor")}
    others = set(rules.RULES) - set(FINAL)
    assert all(made(name, **needed.get(name, {})).checks_to_recover for name in others)


class Silent(Rule):
    """A rule of another distribution, which says nothing about recovering."""

    name = "Silent"

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.selections = (rules.Selection(regexes=(".*",)),)

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[rules.Breach]:
        return [rules.Breach("bad", "It is bad", rules.Evidence("w", step.number, 1.0))]


def test_a_rule_that_does_not_say_how_it_recovers_ends_when_it_fires():
    assert [what for what, _, _ in history(Silent({}), steps("w", 1.0))] == ["fired", "ended"]


losses = st.lists(st.sampled_from([1.0, 1.0, 0.9, 0.5, 2.0, 0.0]), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("LossNotDecreasing", {"num_steps": "2"}),
        ("Overfit", {"patience": "2"}),
        ("Overtraining", {"patience_validation": "2"}),
        ("UnchangedTensor", {"tensor_regex": "loss", "num_steps": "2"}),
        ("AllZero", {"tensor_regex": "loss"}),
        ("TensorVariance", {"tensor_regex": "weight", "max_threshold": "0.5"}),
        ("UnchangedTensor", {"tensor_regex": "weight", "num_steps": "3"}),
    ],
)
@given(data=st.data())
def test_restarts_change_nothing(name: str, parameters: dict[str, str], data: st.DataObject):
    values = data.draw(losses)
    restarts = data.draw(st.sets(st.integers(0, len(values) - 1)))
    saved: Saved = [
        (Step(number), {"train-loss": 1.0, "validation-loss": value, "weight": np.array([0.0, value])})
        for number, value in enumerate(values)
    ]
    assert history(made(name, **parameters), saved, restarts) == history(made(name, **parameters), saved)
