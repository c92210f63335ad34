"""`start_step` and `end_step`, which SageMaker's rule container takes for every rule."""

from __future__ import annotations

import inspect
import json

import pytest

import rules
from rules import Collection, ParameterError, Status, Step

NEEDED = {
    "SimilarAcrossRuns": {"other_trials": "last-week"},
    "UnchangedTensor": {"tensor_regex": "."},
    "AllZero": {"tensor_regex": "."},
    "TensorVariance": {"tensor_regex": "."},
}
LOSSES = {"losses": Collection(include_regex=("loss",))}


@pytest.mark.parametrize("name", sorted(rules.RULES))
def test_every_rule_takes_them(name: str) -> None:
    rules.load(name, {**NEEDED.get(name, {}), "start_step": "10", "end_step": "20"})
    rules.load(name, {**NEEDED.get(name, {}), "start_step": "", "end_step": ""})
    with pytest.raises(ParameterError, match="start_step must be a whole number"):
        rules.load(name, {**NEEDED.get(name, {}), "start_step": "soon"})


@pytest.mark.parametrize("end_step", ["0", "5", "4"])
def test_a_range_without_steps_is_refused(end_step: str) -> None:
    with pytest.raises(ParameterError, match="end_step"):
        rules.load("ExplodingTensor", {"start_step": "5", "end_step": end_step})


@pytest.mark.parametrize(
    ("parameters", "fires_at"),
    [
        ({}, [0]),
        ({"start_step": "3"}, [3]),
        ({"end_step": "3"}, [0]),
        ({"start_step": "3", "end_step": "4"}, [3]),
        ({"start_step": "8"}, []),
    ],
)
def test_only_steps_from_start_step_on_and_before_end_step_are_judged(
    parameters: dict[str, str], fires_at: list[int]
) -> None:
    rule = rules.load("ExplodingTensor", parameters)
    fired = (rule.observe(Step(step), {"w": float("nan")}) for step in range(8))
    assert [verdict.step for verdict in fired if verdict][:1] == fires_at


def test_steps_are_counted_globally_whatever_their_mode() -> None:
    rule = rules.load("ExplodingTensor", {"start_step": "5"})
    assert rule.observe(Step(4, rules.Mode.EVAL, 9), {"w": float("inf")}) is None
    assert rule.observe(Step(5, rules.Mode.EVAL, 1), {"w": float("inf")})


def test_a_step_is_compared_with_one_from_before_start_step() -> None:
    rule = rules.load("LossNotDecreasing", {"num_steps": "2", "start_step": "4"})
    rule.learn(LOSSES)
    assert rule.observe(Step(0), {"loss": 0.1}) is None
    assert rule.observe(Step(2), {"loss": 0.5}) is None, "it rose, but is not judged"
    verdict = rule.observe(Step(4), {"loss": 9.0})
    assert verdict
    assert (verdict.reason, verdict.evidence[0].previous_step, verdict.steps_checked) == ("increase", 2, 1)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"start_step": "100"}, "no step from step 100 on (start_step) was saved"),
        ({"end_step": "3"}, "no step before step 3 (end_step) was saved"),
        (
            {"start_step": "100", "end_step": "200"},
            "no step from step 100 (start_step) to before step 200 (end_step) was saved",
        ),
    ],
)
def test_a_rule_whose_steps_were_not_saved_says_so_also_after_a_restart(
    parameters: dict[str, str], words: str
) -> None:
    rule = rules.load("ExplodingTensor", parameters)
    rule.observe(Step(50), {"w": 1.0})
    restored = rules.load("ExplodingTensor", parameters)
    restored.restore(json.loads(json.dumps(rule.state())))
    for one in (rule, restored):
        verdict = one.verdict(ended=True)
        assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "no_step_in_range")
        assert verdict.explanation == words


def test_a_successor_keeps_them() -> None:
    rule = rules.load("ExplodingTensor", {"end_step": "5"})
    verdict = rule.observe(Step(4), {"w": float("nan")})
    assert verdict
    successor = rule.successor(verdict)
    assert successor
    assert successor.observe(Step(5), {"w": float("nan")}) is None


def test_no_builtin_rule_but_overfit_has_parameters_of_these_names() -> None:
    own = {
        name
        for name, rule in rules.RULES.items()
        if "start_step" in inspect.getmodule(rule).Parameters.__dataclass_fields__  # type: ignore[union-attr]
    }
    assert own == {"Overfit"}
