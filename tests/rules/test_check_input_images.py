"""CheckInputImages as documented."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.base import Mode, Status, Step, Value, Verdict
from rules.check_input_images import CheckInputImages
from rules.parameters import ParameterError
from tests.rules.replay import assert_restarts_keep_the_verdict, run

INPUT = "hybridsequential0_input_0"
DOCUMENTED = {
    "threshold_mean": "0.2",
    "threshold_samples": "500",
    "regex": ".*hybridsequential0_input_0",
    "channel": "1",
}
"""The parameters of AWS's example, which are all defaults."""


def images(*means: float, count: int = 500, dtype: str = "f4") -> Value:
    """NCHW images of 4 by 6 pixels, with the given mean in each channel."""
    channels = np.array(means, dtype).reshape(1, -1, 1, 1)
    return np.broadcast_to(channels, (count, len(means), 4, 6)).astype(dtype)


def judge(*steps: Mapping[str, Value], **parameters: str) -> Verdict:
    saved = [(Step(step), tensors) for step, tensors in enumerate(steps)]
    return run(CheckInputImages(parameters), saved)


def test_images_with_a_mean_near_zero_are_not_an_issue() -> None:
    noise = np.random.default_rng(0).normal(size=(500, 3, 4, 6))
    verdict = judge({INPUT: noise}, **DOCUMENTED)
    assert verdict == Verdict(Status.NO_ISSUES_FOUND, step=0, steps_checked=1, tensors=(INPUT,))


def test_a_channel_with_a_mean_too_far_from_zero_fires_and_says_how_far() -> None:
    verdict = judge({INPUT: images(0.1, 0.75, -0.1)}, **DOCUMENTED)
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "off_zero", 0)
    assert verdict.explanation == (
        f"{INPUT}: over 500 images up to step 0, channel 1 has a mean of 0.75; "
        "the rule allows 0.2 to either side of 0"
    )
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.value, row.threshold) == (INPUT, 0, 0.75, 0.2)
    assert row.missed_by == pytest.approx(0.55)


def test_the_default_parameters_are_those_of_awss_example() -> None:
    assert CheckInputImages({}).parameters == CheckInputImages(DOCUMENTED).parameters


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mean_of_exactly_plus_or_minus_the_threshold_is_not_an_issue(sign: int) -> None:
    for mean, status in ((0.25, Status.NO_ISSUES_FOUND), (0.2501, Status.ISSUES_FOUND)):
        assert judge({INPUT: images(sign * mean)}, threshold_mean="0.25").status is status


def test_channels_that_cancel_each_other_out_still_fire_with_the_worst_first() -> None:
    verdict = judge({INPUT: images(0.5, -0.6)})
    assert [round(row.value, 6) for row in verdict.evidence] == [-0.6, 0.5]


def test_nothing_is_judged_until_several_steps_have_given_enough_images() -> None:
    rule = CheckInputImages({})
    assert rule.observe(Step(0), {INPUT: images(1.0, count=249)}) is None
    assert rule.observe(Step(5), {INPUT: images(1.0, count=250)}) is None
    assert rule.verdict(ended=False).steps_checked == 0
    verdict = rule.observe(Step(10), {INPUT: images(1.0, count=1)})
    assert verdict is not None
    assert (verdict.step, verdict.steps_checked) == (10, 1)


def test_the_number_of_images_before_the_first_verdict_can_be_chosen() -> None:
    assert judge({INPUT: images(1.0, count=8)}, threshold_samples="8").status is Status.ISSUES_FOUND
    assert judge({INPUT: images(1.0, count=8)}, threshold_samples="9").reason == "too_few_samples"


def test_the_mean_covers_all_steps_and_modes_and_counts_each_image_once() -> None:
    rule = CheckInputImages({"threshold_samples": "1"})
    assert rule.observe(Step(0, Mode.TRAIN, 0), {INPUT: images(0.0, count=30)}) is None
    assert rule.observe(Step(1, Mode.EVAL, 0), {INPUT: images(1.0, count=5)}) is None
    large = np.ones((5, 1, 40, 60))
    verdict = rule.observe(Step(2, Mode.TRAIN, 1), {INPUT: large})
    assert verdict is not None
    assert verdict.evidence[0].value == 0.25


@pytest.mark.parametrize("channel", ["3", "-1"])
def test_the_axis_of_the_channels_can_be_chosen(channel: str) -> None:
    last = np.moveaxis(np.asarray(images(0.0, 0.0, 0.5)), 1, -1)
    (row,) = judge({INPUT: last}, channel=channel).evidence
    assert (row.value, judge({INPUT: last}, channel=channel).explanation.count("channel 2")) == (0.5, 1)


def test_a_tensor_with_its_channels_first_is_a_single_image() -> None:
    one = np.full((3, 4, 6), 0.5)
    assert judge({INPUT: one}, {INPUT: one}, channel="0", threshold_samples="2").step == 1


@pytest.mark.parametrize("dtype", ["f2", "f8", "u1", "i8"])
def test_images_of_any_numeric_type_are_read(dtype: str) -> None:
    assert judge({INPUT: images(255, dtype=dtype)}).evidence[0].value == 255


def test_the_regex_selects_the_image_tensors_and_each_is_judged_separately() -> None:
    steps = {"left_image": images(0.5), "right_image": images(-0.5), "mask": images(9.0)}
    verdict = judge(steps, regex="_image$")
    assert [(row.tensor, row.value) for row in verdict.evidence] == [
        ("left_image", 0.5),
        ("right_image", -0.5),
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_single_pixel_that_is_not_a_number_fires_immediately(bad: float) -> None:
    one = np.zeros((2, 3, 4, 6))
    one[1, 2, 0, 0] = bad
    verdict = judge({INPUT: one})
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "non_finite")
    assert verdict.explanation == f"{INPUT}: the mean of channel 2 is {bad:g} at step 0"


def test_pixels_whose_sum_overflows_fire_as_infinite() -> None:
    assert judge({INPUT: np.full((500, 1, 4, 6), 1e308)}).reason == "non_finite"


@pytest.mark.parametrize(
    ("steps", "reason", "words"),
    [
        ([], "nothing_saved", "no step"),
        ([{"conv0_input_0": images(0.0)}], "no_tensor_matches", "none of the saved tensors"),
        (
            [{INPUT: images(9.0, count=100)}] * 2,
            "too_few_samples",
            "200 images were saved, the rule wants 500",
        ),
        ([{INPUT: np.zeros((0, 3, 4, 6))}], "no_numbers", "no numbers"),
        ([{INPUT: np.zeros(600)}], "no_channels", "no axis 1"),
        ([{INPUT: 0.5}], "no_channels", "no axis 1"),
        ([{INPUT: np.zeros((500, 1025))}], "no_channels", "too long to be of channels"),
        ([{INPUT: np.array([["cat.png"]])}], "no_numbers", "no numbers"),
        (
            [{f"smdebug/reductions/mean/{INPUT}": 9.0}],
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


def test_reductions_saved_with_the_images_are_ignored() -> None:
    verdict = judge({INPUT: images(0.0), f"smdebug/reductions/mean/{INPUT}": 9.0})
    assert (verdict.status, verdict.tensors, verdict.notes) == (Status.NO_ISSUES_FOUND, (INPUT,), ())


def test_a_step_with_another_number_of_channels_is_left_out_and_the_verdict_says_so() -> None:
    verdict = judge({INPUT: images(0.0, 0.0, 0.0)}, {INPUT: images(9.0)})
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 1)
    assert verdict.notes == (
        "left out, because their axis 1 has another length at another step (the parameter channel): " + INPUT,
    )


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("threshold_mean", "-0.1", "a number of at least 0"),
        ("threshold_mean", "nan", "a number of at least 0"),
        ("threshold_samples", "0", "a whole number of at least 1"),
        ("channel", "1.5", "a whole number"),
        ("regex", "(", "a regular expression"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_what_is_valid(name: str, text: str, valid: str) -> None:
    with pytest.raises(ParameterError) as refused:
        CheckInputImages({name: text})
    assert str(refused.value) == f"CheckInputImages: {name} must be {valid}, not {text!r}"


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="did you mean channel") as refused:
        CheckInputImages({"channels": "1"})
    assert str(refused.value).endswith(f"; it has {', '.join(DOCUMENTED)}")


def test_the_state_of_the_rule_does_not_grow_with_the_job() -> None:
    rule = CheckInputImages({})
    for step in range(100):
        rule.observe(Step(step), {INPUT: images(0.1, 0.1, 0.1, count=64)})
    assert len(json.dumps(rule.state())) < 300


pixels = st.floats(-1, 1, width=32)
inputs = st.one_of(
    st.lists(pixels, min_size=12, max_size=12).map(lambda values: np.array(values).reshape(2, 3, 2)),
    st.sampled_from([np.zeros(3), np.zeros((1, 2, 2)), np.full((1, 3, 2), math.nan), np.array([["a"]]), 0.5]),
)


@given(
    st.lists(st.dictionaries(st.sampled_from([INPUT, f"b/{INPUT}", "noise"]), inputs), max_size=12),
    st.sets(st.integers(0, 12)),
    st.sampled_from(["1", "5", "12"]),
)
def test_a_restart_at_any_step_does_not_change_the_verdict(
    steps: list[dict[str, Any]], restarts: set[int], samples: str
) -> None:
    parameters = {"threshold_samples": samples, "threshold_mean": "0.4"}
    saved = [(Step(3 * index), tensors) for index, tensors in enumerate(steps)]
    assert_restarts_keep_the_verdict(lambda: CheckInputImages(parameters), saved, restarts)
