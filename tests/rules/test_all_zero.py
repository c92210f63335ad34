"""AllZero as documented."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import Collection, ParameterError, Status, Step
from rules.all_zero import AllZero
from rules.base import Value
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

COLLECTIONS = {
    "trees": Collection(include_regex=("^trees/.*",)),
    "weights": Collection(tensor_names=frozenset({"dense.weight"})),
}


def rule(**parameters: str) -> AllZero:
    evaluation = AllZero(parameters or {"tensor_regex": "."})
    evaluation.learn(COLLECTIONS)
    return evaluation


def zeros(share: int, of: int = 100) -> Value:
    array = np.ones(of)
    array[:share] = 0
    return array.reshape(2, -1)


def once(**tensors: Value) -> Saved:
    return [(Step(4), tensors)]


def test_a_tensor_of_zeros_fires() -> None:
    verdict = run(rule(), once(w=zeros(100)))
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "zeros", 4)
    assert verdict.explanation == "100 % of w is zero at step 4 (100 of 100); the rule wants less than 100 %"
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.threshold, row.missed_by) == ("w", 4, 100, 100, 0)


def test_a_single_nonzero_element_is_enough_to_pass_by_default() -> None:
    verdict = run(rule(), once(w=zeros(99)))
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 1)


@pytest.mark.parametrize("size", [7, 49, 100, 300, 1000])
@pytest.mark.parametrize("share", [1, 7, 29, 57])
def test_a_share_of_exactly_the_threshold_fires_and_one_element_fewer_does_not(size: int, share: int) -> None:
    reached = -(-share * size // 100)  # rounded up
    parameters = {"tensor_regex": ".", "threshold": str(share)}
    exactly, fewer = np.ones(size), np.ones(size)
    exactly[:reached], fewer[: reached - 1] = 0, 0
    assert run(rule(**parameters), once(w=exactly)).status is Status.ISSUES_FOUND
    assert run(rule(**parameters), once(w=fewer)).status is Status.NO_ISSUES_FOUND


@pytest.mark.parametrize("value", [0.0, -0.0, 0, np.array([0.0]), np.zeros((), np.int64), np.zeros(3, bool)])
def test_a_zero_of_any_type_counts_as_zero(value: Value) -> None:
    assert run(rule(), once(loss=value)).status is Status.ISSUES_FOUND


@pytest.mark.parametrize("value", [1e-300, math.nan, math.inf, np.full(3, np.nan), np.array([0, np.nan])])
def test_other_values_do_not_count_as_zero(value: Value) -> None:
    assert run(rule(), once(loss=value)).status is Status.NO_ISSUES_FOUND


def test_the_tensors_of_the_collections_and_of_the_regexes_are_read() -> None:
    tensors = {"dense.weight": zeros(1), "conv.bias": zeros(1), "other": zeros(100)}
    verdict = run(rule(collection_names="weights", tensor_regex="bias$"), once(**tensors))
    assert (verdict.status, verdict.tensors) == (Status.NO_ISSUES_FOUND, ("conv.bias", "dense.weight"))


def test_the_verdict_lists_the_worst_of_many_tensors_that_fire() -> None:
    verdict = run(rule(tensor_regex=".", threshold="50"), once(**{f"w{n}": zeros(50 + n) for n in range(10)}))
    assert [row.tensor for row in verdict.evidence] == ["w9", "w8", "w7", "w6", "w5"]
    assert verdict.explanation.endswith("and 5 more like these")


def test_text_and_reductions_are_left_out_and_the_verdict_says_so() -> None:
    tensors = {
        "trees/ID": np.array(["0-0", "0-1"]),
        "trees/Cover": zeros(1),
        "smdebug/reductions/mean/trees/x": np.zeros(1),
    }
    verdict = run(rule(collection_names="trees", tensor_regex="x$"), once(**tensors))
    assert (verdict.status, verdict.tensors) == (Status.NO_ISSUES_FOUND, ("trees/Cover",))
    assert verdict.notes == (
        "left out, because they hold no numbers: trees/ID",
        "left out, because they are reductions: smdebug/reductions/mean/trees/x",
    )


@pytest.mark.parametrize(
    ("parameters", "saved", "reason", "word"),
    [
        ({}, [], "nothing_saved", "no step"),
        ({"collection_names": "wieghts"}, once(w=zeros(1)), "no_such_collection", "wieghts"),
        ({"tensor_regex": "nosuch"}, once(w=zeros(1)), "no_tensor_matches", "none"),
        ({}, once(w=np.array(["text"])), "no_numbers", "no numbers"),
        ({}, once(w=np.ones((0, 3))), "no_numbers", "no numbers"),
        ({}, [(Step(0), {"smdebug/reductions/l2/w": np.zeros(1)})], "only_reductions", "reductions"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    parameters: dict[str, str], saved: Saved, reason: str, word: str
) -> None:
    verdict = run(rule(**parameters), saved)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert word in verdict.explanation


def test_the_defaults_are_those_that_aws_documents() -> None:
    defaults = rule().parameters
    assert (defaults.collection_names, defaults.threshold) == ((), 100)


@pytest.mark.parametrize("text", ["-1", "100.5", "nan", "all"])
def test_a_threshold_out_of_range_is_refused_with_what_is_valid(text: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rule(threshold=text, tensor_regex=".")
    assert str(refused.value) == f"AllZero: threshold must be a number from 0 to 100, not {text!r}"


def test_collection_names_or_tensor_regex_is_required() -> None:
    with pytest.raises(ParameterError, match="AllZero needs collection_names or tensor_regex"):
        AllZero({"threshold": "90"})


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="it has collection_names, tensor_regex, threshold"):
        rule(treshold="90")


values = st.one_of(
    st.sampled_from([0.0, 1.0, math.nan]),
    st.lists(st.sampled_from([0.0, 1.0, math.nan]), max_size=4).map(np.array),
    st.just(np.array(["text"])),
)
steps = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "smdebug/reductions/min/a"]), values), max_size=10
)


@given(steps, st.sets(st.integers(0, 10)), st.integers(0, 100))
def test_a_rule_restored_from_its_state_continues_as_if_it_had_never_stopped(
    tensors: list[dict[str, Value]], restarts: set[int], threshold: int
) -> None:
    saved = [(Step(number), at) for number, at in enumerate(tensors)]
    assert_restarts_keep_the_verdict(
        lambda: rule(tensor_regex=".", threshold=str(threshold)), saved, restarts
    )
