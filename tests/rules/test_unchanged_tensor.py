"""UnchangedTensor as documented."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import Collection, Mode, ParameterError, Status, Step
from rules.base import Value
from rules.unchanged_tensor import UnchangedTensor
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

COLLECTIONS = {"weights": Collection(tensor_names=frozenset({"dense.weight"}))}


def rule(**parameters: str) -> UnchangedTensor:
    evaluation = UnchangedTensor({"tensor_regex": ".", **parameters})
    evaluation.learn(COLLECTIONS)
    return evaluation


def saved(values: Iterable[Value], every: int = 10) -> Saved:
    return [(Step(index * every), {"w": value}) for index, value in enumerate(values)]


def test_a_tensor_that_stays_the_same_for_num_steps_saved_steps_fires() -> None:
    verdict = run(rule(), saved([np.ones(4)] * 3))
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "unchanged", 20)
    assert verdict.explanation == (
        "w is the same at 3 saved steps, 0 to 20: its greatest change, 0, is within the tolerance of 1e-05"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.previous_step, row.previous_value) == ("w", 20, 1, 0, 1)
    assert row.threshold == row.missed_by == pytest.approx(1e-5 + 1e-8)


def test_a_tensor_that_changes_once_in_num_steps_is_not_an_issue() -> None:
    verdict = run(rule(), saved([np.ones(4), np.ones(4), np.zeros(4), np.zeros(4), np.ones(4)]))
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 3)


def test_the_newest_value_is_compared_with_each_of_the_earlier_ones() -> None:
    back_and_forth: list[Value] = [1.0, 2.0, 1.0, 2.0, 1.0]
    assert run(rule(num_steps="3"), saved(back_and_forth)).status is Status.NO_ISSUES_FOUND
    creeping = [1.0, 1.4, 1.8]  # neighbours are within 0.5, the first and the last are not
    assert run(rule(atol="0.5", rtol="0"), saved(creeping)).status is Status.NO_ISSUES_FOUND
    around = [1.4, 1.8, 1.6]  # all are within 0.5 of the newest
    assert run(rule(atol="0.5", rtol="0"), saved(around)).status is Status.ISSUES_FOUND


@pytest.mark.parametrize("num_steps", [2, 5])
def test_num_steps_is_the_number_of_values_that_must_be_the_same(num_steps: int) -> None:
    verdict = run(rule(num_steps=str(num_steps)), saved([np.ones(2)] * 10))
    assert verdict.step == 10 * (num_steps - 1)


def test_only_steps_that_save_the_tensor_are_counted() -> None:
    steps: Saved = [
        (Step(0), {"w": np.ones(2)}),
        (Step(1), {"v": np.ones(2)}),
        (Step(50, Mode.EVAL, 0), {"w": np.ones(2)}),
        (Step(51), {}),
        (Step(77), {"w": np.ones(2)}),
    ]
    assert run(rule(), steps).step == 77


def test_a_change_counts_only_beyond_the_exact_tolerance() -> None:
    within = {"rtol": "0", "atol": "0.25", "num_steps": "2"}
    assert run(rule(**within), saved([1.0, 1.25])).status is Status.ISSUES_FOUND
    beyond = math.nextafter(1.25, 2)
    assert run(rule(**within), saved([1.0, beyond])).status is Status.NO_ISSUES_FOUND


def test_rtol_is_relative_to_the_earlier_value() -> None:
    parameters = {"rtol": "0.5", "atol": "0", "num_steps": "2"}
    assert run(rule(**parameters), saved([2.0, 1.0])).status is Status.ISSUES_FOUND
    assert run(rule(**parameters), saved([1.0, 2.0])).status is Status.NO_ISSUES_FOUND


def test_one_element_that_changes_is_enough() -> None:
    before, now = np.zeros(1000), np.zeros(1000)
    now[500] = 1e-3
    assert run(rule(num_steps="2"), saved([before, now])).status is Status.NO_ISSUES_FOUND


def test_a_change_of_shape_is_a_change() -> None:
    values: list[Value] = [np.ones((2, 2)), np.ones(4), 1.0, np.ones((2, 2))]
    assert run(rule(num_steps="2"), saved(values)).status is Status.NO_ISSUES_FOUND


def test_nan_never_counts_as_unchanged_and_the_verdict_says_where_it_was() -> None:
    verdict = run(rule(), saved([np.array([1.0, math.nan])] * 5))
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert verdict.notes == ("with NaN, and so never unchanged there (equal_nan is False): w",)


@pytest.mark.parametrize("value", [math.nan, np.array([1.0, math.nan])])
def test_with_equal_nan_it_counts_as_unchanged(value: Value) -> None:
    verdict = run(rule(equal_nan="True"), saved([value] * 3))
    assert (verdict.status, verdict.notes) == (Status.ISSUES_FOUND, ())


@pytest.mark.parametrize("value", [math.inf, np.array([-math.inf, 1.0])])
def test_infinity_counts_as_unchanged(value: Value) -> None:
    assert run(rule(), saved([value] * 3)).status is Status.ISSUES_FOUND


def test_the_tensors_of_the_collections_and_of_the_regexes_are_read() -> None:
    steps: Saved = [(Step(n), {"dense.weight": float(n), "bias": float(n), "other": 1.0}) for n in range(5)]
    verdict = run(rule(collection_names="weights", tensor_regex="bias"), steps)
    assert (verdict.status, verdict.tensors) == (Status.NO_ISSUES_FOUND, ("bias", "dense.weight"))


def test_earlier_values_are_kept_as_copies() -> None:
    evaluation, file = rule(num_steps="2"), np.zeros(1000)
    evaluation.observe(Step(0), {"w": file[:4]})
    file[:] = 1
    assert evaluation.observe(Step(1), {"w": np.ones(4)}) is None


def test_large_values_are_read_again_and_single_numbers_are_in_the_state() -> None:
    evaluation = rule(num_steps="3")
    for number in range(5):
        evaluation.observe(Step(number), {"w": np.full(10_000, number), "loss": float(number)})
    assert evaluation.recalls() == (3, 4)
    state = json.dumps(evaluation.state())
    assert len(state) < 500
    only_scalars = rule(num_steps="3")
    only_scalars.observe(Step(0), {"loss": 1.0})
    assert only_scalars.recalls() == ()


def test_an_earlier_value_that_cannot_be_read_again_is_not_compared() -> None:
    evaluation = rule(num_steps="2")
    evaluation.observe(Step(0), {"w": np.ones(4)})
    restored = rule(num_steps="2")
    restored.restore(json.loads(json.dumps(evaluation.state())))
    assert restored.observe(Step(1), {"w": np.ones(4)}) is None
    assert restored.observe(Step(2), {"w": np.ones(4)}) is not None


@pytest.mark.parametrize(
    ("parameters", "steps", "reason", "word"),
    [
        ({}, [], "nothing_saved", "no step"),
        ({}, saved([1.0]), "too_few_steps", "too few steps"),
        ({"num_steps": "5"}, saved([1.0] * 4), "too_few_steps", "too few steps"),
        ({"collection_names": "wieghts", "tensor_regex": ""}, saved([1.0]), "no_such_collection", "wieghts"),
        ({"tensor_regex": "nosuch"}, saved([1.0] * 5), "no_tensor_matches", "none"),
        ({}, saved([np.array(["text"])] * 5), "no_numbers", "no numbers"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    parameters: dict[str, str], steps: Saved, reason: str, word: str
) -> None:
    verdict = run(rule(**parameters), steps)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert word in verdict.explanation


def test_the_defaults_are_those_that_aws_documents() -> None:
    defaults = rule().parameters
    assert (defaults.num_steps, defaults.rtol, defaults.atol, defaults.equal_nan) == (3, 1e-5, 1e-8, False)


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("num_steps", "1", "a whole number of at least 2"),
        ("rtol", "-1", "a number of at least 0"),
        ("atol", "nan", "a number of at least 0"),
        ("equal_nan", "maybe", "True or False"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rule(**{name: text})
    assert str(refused.value) == f"UnchangedTensor: {name} must be {valid}, not {text!r}"


def test_collection_names_or_tensor_regex_is_required() -> None:
    with pytest.raises(ParameterError, match="UnchangedTensor needs collection_names or tensor_regex"):
        UnchangedTensor({"num_steps": "3"})


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    known = "it has collection_names, tensor_regex, num_steps, rtol, atol, equal_nan"
    with pytest.raises(ParameterError, match=known):
        rule(tolerance="1")


elements = st.sampled_from([0.0, 1.0, 1.000001, math.nan])
values = st.one_of(elements, st.lists(elements, max_size=3).map(np.array), st.just(np.array(["text"])))
names = st.sampled_from(["a", "b", "smdebug/reductions/min/a"])


@given(
    st.lists(st.dictionaries(names, values), max_size=15),
    st.sets(st.integers(0, 15)),
    st.integers(2, 4),
    st.booleans(),
)
def test_a_rule_restored_from_its_state_continues_as_if_it_had_never_stopped(
    tensors: list[dict[str, Value]], restarts: set[int], num_steps: int, equal_nan: bool
) -> None:
    steps = [(Step(number), at) for number, at in enumerate(tensors)]
    parameters = {"num_steps": str(num_steps), "equal_nan": str(equal_nan)}
    assert_restarts_keep_the_verdict(lambda: rule(**parameters), steps, restarts)
