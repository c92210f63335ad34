"""WeightUpdateRatio as documented."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import Mode, ParameterError, Status, Step, Verdict
from rules.base import Value
from rules.weight_update_ratio import WeightUpdateRatio
from tests.rules.frameworks import LOSS, PYTORCH
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

WEIGHT = "fc.weight"


def rule(**parameters: str) -> WeightUpdateRatio:
    evaluation = WeightUpdateRatio(parameters)
    evaluation.learn(PYTORCH)
    return evaluation


def judge(steps: Mapping[int, float], **parameters: str) -> Verdict:
    """The verdict on a weight all of whose elements have this value at this step."""
    saved = [(Step(number), {WEIGHT: np.full((2, 3), value)}) for number, value in steps.items()]
    return run(rule(**parameters), saved)


def compared_with(steps: Iterable[int], **parameters: str) -> int | None:
    """The saved step with which the last one is compared."""
    values = dict.fromkeys(steps, 1.0)
    values[max(values)] = 100.0
    verdict = judge(values, small_threshold="0", **parameters)
    return verdict.evidence[0].previous_step if verdict.evidence else None


def test_awss_example_compares_weights_saved_num_steps_apart() -> None:
    example = {
        "num_steps": "100",
        "large_threshold": "10.0",
        "small_threshold": "0.00000001",
        "epsilon": "0.000000001",
    }
    verdict = judge({0: 1.0, 100: 1.1, 200: 13.2}, **example)
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "too_large", 200)
    assert verdict.explanation == (
        f"{WEIGHT} changed by 11 times its size between step 100 and step 200; the rule allows 10"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.previous_step, row.threshold) == (WEIGHT, 200, 100, 10.0)
    assert (row.value, row.missed_by) == (pytest.approx(11), pytest.approx(1))


def test_weights_that_do_not_change_fire_and_the_sentence_says_so() -> None:
    verdict = judge({0: 1.0, 500: 1.0})
    assert (verdict.reason, verdict.step) == ("too_small", 500)
    assert verdict.explanation == (
        f"{WEIGHT} changed by 0 times its size between step 0 and step 500; the rule wants at least 1e-08"
    )
    assert verdict.evidence[0].missed_by == 1e-8


def test_updates_and_weights_are_compared_by_size_and_not_by_sign() -> None:
    steps: Saved = [
        (Step(0), {WEIGHT: np.array([1.0, -1.0])}),
        (Step(1), {WEIGHT: np.array([3.0, -3.0])}),
    ]
    assert run(rule(large_threshold="1.5"), steps).evidence[0].value == pytest.approx(2)


@pytest.mark.parametrize(
    ("thresholds", "status"),
    [
        ({"large_threshold": "2"}, Status.NO_ISSUES_FOUND),
        ({"large_threshold": "1.9999999999"}, Status.ISSUES_FOUND),
        ({"small_threshold": "2"}, Status.NO_ISSUES_FOUND),
        ({"small_threshold": "2.0000000001"}, Status.ISSUES_FOUND),
    ],
)
def test_a_ratio_of_exactly_a_threshold_is_not_an_issue(thresholds: dict[str, str], status: Status) -> None:
    # Epsilon is lost in a power of two this large, so the ratio is exactly 2.
    assert judge({0: 2.0**60, 1: 3 * 2.0**60}, **thresholds).status is status


def test_by_default_a_ratio_from_a_hundred_millionth_to_ten_is_not_an_issue() -> None:
    assert judge({0: 1.0, 1: 1 + 1.1e-8, 2: 10.9}).status is Status.NO_ISSUES_FOUND
    assert judge({0: 1.0, 1: 1 + 0.9e-8}).reason == "too_small"
    assert judge({0: 1.0, 1: 11.1}).reason == "too_large"


def test_epsilon_replaces_the_size_of_weights_that_were_zero() -> None:
    assert judge({0: 0.0, 1: 1.0}).evidence[0].value == pytest.approx(1e9)
    assert judge({0: 0.0, 1: 1.0}, epsilon="0.5").status is Status.NO_ISSUES_FOUND


def test_half_precision_does_not_overflow_when_weights_change_their_sign() -> None:
    steps: Saved = [
        (Step(number), {WEIGHT: np.array([value], np.float16)})
        for number, value in enumerate((6e4, -6e4, 6e4))
    ]
    assert run(rule(), steps).status is Status.NO_ISSUES_FOUND


def test_without_num_steps_the_previous_saved_step_is_compared_at_any_distance() -> None:
    assert compared_with([0, 1, 2]) == 1
    assert compared_with([0, 500, 100_000]) == 500


@pytest.mark.parametrize(
    ("steps", "num_steps", "expected"),
    [
        ([0, 3, 6, 9, 12], 10, 3),
        ([0, 10, 20], 10, 10),
        ([0, 10, 19], 10, 10),
        ([0, 1, 2], 10, 0),
        ([0, 10, 21], 10, None),
        ([0, 11], 10, None),
    ],
)
def test_with_num_steps_the_oldest_saved_step_within_them_is_compared(
    steps: list[int], num_steps: int, expected: int | None
) -> None:
    assert compared_with(steps, num_steps=str(num_steps)) == expected


def test_with_every_step_saved_few_are_kept_and_the_reference_is_almost_num_steps_away() -> None:
    evaluation = rule(num_steps="100", small_threshold="0")
    for number in range(1000):
        assert evaluation.observe(Step(number), {WEIGHT: np.ones(2)}) is None
        assert len(evaluation.recalls()) <= 9
        assert len(json.dumps(evaluation.state())) < 500
    reference = compared_with(range(1000), num_steps="100")
    assert reference is not None
    assert 999 - 100 <= reference <= 999 - 87


def test_kept_weights_do_not_change_with_the_original_array() -> None:
    evaluation, weights = rule(), np.ones(4)
    evaluation.observe(Step(0), {WEIGHT: weights})
    weights *= 2
    assert evaluation.observe(Step(1), {WEIGHT: weights}) is None


def test_each_weight_is_compared_with_its_own_previous_step() -> None:
    steps: Saved = [
        (Step(0), {"a.weight": 1.0, "b.weight": 1.0}),
        (Step(1), {"a.weight": 2.0}),
        (Step(2), {"b.weight": 100.0}),
    ]
    (row,) = run(rule(), steps).evidence
    assert (row.tensor, row.previous_step, row.step) == ("b.weight", 0, 2)


def test_the_weight_furthest_from_its_threshold_comes_first() -> None:
    before, after = {"a.weight": 1.0, "b.weight": 1.0}, {"a.weight": 20.0, "b.weight": 90.0}
    verdict = run(rule(), [(Step(0), before), (Step(1), after)])
    assert [row.tensor for row in verdict.evidence] == ["b.weight", "a.weight"]


def test_evaluation_steps_are_not_compared() -> None:
    steps: Saved = [
        (Step(0, Mode.TRAIN, 0), {WEIGHT: 1.0}),
        (Step(1, Mode.EVAL, 0), {WEIGHT: 1.0}),
        (Step(2, Mode.EVAL, 1), {WEIGHT: 1.0}),
        (Step(3, Mode.TRAIN, 1), {WEIGHT: 1.1}),
    ]
    verdict = run(rule(), steps)
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 1)
    assert run(rule(), steps[1:3]).reason == "no_values_in_mode"


def test_num_steps_counts_training_steps() -> None:
    # Fifty evaluation steps lie between them, so the global step numbers are 150 apart.
    steps: Saved = [(Step(0, Mode.TRAIN, 0), {WEIGHT: 1.0}), (Step(150, Mode.TRAIN, 100), {WEIGHT: 1.0})]
    assert run(rule(num_steps="100"), steps).reason == "too_small"
    assert run(rule(num_steps="99"), steps).status is Status.NOT_EVALUATED


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 1])
def test_a_weight_that_is_not_finite_at_either_step_fires_for_that_reason(bad: float, position: int) -> None:
    weights = [np.ones(3), np.ones(3) * 2]
    weights[position][1] = bad
    verdict = run(rule(), [(Step(number), {WEIGHT: value}) for number, value in enumerate(weights)])
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "non_finite", 1)
    assert verdict.evidence[0].missed_by is None
    assert verdict.explanation.startswith(f"{WEIGHT} holds NaN or infinity")


@pytest.mark.parametrize("num_steps", ["", "10"])
def test_a_weight_is_compared_only_with_steps_at_which_it_had_the_same_shape(num_steps: str) -> None:
    steps: Saved = [
        (Step(number), {WEIGHT: np.full(size, 2.0**number)}) for number, size in enumerate((2, 2, 3, 3))
    ]
    verdict = run(rule(num_steps=num_steps), steps)
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 2)


def test_only_weights_are_read() -> None:
    names = (WEIGHT, "fc.bias", "gradient/fc.weight", "smdebug/reductions/l2/gradient/fc.weight", LOSS)
    verdict = run(rule(), [(Step(number), dict.fromkeys(names, 2.0**number)) for number in range(2)])
    assert (verdict.tensors, verdict.notes) == ((WEIGHT,), ())


@pytest.mark.parametrize(
    ("steps", "parameters", "reason", "word"),
    [
        ([], {}, "nothing_saved", "no step"),
        ([{WEIGHT: 1.0}], {}, "too_few_steps", "two steps"),
        ([{WEIGHT: 1.0}], {"num_steps": "100"}, "too_few_steps", "100"),
        ([{LOSS: 1.0}], {}, "no_tensor_matches", "none"),
        ([{WEIGHT: np.array("text")}], {}, "no_numbers", WEIGHT),
        ([{f"smdebug/reductions/mean/{WEIGHT}": 1.0}] * 2, {}, "only_reductions", WEIGHT),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    steps: list[dict[str, Value]], parameters: dict[str, str], reason: str, word: str
) -> None:
    verdict = run(rule(**parameters), [(Step(number), tensors) for number, tensors in enumerate(steps)])
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)
    assert word in verdict.explanation


def test_a_job_without_the_collection_is_not_evaluated() -> None:
    evaluation = WeightUpdateRatio({})
    evaluation.learn({})
    assert run(evaluation, [(Step(0), {"train-rmse": 1.0})]).reason == "no_such_collection"


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("num_steps", "0", "a whole number of at least 1"),
        ("num_steps", "1.5", "a whole number of at least 1"),
        ("large_threshold", "0", "a number above 0"),
        ("small_threshold", "-1e-9", "a number of at least 0"),
        ("epsilon", "0", "a number above 0"),
        ("epsilon", "nan", "a number above 0"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rule(**{name: text})
    assert str(refused.value) == f"WeightUpdateRatio: {name} must be {valid}, not {text!r}"


def test_thresholds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ParameterError, match="small_threshold must be below large_threshold"):
        rule(small_threshold="10")


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="num_steps, large_threshold, small_threshold, epsilon"):
        rule(threshold="1")


def test_a_step_that_cannot_be_read_again_after_a_restart_is_not_compared() -> None:
    before, after = rule(num_steps="8"), rule(num_steps="8")
    before.observe(Step(0), {WEIGHT: 1.0})
    before.observe(Step(1), {WEIGHT: 1.5})
    after.restore(json.loads(json.dumps(before.state())))
    assert after.recalls() == (0, 1)
    after.recall(Step(1), {WEIGHT: 1.5})
    verdict = after.observe(Step(2), {WEIGHT: 100.0})
    assert verdict is not None
    assert verdict.evidence[0].previous_step == 1


weights = st.one_of(
    st.sampled_from([1.0, 1.5, 50.0, math.nan]), st.sampled_from([np.ones(2), np.full(2, 2.0), np.ones(3)])
)
tensors = st.dictionaries(st.sampled_from(["a.weight", "b.weight", LOSS]), weights)
history = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from([Mode.TRAIN, Mode.EVAL]), tensors), max_size=12
)


@given(history, st.sets(st.integers(0, 12)), st.sampled_from(["", "1", "5", "30"]))
def test_a_restart_does_not_change_the_verdict(
    gaps: list[tuple[int, Mode, dict[str, Value]]], restarts: set[int], num_steps: str
) -> None:
    number, steps = 0, []
    for gap, mode, saved in gaps:
        number += gap
        steps.append((Step(number, mode, number // 2), saved))
    assert_restarts_keep_the_verdict(lambda: rule(num_steps=num_steps, small_threshold="0"), steps, restarts)
