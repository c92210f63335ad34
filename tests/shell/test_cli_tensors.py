"""`watcher tensors`, compared with smdebug's `create_trial` on the same files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.doubles.debug_output import SavedJob, reduced
from tests.shell.conftest import CommandResult
from tests.trials import CREATED_AT, upload
from watcher.sandbox.process import Sandbox

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:_SixMetaPathImporter:ImportWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

Watcher = Callable[..., CommandResult]


@pytest.fixture
def saved(tmp_path: Path) -> SavedJob:
    """Two workers with alternating modes, and a weight at every second step of TRAIN."""
    job = SavedJob(tmp_path / "debug-output", workers=2)
    random = np.random.default_rng(3)
    counts = {"TRAIN": 0, "EVAL": 0, "GLOBAL": 0}
    for step in range(0, 24, 2):
        mode = ("TRAIN", "TRAIN", "EVAL", "GLOBAL")[step // 2 % 4]
        for worker in job.workers:
            tensors: dict[str, Any] = {
                "loss": np.float32(random.random()),
                **reduced("gradient/fc", mean=float(random.random())),
            }
            if mode == "TRAIN" and counts[mode] % 2 == 0:
                tensors["fc.weight"] = random.normal(size=(2, 3))
            mode_step = step if mode == "GLOBAL" else counts[mode]
            job.step(step, tensors, worker=worker, mode=mode, mode_step=mode_step)
        counts[mode] += 1
    job.collections()
    job.end()
    return job


def test_names_modes_workers_and_steps_are_those_of_smdebugs_create_trial(
    watcher: Watcher, saved: SavedJob, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SMDEBUG_TRAINING_END_DELAY_REFRESH", "0")  # smdebug would wait for a second
    from smdebug.core.modes import ModeKeys
    from smdebug.trials import create_trial

    trial = create_trial(str(saved.folder))
    trial.maybe_refresh()

    document = watcher("tensors", str(saved.folder), "--full", "--json").json

    whole = {"loss", "fc.weight"}
    assert whole | {"smdebug/reductions/mean/gradient/fc"} == set(document)
    assert whole | {"gradient/fc"} == set(trial.tensor_names())
    for name in whole:
        tensor = trial.tensor(name)
        expected: dict[str, Any] = {}
        for mode in ModeKeys:
            for step in tensor.steps(mode=mode):
                for worker in tensor.workers(step, mode):
                    series = expected.setdefault(mode.name, {}).setdefault(
                        worker, {"steps": [], "values": []}
                    )
                    series["steps"].append(step)
                    value = tensor.value(step, mode, worker)
                    series["values"].append(value.item() if value.size == 1 else value.tolist())
        assert document[name] == expected
    assert document["loss"]["GLOBAL"]["worker_1"]["steps"] == list(range(0, 24, 2))
    assert document["loss"]["TRAIN"]["worker_1"]["steps"] == list(range(6))


def test_a_larger_tensor_is_summarised_unless_the_whole_is_requested(watcher: Watcher, saved: SavedJob):
    options = ("tensors", str(saved.folder), "--name", "weight", "--json")

    [short] = watcher(*options).json.values()
    [whole] = watcher(*options, "--full").json.values()

    first, nested = short["TRAIN"]["worker_0"]["values"][0], whole["TRAIN"]["worker_0"]["values"][0]
    assert list(first) == ["shape", "min", "max", "mean"]
    assert first["shape"] == [2, 3]
    assert (first["min"], first["max"]) == (np.min(nested), np.max(nested))
    assert first["mean"] == pytest.approx(np.mean(nested))


def test_the_readable_output_lists_names_modes_workers_steps_and_shapes(watcher: Watcher, saved: SavedJob):
    ran = watcher("tensors", str(saved.folder))

    header, *rows = (line.split() for line in ran.out.splitlines())
    assert (ran.code, ran.err) == (0, "")
    assert header == ["TENSOR", "MODE", "WORKER", "STEPS", "GLOBAL", "STEPS", "SHAPE"]
    assert ["fc.weight", "TRAIN", "worker_0", "3", "0", "to", "16", "2", "×", "3"] in rows
    assert ["loss", "EVAL", "worker_1", "3", "4", "to", "20", "scalar"] in rows


def test_with_a_name_the_readable_output_lists_the_values_step_by_step(watcher: Watcher, saved: SavedJob):
    ran = watcher("tensors", str(saved.folder), "--name", "^loss$|weight")

    header, *rows = (line.split() for line in ran.out.splitlines())
    assert header == ["STEP", "MODE", "MODE", "STEP", "WORKER", "TENSOR", "VALUE"]
    assert [int(row[0]) for row in rows] == sorted(int(row[0]) for row in rows)
    assert {row[4] for row in rows} == {"loss", "fc.weight"}
    assert rows[-1][:5] == ["22", "GLOBAL", "22", "worker_1", "loss"]
    weight = next(row for row in rows if row[4] == "fc.weight")
    assert " ".join(weight[5:]).startswith("2 × 3, -")
    assert "mean" in weight


def test_the_tensors_of_a_job_are_found_by_its_name(
    watcher: Watcher, aws_environment: Sandbox, saved: SavedJob
):
    with closing(aws_environment.client("s3")) as s3:
        s3.create_bucket(Bucket="team")
        upload(saved.folder, s3, "team", "churn")
    aws_environment.control.put_training_job(
        "churn",
        CreationTime=CREATED_AT,
        TrainingJobStatus="Completed",
        DebugHookConfig={"S3OutputPath": "s3://team/debug/"},
    )

    by_name = watcher("tensors", "churn", "--json").json

    assert by_name == watcher("tensors", str(saved.folder), "--json").json
    assert by_name == watcher("tensors", "s3://team/debug/churn/debug-output/", "--json").json


def test_only_complete_steps_of_a_job_in_progress_are_shown(
    watcher: Watcher, aws_environment: Sandbox, saved: SavedJob
):
    saved.event_file(22, "worker_1").unlink()
    with closing(aws_environment.client("s3")) as s3:
        s3.create_bucket(Bucket="team")
        upload(saved.folder, s3, "team", "churn")
    members = {"CreationTime": CREATED_AT, "DebugHookConfig": {"S3OutputPath": "s3://team/debug"}}
    aws_environment.control.put_training_job("churn", TrainingJobStatus="InProgress", **members)
    in_progress = watcher("tensors", "churn", "--json").json
    aws_environment.control.put_training_job("churn", TrainingJobStatus="Stopped", **members)
    ended = watcher("tensors", "churn", "--json").json

    assert in_progress["loss"]["GLOBAL"]["worker_0"]["steps"][-1] == 20
    assert ended["loss"]["GLOBAL"]["worker_0"]["steps"][-1] == 22


def test_a_damaged_step_is_reported_and_skipped(watcher: Watcher, saved: SavedJob):
    saved.event_file(4).write_bytes(b"cut")

    ran = watcher("tensors", str(saved.folder), "--json")

    assert ran.code == 0
    assert ran.json["loss"]["EVAL"]["worker_0"]["steps"] == [1, 2]
    assert ran.json["loss"]["EVAL"]["worker_1"]["steps"] == [0, 1, 2]
    assert "unreadable_step" in ran.err
    assert str(saved.event_file(4)) in ran.err


def test_values_can_be_drawn(watcher: Watcher, saved: SavedJob, tmp_path: Path):
    ran = watcher("tensors", str(saved.folder), "--name", "loss", "--plot", "loss.png")

    assert ran.code == 0
    data = (tmp_path / "loss.png").read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert data.startswith(b"\x89PNG")
    assert width > height > 400


def test_a_name_that_matches_nothing_is_reported(watcher: Watcher, saved: SavedJob):
    assert watcher("tensors", "debug-output", "--name", "nosuch").out == (
        "No tensor whose name matches nosuch is saved in debug-output.\n"
    )
    assert watcher("tensors", "debug-output", "--name", "nosuch", "--json").json == {}


COMMANDS = [["tensors"], ["tensors", "--json"], ["evaluate", "--rule", "LossNotDecreasing"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_without_debug_output_is_refused_with_the_nearest_that_has_some(
    watcher: Watcher, saved: SavedJob, tmp_path: Path, command: list[str]
):
    (tmp_path / "empty").mkdir()
    for place, said in (
        ("empty", "no debug output lies at empty; did you mean "),
        (".", "no debug output lies at .; did you mean "),
        ("./debug-outptu", "there is no folder ./debug-outptu; did you mean "),
        ("debug-output/events", "no debug output lies at debug-output/events; did you mean "),
    ):
        ran = watcher(*command, place)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == f"watcher: {said}{tmp_path / 'debug-output'}?\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_address_on_s3_without_debug_output_is_refused_with_the_nearest_that_has_some(
    watcher: Watcher, aws_environment: Sandbox, command: list[str]
):
    s3 = aws_environment.client("s3")
    s3.create_bucket(Bucket="team")
    s3.put_object(Bucket="team", Key="debug/churn/debug-output/events/000000000000/x.tfevents", Body=b"")
    for place in ("debug/churn/debug-outptu", "debug", "debug/", "debug/chrun/debug-output", "debug/churn"):
        ran = watcher(*command, f"s3://team/{place}")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == (
            f"watcher: no debug output lies at s3://team/{place}; did you mean "
            "s3://team/debug/churn/debug-output?\n"
        )
    ran = watcher(*command, "s3://maet/debug/churn/debug-output")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "s3://maet/debug/churn/debug-output: there is no such bucket" in ran.err
    assert watcher("logs", "s3://team/debug/churn/debug-output").code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["debug-output", "--name", "("], "--name (: missing )"),
        (["debug-output", "--full"], "--full needs --json"),
        (["no/such/folder"], "there is no folder no/such/folder"),
        (["s3://"], "'s3://' is not a place on S3: it should look like s3://BUCKET/PATH/JOB/debug-output"),
    ],
)
def test_unusable_arguments_give_one_line_and_exit_code_2(
    watcher: Watcher, aws_environment: Sandbox, saved: SavedJob, arguments, words
):
    ran = watcher("tensors", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"watcher: {words}")
    assert ran.err.count("\n") == 1


def test_a_folder_needs_no_region_and_no_credentials(watcher: Watcher, saved: SavedJob, monkeypatch):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)

    assert watcher("tensors", str(saved.folder)).code == 0
