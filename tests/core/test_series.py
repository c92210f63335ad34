"""What is kept of saved tensors, and the JSON document made from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from watcher.debug_output.event_files import SavedStep
from watcher.debug_output.series import Collector, Summary, document, kept, once
from watcher.store.views import to_json


def saved(step: int, mode: str = "GLOBAL", mode_step: int | None = None, **tensors: Any) -> SavedStep:
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    return SavedStep(step, "worker_0", mode, step if mode_step is None else mode_step, arrays, tuple(arrays))


def collected(*steps: SavedStep, **options: Any) -> dict[str, Any]:
    collector = Collector(**options)
    for step in steps:
        collector.add(step)
    return document(collector.series())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.array([[7]]), 7),
        (np.array([True]), 1),
        (np.array(["softmax"]), "softmax"),
        (np.array([b"softmax"]), "softmax"),
        (np.arange(6.0).reshape(2, 3), Summary((2, 3), 0.0, 5.0, 2.5)),
        (np.array([True, False]), Summary((2,), 0.0, 1.0, 0.5)),
        (np.array([]), Summary((0,))),
        (np.array(["a", "b"]), Summary((2,))),
        (np.full(3, 60000, np.float16), Summary((3,), 60000.0, 60000.0, 60000.0)),
    ],
)
def test_a_scalar_is_kept_and_a_larger_tensor_is_summarised(value, expected):
    assert kept(np.asarray(value)) == expected


def test_a_mean_of_infinities_is_nan_without_a_warning():
    summary = kept(np.array([np.inf, -np.inf]))

    assert isinstance(summary, Summary)
    assert (summary.min, summary.max, str(summary.mean)) == (-np.inf, np.inf, "nan")


def test_a_whole_tensor_is_copied_so_that_its_file_can_be_freed():
    file = np.arange(1000.0)

    assert kept(file[10:12], full=True).base is None  # type: ignore[union-attr]


def test_global_has_all_steps_and_each_mode_has_its_own_numbering():
    steps = [saved(0, "TRAIN", 0, loss=4.0), saved(3, "EVAL", 0, loss=3.0), saved(5, "TRAIN", 1, loss=2.0)]

    assert collected(*steps) == {
        "loss": {
            "GLOBAL": {"worker_0": {"steps": [0, 3, 5], "values": [4.0, 3.0, 2.0]}},
            "EVAL": {"worker_0": {"steps": [0], "values": [3.0]}},
            "TRAIN": {"worker_0": {"steps": [0, 1], "values": [4.0, 2.0]}},
        }
    }


def test_only_matching_names_are_collected():
    assert list(collected(saved(0, loss=1.0, weight=2.0), fits=lambda name: name == "loss")) == ["loss"]


def test_whole_tensors_are_nested_lists():
    named = collected(saved(0, weight=[[1, 2], [3, 4]], names=[["a"], ["ö"]]), full=True)

    assert named["weight"]["GLOBAL"]["worker_0"]["values"] == [[[1, 2], [3, 4]]]
    assert named["names"]["GLOBAL"]["worker_0"]["values"] == [[["a"], ["ö"]]]


def test_a_tensor_saved_by_shape_only_has_a_summary_without_numbers():
    step = SavedStep(2, "worker_1", "TRAIN", 1, {}, (), {"weight": (3, 4)})

    [summary] = collected(step)["weight"]["TRAIN"]["worker_1"]["values"]

    assert summary == {"shape": (3, 4), "min": None, "max": None, "mean": None}


def test_a_number_that_json_cannot_represent_becomes_a_string():
    text = to_json(collected(saved(0, loss=np.nan, weight=[np.inf, 1.0])))

    assert '"nan"' in text
    assert '"max": "inf"' in text


def test_once_wants_each_matching_name_one_time():
    wanted = once(lambda name: name != "weight")

    assert [wanted(name) for name in ("loss", "weight", "loss")] == [True, False, False]
