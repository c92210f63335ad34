"""TreeDepth as documented."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.base import Evidence, Status, Step, Verdict
from rules.parameters import ParameterError
from rules.tree_depth import TreeDepth
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run


def trees(*largest_ids: int) -> Saved:
    return [(Step(step), {"trees/Node": np.arange(last + 1)}) for step, last in enumerate(largest_ids)]


def judge(saved: Saved, **parameters: str) -> Verdict:
    return run(TreeDepth(parameters), saved)


def test_a_tree_that_is_too_deep_fires_and_the_sentence_says_by_how_much() -> None:
    verdict = judge(trees(30, 0, 62))
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "too_deep", 2)
    assert verdict.evidence == (Evidence("trees/Node", 2, 5, threshold=4, missed_by=1),)
    assert (
        verdict.explanation == "the tree of step 2 is 5 deep (its largest node id is 62); the rule allows 4"
    )


@pytest.mark.parametrize("depth", range(1, 11))
def test_a_full_tree_of_exactly_the_allowed_depth_passes_and_one_more_node_fires(depth: int) -> None:
    last = 2 ** (depth + 1) - 2  # the last of 2^(depth + 1) - 1 nodes, counted from 0
    assert judge(trees(last), depth=str(depth)).status is Status.NO_ISSUES_FOUND
    assert judge(trees(last + 1), depth=str(depth)).evidence[0].value == depth + 1


def test_without_a_parameter_four_levels_are_allowed() -> None:
    assert judge(trees(30)).status is Status.NO_ISSUES_FOUND
    assert judge(trees(31)).status is Status.ISSUES_FOUND


def test_the_allowed_depth_need_not_be_whole() -> None:
    assert judge(trees(31), depth="4.5").evidence[0].missed_by == 0.5
    assert judge(trees(30), depth="4.5").status is Status.NO_ISSUES_FOUND


def test_a_tree_with_only_a_root_has_depth_zero() -> None:
    assert judge(trees(0), depth="0").status is Status.NO_ISSUES_FOUND
    assert judge(trees(1), depth="0").status is Status.ISSUES_FOUND


def test_only_the_node_ids_are_read() -> None:
    rule = TreeDepth({})
    assert rule.wants("trees/Node")
    assert not any(
        rule.wants(other) for other in ("trees/ID", "trees/Tree", "smdebug/reductions/max/trees/Node")
    )


@pytest.mark.parametrize(
    "value", [np.array(["0-1"]), np.array([0.0, math.nan]), np.array([0.5]), np.array([-1]), math.inf]
)
def test_a_value_that_is_not_a_node_id_is_left_out_and_the_verdict_says_so(value: Any) -> None:
    bad = (Step(0), {"trees/Node": value})
    verdict = judge([bad])
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "no_node_ids")
    verdict = judge([bad, *trees(3)])
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 1)
    assert verdict.notes == ("left out, because they hold no node ids: trees/Node",)


@pytest.mark.parametrize(
    ("saved", "reason", "words"),
    [
        ([], "nothing_saved", "no step"),
        ([(Step(0), {"train-error": 0.5})], "no_tensor_matches", "collection trees"),
        ([(Step(0), {"trees/Node": np.array([], int)})], "no_tree", "no saved step"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(saved: Saved, reason: str, words: str) -> None:
    verdict = judge(saved)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert words in verdict.explanation


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "deep"])
def test_a_depth_out_of_range_is_refused_with_what_is_valid(text: str) -> None:
    with pytest.raises(ParameterError) as refused:
        TreeDepth({"depth": text})
    assert str(refused.value) == f"TreeDepth: depth must be a number of at least 0, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_one() -> None:
    with pytest.raises(ParameterError, match=r"no parameter 'dept' \(did you mean depth\?\); it has depth$"):
        TreeDepth({"dept": "4"})


nodes = st.one_of(
    st.integers(0, 40).map(np.arange), st.just(np.array([math.nan])), st.just(np.array(["leaf"]))
)


@given(
    st.lists(st.dictionaries(st.sampled_from(["trees/Node", "other"]), nodes, max_size=2), max_size=12),
    st.sets(st.integers(0, 12)),
    st.sampled_from(["2", "4", "5"]),
)
def test_a_restart_at_any_step_does_not_change_the_verdict(
    steps: list[dict[str, Any]], restarts: set[int], depth: str
) -> None:
    saved = [(Step(3 * index), tensors) for index, tensors in enumerate(steps)]
    assert_restarts_keep_the_verdict(lambda: TreeDepth({"depth": depth}), saved, restarts)
