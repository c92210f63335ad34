"""The steps that rules are shown, of a job with several workers: compared with smdebug's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.doubles.debug_output import SavedJob
from watcher.debug_output.event_files import SavedStep
from watcher.debug_output.reader import DebugOutput, Reader
from watcher.debug_output.storage import Folder
from watcher.evaluation import feed
from watcher.evaluation.backtest import backtest
from watcher.evaluation.saved_data import SavedData

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]


@pytest.fixture
def job(tmp_path: Path) -> SavedJob:
    """Two workers, of which each has a gradient that the other has not; worker_1's becomes NaN."""
    job = SavedJob(tmp_path / "debug-output", workers=2)
    job.collections(gradients={"include_regex": ["gradient"]})
    for step in range(0, 12, 2):
        mode = "EVAL" if step == 6 else "TRAIN"
        b = np.array([np.nan, 1.0]) if step >= 8 else np.ones(2)
        for worker, own in (("worker_0", {"gradient/a": np.ones(2)}), ("worker_1", {"gradient/b": b})):
            both = np.array([float(step), len(worker + str(own)) / 7])
            job.step(step, {"gradient/both": both, **own}, worker=worker, mode=mode, mode_step=step // 2)
    job.end()
    return job


def output(job: SavedJob) -> DebugOutput:
    return DebugOutput(Folder(job.folder))


def test_each_tensor_is_as_smdebugs_tensor_value_has_it(job: SavedJob) -> None:
    from smdebug.trials import create_trial

    trial = create_trial(str(job.folder))
    shown = list(feed.for_rules(output(job).steps()))
    assert [one.step for one in shown] == trial.steps()
    for name in trial.tensor_names():
        for step in trial.tensor(name).steps():
            (value,) = (one.tensors[name] for one in shown if one.step == step)
            np.testing.assert_array_equal(value, trial.tensor(name).value(step))


def test_a_rule_judges_a_tensor_that_only_a_later_worker_saved(job: SavedJob) -> None:
    saved = SavedData("here", output(job))
    run = backtest(saved, "ExplodingTensor", [{}], lambda _: saved)
    [verdict] = run.run(lambda _: None)
    assert (verdict.status, verdict.step) == ("issues_found", 8)
    assert [row.tensor for row in verdict.evidence] == ["gradient/b"]


def test_another_job_is_compared_worker_by_worker(job: SavedJob, tmp_path: Path) -> None:
    other = SavedJob(tmp_path / "other", workers=2)
    other.collections()
    other.step(4, {"x": np.ones(1)}, worker="worker_0")
    other.step(4, {"gradient/b": np.array([1.0, 3.0])}, worker="worker_1")
    found = {"here": SavedData("here", output(job)), "there": SavedData("there", output(other))}
    run = backtest(found["here"], "SimilarAcrossRuns", [{"other_trials": "there"}], found.__getitem__)
    [verdict] = run.run(lambda _: None)
    assert (verdict.status, verdict.step) == ("issues_found", 4)
    assert [row.tensor for row in verdict.evidence] == ["gradient/b"]


def test_a_step_that_another_worker_saves_after_it_was_shown_is_not_shown_again(tmp_path: Path) -> None:
    job = SavedJob(tmp_path / "debug-output")  # its hook does not know of a second worker
    job.collections()
    reader = Reader(output(job))
    job.step(0, {"loss": np.ones(1)})
    assert [one.step for one in feed.for_rules(reader.read())] == [0]
    job.step(0, {"loss": np.zeros(1)}, worker="worker_1")
    job.step(1, {"loss": np.ones(1)})
    job.step(1, {"loss": np.zeros(1)}, worker="worker_1")
    assert [(one.step, one.worker) for one in feed.for_rules(reader.read())] == [(1, "worker_0")]


def saved(step: int, worker: str, mode: str = "GLOBAL", **tensors: float) -> SavedStep:
    values = {name: np.array(value) for name, value in tensors.items()}
    return SavedStep(step, worker, mode, step, values, tuple(values))


def test_a_step_in_several_modes_is_a_step_in_each() -> None:
    steps = [saved(3, "cloudwatch", "TRAIN", loss=1), saved(3, "cloudwatch", "EVAL", loss=2)]
    assert [(one.mode, float(one.tensors["loss"])) for one in feed.for_rules(steps)] == [
        ("TRAIN", 1.0),
        ("EVAL", 2.0),
    ]


def test_a_later_worker_in_another_mode_adds_only_what_the_first_has_not() -> None:
    steps = [saved(3, "worker_0", "TRAIN", loss=1), saved(3, "worker_1", "EVAL", loss=2)]
    assert [one.mode for one in feed.for_rules(steps)] == ["TRAIN"]
