"""Watcher reads everything in a trial as smdebug does: names, steps, modes, workers, values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.doubles.debug_output import SavedJob, reduced
from tests.shell.smdebug_parity import compare

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:_SixMetaPathImporter:ImportWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _smdebug_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep smdebug from sleeping for a second when it sees that a job has ended."""
    monkeypatch.setenv("SMDEBUG_TRAINING_END_DELAY_REFRESH", "0")


def train_xgboost(folder: Path, collections: dict[str, str], objective: str) -> Path:
    """Train ten rounds with smdebug's own hook, which saves these collections at these intervals."""
    import xgboost

    from watcher.sandbox.containers.xgboost_hook import create_hook

    random = np.random.default_rng(5)
    rows = random.normal(size=(60, 4))
    label = (rows[:, 0] + random.normal(size=60) > 0).astype(int) + (rows[:, 1] > 1)
    data = xgboost.DMatrix(rows, label if objective.startswith("multi") else label > 0)
    job = {
        "TrainingJobName": "job",
        "HyperParameters": {"objective": objective},
        "DebugHookConfig": {
            "S3OutputPath": str(folder),
            "CollectionConfigurations": [
                {"CollectionName": name, "CollectionParameters": {"save_interval": interval}}
                for name, interval in collections.items()
            ],
        },
    }
    hook = create_hook(job, folder, data, data)
    parameters: dict[str, Any] = {"objective": objective, "max_depth": 3, "nthread": 1}
    if objective.startswith("multi"):
        parameters["num_class"] = 3
    xgboost.train(
        parameters,
        data,
        10,
        evals=[(data, "train"), (data, "validation")],
        callbacks=[hook],
        verbose_eval=False,
    )
    return folder / "job" / "debug-output"


@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob"])
def test_an_xgboost_training_is_read_completely(tmp_path: Path, objective: str) -> None:
    collections = {
        "metrics": "1",
        "feature_importance": "3",
        "trees": "2",
        "predictions": "5",
        "labels": "5",
        "hyperparameters": "10",
        "average_shap": "4",
        "full_shap": "9",
    }
    values = compare(train_xgboost(tmp_path, collections, objective))
    names = {name for _, name, _, _ in values}
    assert len(names) > 20
    for part in (
        "train-",
        "validation-",
        "feature_importance/",
        "trees/",
        "predictions",
        "labels",
        "average_shap/",
    ):
        assert any(name.startswith(part) for name in names), part
    assert "hyperparameters/objective" in names


def test_several_workers_modes_reductions_and_types_are_read(tmp_path: Path) -> None:
    job = SavedJob(tmp_path / "debug-output", workers=3)
    random = np.random.default_rng(1)
    counts = {"TRAIN": 0, "EVAL": 0, "PREDICT": 0, "GLOBAL": 0}
    for step in range(0, 60, 3):
        mode = ("TRAIN", "TRAIN", "EVAL", "PREDICT", "GLOBAL")[step // 3 % 5]
        for worker in job.workers:
            job.step(
                step,
                {
                    "loss": np.float32(random.random()),
                    "conv/weight:0": random.normal(size=(3, 4)),
                    "labels": random.integers(0, 5, 7),
                    "text": np.array(["a", "größe"]),
                    "odd": np.array([np.nan, np.inf, -0.0], dtype=np.float16),
                    **reduced("gradient/conv", mean=random.random(), abs_max=random.random(), l2=2.5),
                    **reduced("conv/weight", std=random.random()),
                },
                worker=worker,
                mode=mode,
                mode_step=step if mode == "GLOBAL" else counts[mode],
            )
        counts[mode] += 2
    job.collections(gradients={"include_regex": ["^gradient"]}, nothing={"include_regex": ["^none$"]})
    values = compare(job.folder)
    assert {mode for mode, *_ in values} == set(counts)
    assert {worker for *_, worker in values} == set(job.workers)
    assert len(values) == 20 * 3 * 9


def test_workers_with_different_steps_and_tensors_are_read(tmp_path: Path) -> None:
    job = SavedJob(tmp_path / "debug-output", workers=2)
    job.collections()
    for step in range(0, 10, 2):
        job.step(step, {"loss": np.float64(step), "only_0": np.ones(3)}, worker="worker_0")
    for step in range(0, 10, 3):
        job.step(step, {"loss": np.float64(-step)}, worker="worker_1")
    assert len(compare(job.folder)) == 14


def test_shapes_saved_instead_of_values_are_read(tmp_path: Path) -> None:
    from smdebug.core.reduction_config import ReductionConfig

    job = SavedJob(tmp_path / "debug-output")
    job.collections(weights={"reduction_config": ReductionConfig(save_shape=True)})
    for step in range(4):
        shapes = {"weight": (3, step + 1)}
        job.step(step, {"loss": np.ones(1)} if step % 2 else {}, shapes=shapes, mode="TRAIN", mode_step=step)
    assert len(compare(job.folder)) == 2


def test_large_files_are_read_by_their_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watcher.debug_output.event_files.FETCH_WHOLE_BYTES", 2000)
    job = SavedJob(tmp_path / "debug-output")
    job.collections()
    for step in range(5):
        job.step(
            step,
            {f"weight{number}": np.random.default_rng(step).random(50 * number) for number in range(1, 9)},
        )
    assert len(compare(job.folder)) == 40
