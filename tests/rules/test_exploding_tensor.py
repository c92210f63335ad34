"""ExplodingTensor as documented."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from rules import Mode, ParameterError, Status, Step, Verdict
from rules.base import Value
from rules.exploding_tensor import ExplodingTensor
from tests.rules.frameworks import LOSS, PYTORCH
from tests.rules.replay import Saved, assert_restarts_keep_the_verdict, run

GRADIENT = "gradient/fc.weight"
NAN, INF = math.nan, math.inf


def rule(**parameters: str) -> ExplodingTensor:
    evaluation = ExplodingTensor(parameters)
    evaluation.learn(PYTORCH)
    return evaluation


def judge(*steps: dict[str, Value], **parameters: str) -> Verdict:
    return run(rule(**parameters), [(Step(number), tensors) for number, tensors in enumerate(steps)])


def test_awss_example_reads_the_gradients_and_no_other_tensor() -> None:
    example = {"tensor_regex": ".*gradient", "only_nan": "False"}
    exploded = np.array([[1.0, NAN], [-INF, NAN]])
    verdict = judge({GRADIENT: np.ones(4), LOSS: NAN}, {GRADIENT: exploded, LOSS: NAN}, **example)
    assert (verdict.status, verdict.reason, verdict.step) == (Status.ISSUES_FOUND, "nan", 1)
    assert verdict.explanation == f"{GRADIENT} has 2 NaN and 1 infinite of its 4 values at step 1"
    assert verdict.tensors == (GRADIENT,)
    (row,) = verdict.evidence
    assert (row.tensor, row.step, row.missed_by) == (GRADIENT, 1, None)
    assert math.isnan(row.value)


@pytest.mark.parametrize(
    ("value", "reason"), [(NAN, "nan"), (INF, "infinity"), (-INF, "infinity"), (np.array([INF]), "infinity")]
)
def test_a_single_value_that_is_not_finite_fires_and_is_named(value: Value, reason: str) -> None:
    verdict = judge({LOSS: value})
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, reason)
    assert verdict.explanation == f"{LOSS} is {float(np.asarray(value).item()):g} at step 0"


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_largest_number_of_a_type_passes_and_infinity_fires(kind: type[np.floating]) -> None:
    largest = np.full(3, np.finfo(kind).max, kind)
    assert judge({"x": largest}).status is Status.NO_ISSUES_FOUND
    largest[1] = INF
    assert judge({"x": largest}).explanation == "x has 1 infinite of its 3 values at step 0"


def test_by_default_every_saved_tensor_is_read_and_infinities_count() -> None:
    verdict = judge({"some/thing": np.ones(2), LOSS: INF, "count": np.arange(3)})
    assert (verdict.reason, verdict.tensors) == ("infinity", (LOSS, "count", "some/thing"))


def test_with_only_nan_infinities_are_not_an_issue() -> None:
    assert judge({LOSS: np.array([INF, -INF])}, only_nan="True").status is Status.NO_ISSUES_FOUND
    assert judge({LOSS: np.array([INF, NAN])}, only_nan="True").reason == "nan"


def test_collections_and_regexes_are_read_together() -> None:
    selected = {"collection_names": "weights,gradients", "tensor_regex": "relu,tanh"}
    saved: dict[str, Value] = dict.fromkeys(
        ("fc.weight", GRADIENT, "relu_output_0", "tanh_input_0", LOSS, "fc.bias"), 1.0
    )
    assert judge(saved, **selected).tensors == ("fc.weight", GRADIENT, "relu_output_0", "tanh_input_0")


def test_the_evidence_has_the_first_five_of_many_tensors_that_explode_at_one_step() -> None:
    verdict = judge({f"layer{number}": np.array([1.0, NAN]) for number in reversed(range(7))})
    assert [row.tensor for row in verdict.evidence] == [f"layer{number}" for number in range(5)]
    assert verdict.explanation.endswith("layer4 has 1 NaN of its 2 values at step 0; and 2 more like these")


def test_a_reduction_is_judged_when_the_tensor_itself_was_not_saved() -> None:
    saved = f"smdebug/reductions/max/{GRADIENT}"
    assert judge({saved: INF}, collection_names="gradients").explanation == f"{saved} is inf at step 0"
    verdict = judge({saved: INF, GRADIENT: np.ones(2)})
    assert (verdict.status, verdict.tensors) == (Status.NO_ISSUES_FOUND, (GRADIENT,))


def test_a_product_that_overflows_is_left_out_and_the_verdict_says_so() -> None:
    saved: dict[str, Value] = {f"smdebug/reductions/{name}/{GRADIENT}": INF for name in ("prod", "abs_prod")}
    verdict = judge(saved)
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "only_products")
    assert GRADIENT in verdict.explanation


def test_text_is_left_out_and_the_verdict_says_so() -> None:
    verdict = judge({"names": np.array(["0-0", "0-1"]), LOSS: 1.0})
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert verdict.notes == ("left out, because they hold no numbers: names",)


def test_the_missing_splits_of_tree_leaves_are_not_an_issue() -> None:
    data = xgboost.DMatrix(np.arange(8.0)[:, None], np.arange(8))
    tree = xgboost.train({"max_depth": 2, "nthread": 1}, data, 1).trees_to_dataframe()
    assert tree["Split"].isna().any()
    verdict = judge({f"trees/{column}": tree[column].to_numpy() for column in tree}, {"train-rmse": 1.0})
    assert (verdict.status, verdict.tensors) == (Status.NO_ISSUES_FOUND, ("train-rmse",))
    assert (
        "left out, because in a tree, NaN means that a leaf has no such value: trees/Category"
        in (verdict.notes[0])
    )


@pytest.mark.parametrize("mode", list(Mode))
def test_steps_of_every_mode_are_judged(mode: Mode) -> None:
    verdict = run(rule(), [(Step(7, mode, 3), {LOSS: NAN})])
    assert (verdict.status, verdict.step) == (Status.ISSUES_FOUND, 7)


@pytest.mark.parametrize(
    ("steps", "parameters", "reason"),
    [
        ([], {}, "nothing_saved"),
        ([{LOSS: 1.0}], {"collection_names": "gradient"}, "no_such_collection"),
        ([{LOSS: 1.0}], {"tensor_regex": "gradient"}, "no_tensor_matches"),
        ([{LOSS: np.array("text")}], {}, "no_numbers"),
        ([{"trees/Gain": np.ones(3)}], {}, "only_trees"),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    steps: list[dict[str, Value]], parameters: dict[str, str], reason: str
) -> None:
    verdict = judge(*steps, **parameters)
    assert (verdict.status, verdict.reason, verdict.steps_checked) == (Status.NOT_EVALUATED, reason, 0)


def test_an_invalid_parameter_is_refused_with_what_is_valid() -> None:
    with pytest.raises(ParameterError, match="only_nan must be True or False, not 'perhaps'"):
        rule(only_nan="perhaps")
    with pytest.raises(ParameterError, match="it has collection_names, tensor_regex, only_nan"):
        rule(collection_name="gradients")


values = st.one_of(
    st.floats(width=16),
    st_numpy.arrays(np.float32, st_numpy.array_shapes(max_side=3), elements=st.floats(-1, 1, width=32)),
    st.just(np.array("text")),
)
tensors = st.dictionaries(st.sampled_from([GRADIENT, LOSS, f"smdebug/reductions/prod/{LOSS}"]), values)


@given(st.lists(tensors, max_size=8), st.sets(st.integers(0, 8)))
def test_a_restart_does_not_change_the_verdict(steps: list[dict[str, Value]], restarts: set[int]) -> None:
    saved: Saved = [(Step(number), tensors) for number, tensors in enumerate(steps)]
    assert_restarts_keep_the_verdict(rule, saved, restarts)
