"""NLPSequenceRatio as documented."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.base import Status, Step, Value, Verdict
from rules.nlp_sequence_ratio import NLPSequenceRatio
from rules.parameters import ParameterError
from tests.rules.replay import assert_restarts_keep_the_verdict, run

INPUT = "embedding0_input_0"
DOCUMENTED = {"tensor_regex": ".*embedding0_input_0", "token_values": "0", "token_thresholds_percent": "50"}
"""The parameters of AWS's example, which are all defaults."""


def sequences(*tokens: int, dtype: str = "f4") -> Value:
    """Two sequences, each with half of these tokens."""
    return np.array(tokens, dtype).reshape(2, -1)


def judge(*steps: Mapping[str, Value], **parameters: str) -> Verdict:
    saved = [(Step(step), tensors) for step, tensors in enumerate(steps)]
    return run(NLPSequenceRatio(parameters), saved)


def test_a_token_with_too_large_a_share_fires_and_the_sentence_gives_the_share() -> None:
    good, bad = sequences(4, 5, 0, 0), sequences(4, 0, 0, 0)
    verdict = judge({INPUT: good}, {INPUT: bad}, **DOCUMENTED)
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "too_frequent", 1)
    assert verdict.explanation == (
        f"{INPUT}: at step 1, 3 of 4 tokens are 0, which is 75 %; the rule allows 50 %"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.threshold, row.missed_by) == (INPUT, 1, 75, 50, 25)


def test_the_default_parameters_are_those_of_awss_example() -> None:
    assert NLPSequenceRatio({}).parameters == NLPSequenceRatio(DOCUMENTED).parameters


def test_a_share_of_exactly_the_threshold_is_not_an_issue() -> None:
    tokens = {INPUT: sequences(1, 1, 0, 0, 0, 0, 0, 0)}
    assert judge(tokens, token_thresholds_percent="75").status is Status.NO_ISSUES_FOUND
    assert judge(tokens, token_thresholds_percent="74.9").status is Status.ISSUES_FOUND
    assert judge(tokens, token_thresholds_percent="100").status is Status.NO_ISSUES_FOUND


def test_a_threshold_of_0_allows_no_such_token() -> None:
    parameters = {"token_values": "3", "token_thresholds_percent": "0"}
    assert judge({INPUT: sequences(1, 2)}, **parameters).status is Status.NO_ISSUES_FOUND
    assert judge({INPUT: sequences(1, 3)}, **parameters).status is Status.ISSUES_FOUND


def test_thresholds_are_matched_with_tokens_by_position() -> None:
    tokens = {INPUT: sequences(3, 3, 3, 0, 0, 7, 8, 9)}
    thresholds = {"token_values": "3, 0"}
    assert judge(tokens, **thresholds, token_thresholds_percent="50.0, 20").evidence[0].value == 25
    assert judge(tokens, **thresholds, token_thresholds_percent="30, 50").evidence[0].value == 37.5
    both = judge(tokens, **thresholds, token_thresholds_percent="30, 20")
    assert [(row.value, row.threshold) for row in both.evidence] == [(37.5, 30), (25, 20)]


def test_a_single_threshold_applies_to_every_token() -> None:
    assert judge({INPUT: sequences(0, 3, 3, 3)}, token_values="0, 3").evidence[0].value == 75
    verdict = judge({INPUT: sequences(0, 3, 3, 3)}, token_values="0, 3", token_thresholds_percent="20")
    assert [row.value for row in verdict.evidence] == [25, 75]


@pytest.mark.parametrize("thresholds", ["50, 50, 50", "50, 50"])
def test_a_different_number_of_thresholds_and_tokens_is_refused(thresholds: str) -> None:
    tokens = "0" if thresholds.count(",") == 1 else "3, 0"
    with pytest.raises(
        ParameterError, match=r"one number, or one for each of the [12] token_values, not [23]"
    ):
        NLPSequenceRatio({"token_values": tokens, "token_thresholds_percent": thresholds})


@pytest.mark.parametrize("dtype", ["f2", "f8", "i4", "i8", "u1"])
def test_tokens_of_any_numeric_type_are_read(dtype: str) -> None:
    assert judge({INPUT: sequences(2, 2, 2, 1, dtype=dtype)}, token_values="2").evidence[0].value == 75


def test_negative_tokens_are_read() -> None:
    assert judge({INPUT: sequences(-1, -1)}, token_values="-1").evidence[0].value == 100


def test_the_regexes_select_the_sequences_and_each_is_judged_separately() -> None:
    steps = {"encoder/ids": sequences(0, 0), "decoder/ids": sequences(1, 1), "other": sequences(0, 0)}
    verdict = judge(steps, tensor_regex="^enc,^dec")
    assert ([row.tensor for row in verdict.evidence], verdict.tensors) == (
        ["encoder/ids"],
        ("decoder/ids", "encoder/ids"),
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_numbers_are_left_out_of_the_sequence_and_mentioned(bad: float) -> None:
    hidden = np.array([0.0, 0.0, 1.0, bad, bad, bad])
    verdict = judge({INPUT: hidden})
    assert verdict.explanation.startswith(f"{INPUT}: at step 0, 2 of 3 tokens are 0")
    assert verdict.notes == (f"NaN or infinity was left out of {INPUT}",)


@pytest.mark.parametrize(
    ("steps", "reason", "words"),
    [
        ([], "nothing_saved", "no step"),
        ([{"conv0_input_0": sequences(0, 0)}], "no_tensor_matches", "none of the saved tensors"),
        ([{INPUT: np.array([])}], "no_numbers", "no numbers"),
        ([{INPUT: np.array([math.nan])}], "non_finite", "nothing but NaN"),
        ([{INPUT: np.array(["the", "cat"])}], "no_numbers", "no numbers"),
        (
            [{f"smdebug/reductions/min/{INPUT}": 0.0}],
            "only_reductions",
            f"{INPUT} could not be judged, because only reductions",
        ),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    steps: list[dict[str, Value]], reason: str, words: str
) -> None:
    verdict = judge(*steps)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert words in verdict.explanation


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("token_values", "zero", "numbers separated by commas"),
        ("token_values", "nan", "numbers separated by commas"),
        ("token_thresholds_percent", "101", "numbers from 0 to 100 separated by commas"),
        ("token_thresholds_percent", "-1", "numbers from 0 to 100 separated by commas"),
        ("token_thresholds_percent", ",", "numbers from 0 to 100 separated by commas"),
        ("tensor_regex", "(", "regular expressions separated by commas"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        NLPSequenceRatio({name: text})
    assert str(refused.value) == f"NLPSequenceRatio: {name} must be {valid}, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="did you mean token_values") as refused:
        NLPSequenceRatio({"token_value": "1"})
    assert str(refused.value).endswith(f"; it has {', '.join(DOCUMENTED)}")


ids = st.one_of(
    st.lists(st.sampled_from([0, 1, 2]), max_size=8).map(np.array),
    st.sampled_from([np.array([math.nan, 1]), np.array([math.inf]), np.array(["a"]), 1.0]),
)


@given(
    st.lists(st.dictionaries(st.sampled_from([INPUT, f"b/{INPUT}", "noise"]), ids), max_size=12),
    st.sets(st.integers(0, 12)),
    st.sampled_from(["50", "70,99"]),
)
def test_a_restart_at_any_step_does_not_change_the_verdict(
    steps: list[dict[str, Any]], restarts: set[int], thresholds: str
) -> None:
    parameters = {"token_values": "0,1", "token_thresholds_percent": thresholds}
    saved = [(Step(3 * index), tensors) for index, tensors in enumerate(steps)]
    assert_restarts_keep_the_verdict(lambda: NLPSequenceRatio(parameters), saved, restarts)
