"""Compares everything that smdebug's `create_trial` reads from a folder with what Watcher reads."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from watcher.debug_output.event_files import SavedStep
from watcher.debug_output.reader import DebugOutput, Reader
from watcher.debug_output.storage import Folder

Values = dict[tuple[str, str, int, str], Any]
"""Values by mode, saved name, mode step and worker."""


def compare(folder: Path) -> Values:
    """Assert that both agree. Returns the values, so that a test can check that there are some."""
    from smdebug.trials import create_trial

    from watcher.evaluation.trial import SavedTrial

    (folder / "training_job_end.ts").touch()  # otherwise smdebug would wait for more
    theirs = create_trial(str(folder))
    theirs.maybe_refresh()
    output = DebugOutput(Folder(folder))
    ours = SavedTrial(output)
    assert ours.begun()
    steps = list(ours.follow(ended=True))

    assert steps == theirs.steps() == ours.steps()
    assert_same_trial(ours, theirs)
    values = values_of(theirs)
    assert_same_values(values_of(ours), values)
    assert_same_values(values_read(output), values)
    return values


def assert_same_trial(ours: Any, theirs: Any) -> None:
    from smdebug.core.modes import ModeKeys

    assert ours.name == theirs.name
    assert ours.workers() == theirs.workers()
    assert ours.num_workers == theirs.num_workers
    assert sorted(ours.modes(), key=str) == sorted(theirs.modes(), key=str)
    assert ours.tensor_names() == theirs.tensor_names()
    assert ours.collections() == theirs.collections()
    for name in theirs.collections():
        assert ours.tensor_names(collection=name) == theirs.tensor_names(collection=name)
    for mode in ModeKeys:
        assert ours.steps(mode=mode) == theirs.steps(mode=mode)
        for step in theirs.steps(mode=mode):
            assert ours.global_step(mode, step) == theirs.global_step(mode, step)
            assert ours.tensor_names(step=step, mode=mode) == theirs.tensor_names(step=step, mode=mode)
    for step in theirs.steps():
        assert ours.mode_modestep(step) == theirs.mode_modestep(step)
    for name in theirs.tensor_names():
        mine, other = ours.tensor(name), theirs.tensor(name)
        for mode in ModeKeys:
            assert mine.steps(mode=mode) == other.steps(mode=mode)
            for step in other.steps(mode=mode):
                assert sorted(mine.workers(step, mode)) == sorted(other.workers(step, mode))
                assert mine.prev_steps(step, 2, mode) == other.prev_steps(step, 2, mode)
                assert shape(mine, step, mode) == shape(other, step, mode)


def shape(tensor: Any, step: int, mode: Any) -> Any:
    from smdebug.exceptions import ShapeUnavailableForStep

    try:
        return tuple(tensor.shape(step, mode))
    except ShapeUnavailableForStep:
        return None


def values_of(trial: Any) -> Values:
    """All values and saved reductions of a trial."""
    from smdebug.core.modes import ModeKeys
    from smdebug.core.reductions import get_reduction_tensor_name
    from smdebug.exceptions import TensorUnavailableForStep

    values: Values = {}
    for name in trial.tensor_names():
        tensor = trial.tensor(name)
        for mode in tensor._mode_steps:
            for step in tensor._mode_steps[mode].steps():
                for worker in tensor.workers(step, mode):
                    assert isinstance(mode, ModeKeys)
                    with suppress(TensorUnavailableForStep):  # only its reductions or its shape were saved
                        values[mode.name, name, step, worker] = tensor.value(step, mode, worker)
                    for (reduction, of_abs), value in tensor.reduction_values(step, mode, worker).items():
                        saved_as = get_reduction_tensor_name(
                            name, reduction, of_abs, remove_colon_index=False
                        )
                        values[mode.name, saved_as, step, worker] = value
    return values


def values_read(output: DebugOutput) -> Values:
    saved = list(Reader(output).read(ended=True))
    assert all(isinstance(step, SavedStep) for step in saved)
    return {
        (step.mode, name, step.mode_step, step.worker): value
        for step in saved
        if isinstance(step, SavedStep)
        for name, value in step.tensors.items()
    }


def assert_same_values(ours: Values, theirs: Values) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        mine = ours[key]
        assert (mine.dtype, mine.shape) == (value.dtype, value.shape), key
        np.testing.assert_array_equal(mine, value, err_msg=str(key))
        if value.dtype.kind in "fc":
            assert mine.tobytes() == value.tobytes(), key  # compares NaNs too
