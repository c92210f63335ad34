"""Debug output on S3: a real job's, read here and by smdebug."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.shell import xgboost_job
from watcher.aws.tensors import DebugOutput, SavedSteps
from watcher.errors import NotFound, UsageError, WatcherError
from watcher.sandbox.process import Sandbox

BUCKET = xgboost_job.BUCKET
COLLECTIONS = "collections/000000000/worker_0_collections.json"


@pytest.fixture(scope="module")
def trained(_shared_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A job `trained` of ten rounds has saved its metrics every second one, and its trees at 0 and 5."""
    _shared_sandbox.control.reset()
    xgboost_job.put_blobs(_shared_sandbox)
    job = xgboost_job.job("trained")
    job["DebugHookConfig"]["CollectionConfigurations"] += [
        xgboost_job.collection("trees", save_interval="5"),
        xgboost_job.collection("predictions", save_interval="5"),
    ]
    ran = xgboost_job.run(_shared_sandbox, "xgboost", job, tmp_path_factory.mktemp("job"))
    assert ran.returncode == 0, ran.stderr
    return _shared_sandbox


@pytest.fixture
def s3(trained: Sandbox) -> Any:
    return trained.client("s3")


@pytest.fixture
def output(s3: Any) -> DebugOutput:
    return DebugOutput(s3, xgboost_job.debug_output("trained"))


@pytest.fixture
def copy(s3: Any, request: pytest.FixtureRequest) -> Callable[[], str]:
    """A copy of the output for a test to spoil: its prefix, without the bucket."""

    def copy() -> str:
        prefix = f"{request.node.name}/debug-output/"
        for key, data in objects(s3).items():
            s3.put_object(Bucket=BUCKET, Key=prefix + key, Body=data)
        return prefix

    return copy


def objects(s3: Any) -> dict[str, bytes]:
    """The job's debug output, by key below its prefix."""
    prefix = "debug/trained/debug-output/"
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    return {
        item["Key"].removeprefix(prefix): s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
        for item in listed
    }


def numbers(saved: SavedSteps) -> list[int]:
    return [step.step for step in saved.steps]


@pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning")
def test_every_value_is_the_one_that_smdebug_reads(output: DebugOutput, s3: Any, tmp_path: Path) -> None:
    for key, data in objects(s3).items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(data)
    (tmp_path / "training_job_end.ts").touch()  # else smdebug would wait for more

    from smdebug.core.modes import ModeKeys
    from smdebug.trials import create_trial

    trial = create_trial(str(tmp_path))
    theirs = {
        (name, step, worker): trial.tensor(name).value(step, worker=worker)
        for name in trial.tensor_names()
        for step in trial.tensor(name).steps()
        for worker in trial.workers()
    }
    saved = output.read()
    ours = {
        (name, step.step, step.worker): value for step in saved.steps for name, value in step.tensors.items()
    }
    assert {step.mode for step in saved.steps} == {"GLOBAL"}
    assert [step.mode_step for step in saved.steps] == trial.steps(mode=ModeKeys.GLOBAL)
    assert len(ours) > 20
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert (value.dtype, value.shape) == (theirs[key].dtype, theirs[key].shape)
        assert value.tobytes() == theirs[key].tobytes()


def test_the_steps_are_those_that_the_collections_asked_for(output: DebugOutput) -> None:
    saved = output.read()
    assert numbers(saved) == [0, 2, 4, 5, 6, 8]
    assert saved.newest == 8
    assert set(saved.steps[1].tensors) == {"train-logloss", "validation-logloss"}
    assert {"trees/Node", "predictions", "train-logloss"} <= set(saved.steps[0].tensors)
    assert "train-logloss" not in saved.steps[3].tensors
    assert saved.steps[0].worker == "worker_0"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"after": 4}, [5, 6, 8]),
        ({"after": 3}, [4, 5, 6, 8]),
        ({"after": 8}, []),
        ({"until": 5}, [0, 2, 4, 5]),
        ({"last": 2}, [6, 8]),
        ({"until": 5, "last": 2}, [4, 5]),
        ({"last": 100}, [0, 2, 4, 5, 6, 8]),
    ],
)
def test_only_the_steps_asked_for_are_read(
    output: DebugOutput, limits: dict[str, int], expected: list[int]
) -> None:
    assert numbers(output.read(**limits)) == expected


def test_only_wanted_tensors_are_there(output: DebugOutput) -> None:
    saved = output.read(wanted=lambda name: name == "train-logloss")
    assert [list(step.tensors) for step in saved.steps] == [["train-logloss"]] * 3 + [[]] + [
        ["train-logloss"]
    ] * 2


def test_the_collections_are_smdebugs(output: DebugOutput) -> None:
    collections = output.collections()
    assert collections is not None
    assert collections["metrics"].include_regex == ("^[a-zA-z]+-[a-zA-z0-9]+$",)
    assert "train-logloss" in collections["metrics"].tensor_names
    assert "losses" in collections


def test_where_nothing_is_saved_it_says_so_at_once(s3: Any) -> None:
    nothing = DebugOutput(s3, f"s3://{BUCKET}/debug/another-job/debug-output")
    assert nothing.read() == SavedSteps()
    assert nothing.collections() is None


def test_a_bucket_that_is_not_there_is_an_error_that_names_the_operation(s3: Any) -> None:
    with pytest.raises(NotFound, match="s3:ListBucket"):
        DebugOutput(s3, "s3://no-such-bucket/job/debug-output").read()


def test_a_damaged_file_is_reported_and_the_others_are_read(s3: Any, copy: Callable[[], str]) -> None:
    prefix = copy()
    cut = f"{prefix}events/000000000004/000000000004_worker_0.tfevents"
    whole = s3.get_object(Bucket=BUCKET, Key=cut)["Body"].read()
    s3.put_object(Bucket=BUCKET, Key=cut, Body=whole[:-1])
    empty = f"{prefix}events/000000000008/000000000008_worker_0.tfevents"
    s3.put_object(Bucket=BUCKET, Key=empty, Body=b"")

    saved = DebugOutput(s3, f"s3://{BUCKET}/{prefix}").read()
    assert numbers(saved) == [0, 2, 5, 6]
    assert saved.newest == 8
    assert [damage.split(": ")[0] for damage in saved.damaged] == [
        f"s3://{BUCKET}/{cut}",
        f"s3://{BUCKET}/{empty}",
    ]
    assert saved.damaged[1].endswith("the file is empty")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"collections": {"metrics": {}}}', b"\xff"])
def test_a_collections_file_that_is_none_is_named(s3: Any, copy: Callable[[], str], text: bytes) -> None:
    prefix = copy()
    s3.put_object(Bucket=BUCKET, Key=prefix + COLLECTIONS, Body=text)
    with pytest.raises(WatcherError, match=r"worker_0_collections\.json is no collections file of smdebug"):
        DebugOutput(s3, f"s3://{BUCKET}/{prefix}").collections()


def test_several_workers_of_one_step_stand_beside_each_other(s3: Any, copy: Callable[[], str]) -> None:
    prefix = copy()
    key = f"{prefix}events/000000000002/000000000002_worker_%d.tfevents"
    s3.copy_object(Bucket=BUCKET, Key=key % 1, CopySource={"Bucket": BUCKET, "Key": key % 0})
    saved = DebugOutput(s3, f"s3://{BUCKET}/{prefix}").read(until=2)
    assert [(step.step, step.worker) for step in saved.steps] == [
        (0, "worker_0"),
        (2, "worker_0"),
        (2, "worker_1"),
    ]


def test_more_files_than_a_page_lists_are_all_read(trained: Sandbox) -> None:
    s3 = trained.client("s3")
    pages = []

    def small(params: dict[str, Any], **_: Any) -> None:
        pages.append(params.get("ContinuationToken"))
        params["MaxKeys"] = 2

    s3.meta.events.register("before-parameter-build.s3.ListObjectsV2", small)
    assert numbers(DebugOutput(s3, xgboost_job.debug_output("trained")).read()) == [0, 2, 4, 5, 6, 8]
    assert len(pages) == 3


@pytest.mark.parametrize("uri", ["", "debug-output", "/tmp/out", "s3:/bucket/x", "https://bucket/x", "s3://"])
def test_a_place_that_is_not_on_s3_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="is no place on S3: it should look like s3://"):
        DebugOutput(None, uri)  # type: ignore[arg-type] # it is never asked


@pytest.mark.parametrize("ending", ["", "/", "//"])
def test_slashes_too_many_are_forgiven(s3: Any, ending: str) -> None:
    uri = f"s3://{BUCKET}/debug//trained/debug-output{ending}"
    assert numbers(DebugOutput(s3, uri).read(last=1)) == [8]
