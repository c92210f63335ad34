"""Following a job's debug output as it grows, written by smdebug's own writers."""

from __future__ import annotations

import json
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rules
from tests.doubles.debug_output import SavedJob, reduced
from watcher.debug_output import event_files, reader
from watcher.debug_output.collections import SaveConfig
from watcher.debug_output.event_files import SavedStep, UnreadableStep
from watcher.debug_output.reader import MAX_FILES_AHEAD, DebugOutput, Reader
from watcher.debug_output.storage import Folder, Storage, Stored
from watcher.errors import Unavailable, WatcherError
from watcher.evaluation.rule_run import RuleRun
from watcher.evaluation.steps import TensorSteps

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

LOSS = {"loss": np.float32(0.5)}


class Counted:
    """A storage that records the requests."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.uri = storage.uri
        self.requests: list[str] = []
        self.bytes = 0

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        self.requests.append(f"LIST {prefix} {after}".strip())
        return self._storage.list(prefix, after)

    def get(self, key: str, span: range | None = None) -> bytes | None:
        data = self._storage.get(key, span)
        self.requests.append(f"GET {key.partition('/')[0]}")
        self.bytes += len(data or b"")
        return data


@pytest.fixture
def job(tmp_path: Path) -> SavedJob:
    return SavedJob(tmp_path / "debug-output")


@pytest.fixture
def three(tmp_path: Path) -> SavedJob:
    return SavedJob(tmp_path / "debug-output", workers=3)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event files of more than 4 kB count as large."""
    monkeypatch.setattr(event_files, "FETCH_WHOLE_BYTES", 4096)


def reader_of(job: SavedJob, cursor: Any = None) -> Reader:
    return Reader(DebugOutput(Folder(job.folder)), cursor)


def counted(job: SavedJob) -> tuple[Counted, Reader]:
    storage = Counted(Folder(job.folder))
    return storage, Reader(DebugOutput(storage))


def steps(reader: Reader, **options: Any) -> list[tuple[int, str]]:
    return [(saved.step, saved.worker) for saved in reader.read(**options)]


# -- growing ------------------------------------------------------------------------------------------


def test_nothing_is_read_and_nothing_is_waited_for_before_the_collections_are_saved(job: SavedJob) -> None:
    reader = reader_of(job)
    assert reader.collections() is None
    assert steps(reader) == []
    job.step(0, LOSS)
    assert steps(reader) == []
    job.collections()
    assert reader.collections() is not None
    assert steps(reader) == [(0, "worker_0")]


def test_a_job_that_ended_before_it_saved_its_collections_is_still_read(job: SavedJob) -> None:
    job.step(0, LOSS)
    assert steps(reader_of(job), ended=True) == [(0, "worker_0")]


def test_a_refresh_is_one_listing_and_one_request_for_each_new_file(job: SavedJob) -> None:
    storage, reader = counted(job)
    for step in range(0, 300, 2):
        job.step(step, LOSS)
    job.collections()
    assert len(steps(reader)) == 150
    for step in (300, 302):
        job.step(step, LOSS)
    storage.requests.clear()
    assert steps(reader) == [(300, "worker_0"), (302, "worker_0")]
    listing, *gets = storage.requests
    assert listing == "LIST events/ events/000000000198/~"
    assert gets == ["GET events"] * 2


def test_a_refresh_without_new_files_is_one_listing(job: SavedJob) -> None:
    storage, reader = counted(job)
    assert steps(reader) == []
    assert storage.requests == ["LIST collections/000000000/"]


def test_a_file_that_smdebug_is_still_writing_is_not_read(job: SavedJob) -> None:
    job.collections()
    path = job.step(0, LOSS)
    path.rename(path.with_name(path.name + ".tmp"))
    assert steps(reader_of(job)) == []


def test_a_cursor_continues_after_the_last_step_that_was_read(job: SavedJob) -> None:
    job.collections()
    for step in range(5):
        job.step(step, LOSS)
    reader = reader_of(job)
    taken = reader.read()
    assert [next(taken).step, next(taken).step] == [0, 1]
    cursor = json.loads(json.dumps(reader.cursor))
    assert steps(reader_of(job, cursor)) == [(2, "worker_0"), (3, "worker_0"), (4, "worker_0")]
    taken.close()
    assert steps(reader)[0] == (2, "worker_0")


def test_only_a_few_files_are_prefetched_and_the_threads_end_with_the_reading(job: SavedJob) -> None:
    job.collections()
    for step in range(2 * MAX_FILES_AHEAD):
        job.step(step, LOSS)
    storage, reader = counted(job)
    taken = reader.read()
    next(taken)
    assert storage.requests.count("GET events") <= MAX_FILES_AHEAD + 1
    taken.close()
    for thread in threading.enumerate():
        if str(thread.name).startswith("tensors"):
            thread.join(5)
            assert not thread.is_alive()
    assert storage.requests.count("GET events") <= MAX_FILES_AHEAD + 1


def test_a_long_job_of_large_tensors_needs_only_the_memory_of_the_prefetched_files(
    job: SavedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    megabyte = 1 << 20
    monkeypatch.setattr(reader, "MAX_BYTES_AHEAD", 4 * megabyte)
    job.collections()
    for step in range(40):
        job.step(step, {"weight": np.zeros(megabyte // 8)})
    tracemalloc.start()
    try:
        for saved in reader_of(job).read():
            assert isinstance(saved, SavedStep)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 4 * megabyte < peak < 10 * megabyte


# -- workers ------------------------------------------------------------------------------------------


def test_a_step_is_held_back_until_all_workers_have_saved_it(three: SavedJob) -> None:
    three.collections()
    reader = reader_of(three)
    three.step(0, LOSS, worker="worker_0")
    three.step(0, LOSS, worker="worker_2")
    assert steps(reader) == []
    three.step(0, LOSS, worker="worker_1")
    assert steps(reader) == [(0, "worker_0"), (0, "worker_1"), (0, "worker_2")]


def test_a_waiting_step_costs_no_request_and_is_read_when_the_job_has_ended(three: SavedJob) -> None:
    three.collections()
    storage, reader = counted(three)
    three.step(0, LOSS, worker="worker_1")
    assert steps(reader) == []
    assert "GET events" not in storage.requests
    assert steps(reader, ended=True) == [(0, "worker_1")]


def test_a_step_that_arrives_after_a_later_one_is_read_and_marked(job: SavedJob) -> None:
    job.collections()
    job.step(0, LOSS)
    job.step(2, LOSS)
    reader = reader_of(job)
    assert len(steps(reader)) == 2
    job.step(1, {"loss": np.float32(7)})
    job.step(3, LOSS)
    late, new = reader.read()
    assert isinstance(late, SavedStep)
    assert isinstance(new, SavedStep)
    assert (late.step, late.late, late.tensors["loss"][0]) == (1, True, 7)
    assert (new.step, new.late) == (3, False)


def test_collections_of_all_workers_are_combined(three: SavedJob) -> None:
    three.collections_of("worker_0", 3, losses={"tensor_names": {"a"}, "include_regex": ["x"]})
    three.collections_of("worker_1", 3, losses={"tensor_names": {"b"}, "include_regex": ["x", "y"]})
    three.collections_of("worker_2", 3, gradients={"tensor_names": {"c"}})
    found = DebugOutput(Folder(three.folder)).collections()
    assert found is not None
    assert (found.num_workers, found.workers) == (3, ("worker_0", "worker_1", "worker_2"))
    assert found.by_name["losses"].tensor_names == {"a", "b"}
    assert found.by_name["losses"].include_regex == ("x", "y", "loss")
    assert found.by_name["gradients"].tensor_names == {"c"}


def test_collections_are_read_again_until_each_worker_has_written_its_own(three: SavedJob) -> None:
    storage, reader = counted(three)
    three.collections_of("worker_0", 2)
    assert reader.collections() is not None
    three.collections_of("worker_1", 2)
    reader.collections()
    requests = len(storage.requests)
    found = reader.collections()
    assert found is not None
    assert found.workers == ("worker_0", "worker_1")
    assert len(storage.requests) == requests


def test_a_damaged_collections_file_of_one_worker_is_reported_and_the_others_are_read(
    three: SavedJob,
) -> None:
    three.collections()
    (three.folder / "collections/000000000/worker_1_collections.json").write_text('{"collections": {')
    found = DebugOutput(Folder(three.folder)).collections()
    assert found is not None
    assert found.workers == ("worker_0", "worker_2")
    assert found.complete
    (damage,) = found.damaged
    assert "worker_1_collections.json: JSONDecodeError" in damage


def test_a_devices_name_is_read_as_tensorflow_writes_it(job: SavedJob) -> None:
    job.workers = ["_replica-0_task-1_device-GPU-0"]
    job.collections()
    job.step(0, LOSS, worker=job.workers[0])
    found = DebugOutput(Folder(job.folder)).collections()
    assert found is not None
    assert found.workers == ("/replica:0/task:1/device:GPU:0",)
    assert steps(reader_of(job)) == [(0, "/replica:0/task:1/device:GPU:0")]


def test_the_save_configuration_of_each_mode_is_read(job: SavedJob) -> None:
    from smdebug.core.modes import ModeKeys
    from smdebug.core.save_config import SaveConfig as Saved
    from smdebug.core.save_config import SaveConfigMode

    modes = {
        ModeKeys.TRAIN: SaveConfigMode(save_interval=10, start_step=5, end_step=100),
        ModeKeys.EVAL: SaveConfigMode(save_steps=[1, 2, 3]),
    }
    job.collections(losses={"save_config": Saved(modes)})
    found = DebugOutput(Folder(job.folder)).collections()
    assert found is not None
    assert found.by_name["losses"].save_configs == {
        "TRAIN": SaveConfig(10, 5, 100),
        "EVAL": SaveConfig(500, save_steps=(1, 2, 3)),
    }


# -- modes, reductions, shapes ------------------------------------------------------------------------


def test_a_step_has_its_mode_and_mode_step_even_when_no_tensor_of_it_is_wanted(
    job: SavedJob,
) -> None:
    job.collections()
    job.step(0, LOSS, mode="TRAIN", mode_step=0)
    job.step(1, LOSS, mode="EVAL", mode_step=0)
    job.step(2, LOSS, mode="TRAIN", mode_step=1)
    saved = list(reader_of(job).read(wanted=lambda name: False))
    assert [(step.step, step.mode, step.mode_step, step.names) for step in saved] == [
        (0, "TRAIN", 0, ("loss",)),
        (1, "EVAL", 0, ("loss",)),
        (2, "TRAIN", 1, ("loss",)),
    ]


def test_reductions_have_the_names_that_smdebug_gave_them(job: SavedJob) -> None:
    job.collections()
    job.step(0, reduced("conv0/weight", mean=0.25, abs_max=3.0))
    (saved,) = reader_of(job).read()
    assert {name: float(value[0]) for name, value in saved.tensors.items()} == {
        "smdebug/reductions/mean/conv0/weight": 0.25,
        "smdebug/reductions/abs_max/conv0/weight": 3.0,
    }


def shapes_saved(job: SavedJob) -> None:
    from smdebug.core.reduction_config import ReductionConfig

    job.collections(weights={"reduction_config": ReductionConfig(save_shape=True)})


def test_separately_saved_shapes_are_read_from_the_index(job: SavedJob) -> None:
    shapes_saved(job)
    job.step(0, LOSS, shapes={"weight": (3, 4)})
    job.step(1, {}, shapes={"weight": (3, 4)}, mode="EVAL", mode_step=7)
    storage, reader = counted(job)
    both, alone = reader.read()
    assert (both.shapes, list(both.tensors)) == ({"weight": (3, 4)}, ["loss"])
    assert (alone.shapes, alone.tensors) == ({"weight": (3, 4)}, {})
    assert (alone.mode, alone.mode_step) == ("EVAL", 7)
    assert "LIST index/" in storage.requests
    job.step(2, LOSS, shapes={"weight": (3, 4)})
    assert steps(reader) == [(2, "worker_0")]


def test_an_event_file_that_follows_its_index_is_awaited(job: SavedJob) -> None:
    shapes_saved(job)
    job.step(0, LOSS)
    away = job.folder / "away"
    job.step(1, LOSS).rename(away)
    reader = reader_of(job)
    assert steps(reader) == [(0, "worker_0")]
    away.rename(job.event_file(1))
    assert steps(reader) == [(1, "worker_0")]


def test_an_event_file_that_never_followed_its_index_is_reported(job: SavedJob) -> None:
    shapes_saved(job)
    job.step(0, LOSS).unlink()
    job.step(1, LOSS)
    job.step(2, LOSS).unlink()
    reader = reader_of(job)
    missing, there = reader.read()
    assert isinstance(missing, UnreadableStep)
    assert missing.reason == f"{job.event_file(0)} is not there"
    assert there.step == 1
    (last,) = reader.read(ended=True)
    assert isinstance(last, UnreadableStep)


def test_a_damaged_index_is_reported_when_shapes_depend_on_it(job: SavedJob) -> None:
    shapes_saved(job)
    job.step(0, LOSS)
    job.index_file(0).write_text('{"meta": {}}')
    job.step(1, LOSS)
    damaged, whole = reader_of(job).read()
    assert isinstance(damaged, UnreadableStep)
    assert f"{job.index_file(0)} is not an index file of smdebug" in damaged.reason
    assert isinstance(whole, SavedStep)


# -- large files --------------------------------------------------------------------------------------

LARGE = {f"layer{number}/weight": np.full(2000, number, dtype=np.float64) for number in range(10)}


def of_layer_3(name: str) -> bool:
    return name == "layer3/weight"


@pytest.mark.usefixtures("small_limit")
def test_only_the_wanted_tensors_of_a_large_file_are_fetched(job: SavedJob) -> None:
    job.collections()
    job.step(0, LARGE, mode="TRAIN", mode_step=4)
    storage, reader = counted(job)
    reader.collections()
    storage.bytes = 0
    (saved,) = reader.read(wanted=of_layer_3)
    assert list(saved.tensors) == ["layer3/weight"]
    np.testing.assert_array_equal(saved.tensors["layer3/weight"], LARGE["layer3/weight"])
    assert saved.names == tuple(LARGE)
    assert (saved.mode, saved.mode_step) == ("TRAIN", 4)
    assert storage.bytes - job.index_file(0).stat().st_size < 16_200 < job.event_file(0).stat().st_size / 9


@pytest.mark.usefixtures("small_limit")
def test_neighbours_in_a_large_file_are_fetched_together(job: SavedJob) -> None:
    job.collections()
    job.step(0, LARGE)
    storage, reader = counted(job)
    reader.collections()
    storage.requests.clear()
    near = {"layer0/weight", "layer1/weight", "layer8/weight"}
    (saved,) = reader.read(wanted=near.__contains__)
    assert {name: float(value[0]) for name, value in saved.tensors.items()} == {
        "layer0/weight": 0,
        "layer1/weight": 1,
        "layer8/weight": 8,
    }
    assert storage.requests.count("GET events") == 2


@pytest.mark.usefixtures("small_limit")
def test_a_large_file_is_fetched_whole_when_all_of_it_is_wanted(job: SavedJob) -> None:
    job.collections()
    job.step(0, LARGE)
    storage, reader = counted(job)
    (saved,) = reader.read()
    assert set(saved.tensors) == set(LARGE)
    assert "GET index" not in storage.requests


def shift(index: Any) -> None:
    index["tensor_payload"][3]["start_idx"] += 1


def swap(index: Any) -> None:
    payload = index["tensor_payload"]
    payload[3]["tensorname"], payload[4]["tensorname"] = payload[4]["tensorname"], payload[3]["tensorname"]


def exceed(index: Any) -> None:
    index["tensor_payload"][3]["start_idx"] = 10**9


def unname(index: Any) -> None:
    del index["tensor_payload"][3]["tensorname"]


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("spoil", [shift, swap, exceed, unname, None])
def test_a_wrong_or_missing_index_never_gives_a_wrong_value(job: SavedJob, spoil: Any) -> None:
    job.collections()
    job.step(0, LARGE)
    path = job.index_file(0)
    if spoil is None:
        path.unlink()
    else:
        index = json.loads(path.read_text())
        spoil(index)
        path.write_text(json.dumps(index))
    (saved,) = reader_of(job).read(wanted=of_layer_3)
    assert {name: set(value.tolist()) for name, value in saved.tensors.items()} == {"layer3/weight": {3.0}}


@pytest.mark.usefixtures("small_limit")
def test_a_truncated_large_file_is_reported(job: SavedJob) -> None:
    job.collections()
    path = job.step(0, LARGE)
    path.write_bytes(path.read_bytes()[:40_000])
    (damaged,) = reader_of(job).read(wanted=of_layer_3)
    assert isinstance(damaged, UnreadableStep)
    assert damaged.reason.startswith(f"{path}: cut off in the record at byte ")


# -- damage -------------------------------------------------------------------------------------------


def test_damaged_and_deleted_files_are_reported_once_and_the_rest_is_read(job: SavedJob) -> None:
    job.collections()
    for step in range(5):
        job.step(step, LOSS)
    path = job.event_file(1)
    path.write_bytes(path.read_bytes()[:-1])
    job.event_file(3).write_bytes(job.event_file(4).read_bytes())
    reader = reader_of(job)
    found = list(reader.read())
    assert [isinstance(step, SavedStep) for step in found] == [True, False, True, False, True]
    assert isinstance(found[3], UnreadableStep)
    assert found[3].reason == f"{job.event_file(3)}: it holds a tensor of step 4"
    assert steps(reader) == []


def test_a_file_deleted_between_listing_and_reading_is_reported(job: SavedJob) -> None:
    class Vanishing(Counted):
        def get(self, key: str, span: range | None = None) -> bytes | None:
            return None if key.startswith("events/000000000001/") else super().get(key, span)

    job.collections()
    for step in range(3):
        job.step(step, LOSS)
    reader = Reader(DebugOutput(Vanishing(Folder(job.folder))))
    assert [isinstance(step, SavedStep) for step in reader.read()] == [True, False, True]


def test_a_failed_request_ends_the_reading_and_the_next_refresh_continues_there(job: SavedJob) -> None:
    class Failing(Counted):
        down = True

        def get(self, key: str, span: range | None = None) -> bytes | None:
            if self.down and key.startswith("events/000000000002/"):
                raise Unavailable("s3:GetObject did not answer", operation="s3:GetObject")
            return super().get(key, span)

    job.collections()
    for step in range(5):
        job.step(step, LOSS)
    storage = Failing(Folder(job.folder))
    reader = Reader(DebugOutput(storage))
    with pytest.raises(Unavailable):
        list(reader.read())
    assert list(reader.cursor["given"]["worker_0"]) == [0, 1]
    storage.down = False
    assert [saved.step for saved in reader.read()] == [2, 3, 4]


def test_an_unreadable_folder_is_named_in_the_error(job: SavedJob) -> None:
    job.collections()
    job.event_file(0).mkdir(parents=True)  # a folder where a file belongs
    job.step(1, LOSS)
    assert steps(reader_of(job)) == [(1, "worker_0")]
    with pytest.raises(WatcherError, match=r"000000000000_worker_0\.tfevents cannot be read"):
        Folder(job.folder).get("events/000000000000/000000000000_worker_0.tfevents")


def test_other_files_in_the_folder_are_ignored(job: SavedJob) -> None:
    job.collections()
    job.step(3, LOSS)
    (job.event_file(3).parent / "notes.txt").write_text("x")
    (job.folder / "events/README").write_text("x")
    (job.folder / "events/000000000004").mkdir()
    assert steps(reader_of(job)) == [(3, "worker_0")]


def test_the_end_is_known_when_smdebug_wrote_it(job: SavedJob) -> None:
    job.collections()
    output = DebugOutput(Folder(job.folder))
    assert not output.ended()
    job.end()
    assert output.ended()


# -- a job that begins again --------------------------------------------------------------------------


def write_again(job: SavedJob, step: int, at: float) -> None:
    os.utime(job.step(step, {"loss": np.float32(at)}), (at, at))


@pytest.mark.parametrize("length", [4, 120])
def test_a_job_that_begins_again_is_read_again(job: SavedJob, length: int) -> None:
    job.collections()
    for step in range(length):
        write_again(job, step, at=1000 + step)
    reader = reader_of(job)
    first = [saved for saved in reader.read() if isinstance(saved, SavedStep)]
    assert [saved.step for saved in first] == list(range(length))
    assert not any(saved.begins_again for saved in first)
    assert steps(reader) == []

    write_again(job, 0, at=5000)
    reader = reader_of(job, json.loads(json.dumps(reader.cursor)))
    (again,) = [saved for saved in reader.read() if isinstance(saved, SavedStep)]
    assert (again.step, again.begins_again, again.late, again.tensors["loss"]) == (0, True, False, 5000)
    write_again(job, 1, at=5001)
    reader = reader_of(job, json.loads(json.dumps(reader.cursor)))
    (further,) = [saved for saved in reader.read() if isinstance(saved, SavedStep)]
    assert (further.step, further.begins_again) == (1, False)


def test_a_job_that_continues_from_a_checkpoint_is_read_from_there(job: SavedJob) -> None:
    job.collections()
    for step in range(200):
        write_again(job, step, at=1000 + step)
    reader = reader_of(job)
    assert len(steps(reader)) == 200
    write_again(job, 100, at=5000)
    write_again(job, 101, at=5001)
    assert steps(reader) == [(100, "worker_0"), (101, "worker_0")]
    assert steps(reader, ended=True) == []


def test_rules_begin_anew_with_a_job_that_begins_again(job: SavedJob) -> None:
    job.collections()
    for step in range(4):
        write_again(job, step, at=1000 - step)  # the loss falls
    output = DebugOutput(Folder(job.folder))
    states: dict[str, str] = {}
    cursor = ""

    def look() -> RuleRun:
        nonlocal states, cursor
        source = TensorSteps(output, cursor, ended=False, collections=lambda reader: reader.collections())
        run = RuleRun(
            {"r": rules.load("LossNotDecreasing", {"num_steps": "1"})}, source, states, lambda _: None
        )
        run.read(source.collections() or {})
        states, cursor = run.states(), source.cursor
        return run

    look()
    os.utime(job.step(0, {"loss": np.float32(9000)}), (5000, 5000))  # higher than ever, and not a rise
    os.utime(job.step(1, {"loss": np.float32(8000)}), (5001, 5001))
    run = look()
    assert (run.steps, run.opening("r")) == (2, None)
    os.utime(job.step(2, {"loss": np.float32(8500)}), (5002, 5002))
    opening = look().opening("r")
    assert opening
    assert (opening.step, opening.reason) == (2, "increase")
