"""Which tensors a rule reads."""

from __future__ import annotations

from rules import Collection, Selection

COLLECTIONS = {
    "losses": Collection(include_regex=("^loss$",)),
    "weights": Collection(tensor_names=frozenset({"dense/kernel"})),
}


def test_collections_and_regexes_are_combined() -> None:
    selection = Selection(["weights"], ["bias"])
    selection.learn(COLLECTIONS)
    saved = {"loss": 1, "dense/kernel": 2, "dense/bias:0": 3, "dense/kernel_2": 4}
    assert dict(selection.of(saved)) == {"dense/kernel": 2, "dense/bias:0": 3}


def test_a_regex_matches_anywhere_in_a_name() -> None:
    assert "model/relu_output_0" in Selection(regexes=["relu_output"])


def test_a_named_collection_missing_from_the_job_is_reported_and_an_optional_one_is_not() -> None:
    selection = Selection(["metrix", "weights"], optional=["losses", "gradients"])
    assert selection.missing == ("metrix", "weights")
    selection.learn(COLLECTIONS)
    assert selection.missing == ("metrix",)
    assert "loss" in selection


def test_tensors_added_to_a_collection_are_selected_when_it_is_learnt_again() -> None:
    selection = Selection(["weights"])
    selection.learn(COLLECTIONS)
    assert "conv/kernel" not in selection
    selection.learn({"weights": Collection(tensor_names=frozenset({"conv/kernel"}))})
    assert "conv/kernel" in selection
    assert "dense/kernel" not in selection


def test_nothing_is_selected_when_nothing_is_named() -> None:
    assert list(Selection().of({"loss": 1})) == []
