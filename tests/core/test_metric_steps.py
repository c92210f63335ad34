"""A job's metrics as steps for rules."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rules
from rules import Mode, Rule, Status, Verdict
from tests.jobs import NOON, a_job
from watcher.aws.metrics import Average
from watcher.evaluation.metric_steps import collections, modes, names, note, step_at, steps, time_of
from watcher.model import FinalMetric

XGBOOST = ("train:error", "validation:error", "train:auc", "validation:auc")


def averages(*values: float, since: datetime = NOON) -> list[Average]:
    """One average per minute."""
    return [Average(since + timedelta(minutes=minute), value) for minute, value in enumerate(values)]


def run(rule: Rule, series: dict[str, list[Average]]) -> Verdict:
    rule.learn(collections(list(series)))
    for one in steps(series, modes(list(series)), NOON):
        if verdict := rule.observe(rules.Step(one.step, Mode(one.mode), one.mode_step), one.tensors):
            return verdict
    return rule.verdict(ended=True)


def test_a_jobs_metrics_are_those_it_defines_and_those_already_seen():
    seen = FinalMetric("train:error", 0.5, NOON), FinalMetric("extra", 1.0, NOON)
    assert names(a_job(metrics=("train:error", "loss"), final_metrics=seen)) == (
        "train:error",
        "loss",
        "extra",
    )


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (("train:error", "validation:error"), (Mode.TRAIN, Mode.EVAL)),
        (("valid_mae", "Test:RMSE", "eval/loss"), (Mode.EVAL, Mode.EVAL, Mode.EVAL)),
        (("throughput", "trainable_parameters"), (Mode.GLOBAL, Mode.GLOBAL)),
        (("loss", "val_loss", "accuracy"), (Mode.TRAIN, Mode.EVAL, Mode.GLOBAL)),
        (("loss", "train_loss", "val_loss"), (Mode.GLOBAL, Mode.TRAIN, Mode.EVAL)),
    ],
)
def test_the_name_of_a_metric_gives_its_mode(metrics: tuple[str, ...], expected: tuple[Mode, ...]):
    assert tuple(modes(metrics).values()) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("train:loss", "loss", "validation:error", "val_RMSE", "test:mean_wQuantileLoss", "perplexity"),
        *("train:mlogloss", "eval/nll", "train:objective_loss", "validation:cross_entropy"),
    ],
)
def test_a_metric_that_ought_to_fall_is_a_loss(name: str):
    assert name in collections([name])["losses"].tensor_names


@pytest.mark.parametrize(
    "name", ["throughput", "epoch", "validation:auc", "learning_rate", "train:accuracy", "ssdlite_map", "f1"]
)
def test_a_metric_that_need_not_fall_is_not_a_loss(name: str):
    made = collections([name])
    assert not made["losses"].tensor_names
    assert made["metrics"].tensor_names == {name}


def test_a_step_is_the_minute_since_training_began():
    began = NOON + timedelta(seconds=40)
    assert step_at(NOON + timedelta(seconds=59), began) == 0
    assert step_at(NOON + timedelta(seconds=60), began) == 1
    assert step_at(NOON - timedelta(minutes=3), began) == 0  # for a period that started before the job


@given(st.integers(0, 100_000), st.integers(0, 59))
def test_a_step_and_its_time_belong_together(step: int, second: int):
    began = NOON + timedelta(seconds=second)
    assert step_at(time_of(step, began), began) == step


def test_the_metrics_of_a_minute_come_mode_by_mode():
    series = {"validation:loss": averages(3, 4), "train:loss": averages(1, 2), "rate": averages(9)}
    found = [(one.step, one.mode, dict(one.tensors)) for one in steps(series, modes(list(series)), NOON)]
    assert found == [
        (0, "TRAIN", {"train:loss": 1}),
        (0, "EVAL", {"validation:loss": 3}),
        (0, "GLOBAL", {"rate": 9}),
        (1, "TRAIN", {"train:loss": 2}),
        (1, "EVAL", {"validation:loss": 4}),
    ]


@given(st.dictionaries(st.sampled_from(XGBOOST), st.sets(st.integers(0, 50))))
def test_steps_ascend_and_contain_each_value_once(minutes: dict[str, set[int]]):
    series = {
        name: [Average(time_of(minute, NOON), float(minute)) for minute in sorted(given)]
        for name, given in minutes.items()
    }
    made = list(steps(series, modes(XGBOOST), NOON))
    assert [one.step for one in made] == sorted(one.step for one in made)
    assert len({(one.step, one.mode) for one in made}) == len(made)
    held = [(name, one.step) for one in made for name in one.tensors]
    assert sorted(held) == sorted((name, minute) for name, given in minutes.items() for minute in given)


@pytest.mark.parametrize("name", ["train:error", "train:loss", "loss", "validation:rmse"])
def test_a_loss_that_stalls_is_found_without_parameters(name: str):
    verdict = run(rules.load("LossNotDecreasing", {}), {name: averages(*[0.5] * 11)})
    assert (verdict.status, verdict.step) == (Status.ISSUES_FOUND, 10)
    assert verdict.explanation == (
        f"{name} did not change between step 0 and step 10; the rule wants a fall of 0.1 %"
    )


def test_a_loss_that_falls_is_not_an_issue():
    falling = averages(*(1 / (minute + 1) for minute in range(30)))
    series = {"train:loss": falling, "throughput": averages(*[100.0] * 30)}
    assert run(rules.load("LossNotDecreasing", {}), series).status is Status.NO_ISSUES_FOUND


def test_overfitting_compares_training_and_validation_of_the_same_metric():
    series = {
        "train:error": averages(0.5, 0.1, 0.1),
        "validation:error": averages(0.5, 0.5, 0.5),
        "train:loss": averages(3, 3, 3),
    }
    verdict = run(rules.load("Overfit", {}), series)
    assert verdict.status is Status.ISSUES_FOUND
    assert [row.tensor for row in verdict.evidence] == ["validation:error"]
    assert verdict.tensors == ("train:error", "train:loss", "validation:error")


def test_overtraining_reads_keras_names():
    series = {"loss": averages(*(1 / (n + 1) for n in range(20))), "val_loss": averages(*[1.0] * 20)}
    verdict = run(rules.load("Overtraining", {"patience_validation": "5"}), series)
    assert [row.tensor for row in verdict.evidence] == ["val_loss"]
    assert "the training loss" in verdict.explanation


def test_the_note_says_what_a_step_is_and_what_a_rule_cannot_see():
    loss, nan = rules.load("LossNotDecreasing", {}), rules.load("ExplodingTensor", {})
    assert note(loss, 60) == "a step is a minute of training, its value CloudWatch's average over 60 s"
    assert note(nan, 300).endswith("average over 300 s, which is never NaN or infinite")
