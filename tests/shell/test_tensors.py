"""Debug output of a real job on S3, read at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from tests.shell import xgboost_job
from watcher.debug_output.event_files import SavedStep, UnreadableStep
from watcher.debug_output.reader import DebugOutput, Reader
from watcher.debug_output.storage import S3Prefix
from watcher.errors import NotFound, UsageError, WatcherError
from watcher.sandbox.process import Sandbox

BUCKET = xgboost_job.BUCKET
COLLECTIONS = "collections/000000000/worker_0_collections.json"


@pytest.fixture(scope="module")
def trained(_shared_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A job `trained` of ten rounds: metrics are saved in every second round, and trees in rounds 0 and 5."""
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
    return on_s3(s3, xgboost_job.debug_output("trained"))


@pytest.fixture
def copy(s3: Any, request: pytest.FixtureRequest) -> Callable[[], str]:
    """A copy of the output that a test may damage, as a prefix without the bucket."""

    def copy() -> str:
        prefix = f"{request.node.name}/debug-output/"
        of_the_job = "debug/trained/debug-output/"
        for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=of_the_job)["Contents"]:
            to = prefix + item["Key"].removeprefix(of_the_job)
            s3.copy_object(Bucket=BUCKET, Key=to, CopySource={"Bucket": BUCKET, "Key": item["Key"]})
        return prefix

    return copy


def on_s3(s3: Any, uri: str) -> DebugOutput:
    return DebugOutput(S3Prefix(s3, uri))


def numbers(steps: Iterable[SavedStep | UnreadableStep]) -> list[int]:
    return [step.step for step in steps if isinstance(step, SavedStep)]


def test_the_steps_are_those_configured_in_the_collections(output: DebugOutput) -> None:
    steps = list(output.steps())
    assert numbers(steps) == [0, 2, 4, 5, 6, 8]
    assert set(steps[1].tensors) == {"train-logloss", "validation-logloss"}
    assert {"trees/Node", "predictions", "train-logloss"} <= set(steps[0].tensors)
    assert "train-logloss" not in steps[3].tensors
    assert steps[0].worker == "worker_0"
    assert {step.mode for step in steps} == {"GLOBAL"}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"until": 5}, [0, 2, 4, 5]),
        ({"last": 2}, [6, 8]),
        ({"until": 5, "last": 2}, [4, 5]),
        ({"last": 100}, [0, 2, 4, 5, 6, 8]),
        ({"until": -1}, []),
    ],
)
def test_only_the_requested_steps_are_read(
    output: DebugOutput, limits: dict[str, int], expected: list[int]
) -> None:
    assert numbers(output.steps(**limits)) == expected


def test_one_step_can_be_read_again(output: DebugOutput) -> None:
    (step,) = output.at(4, wanted=lambda name: name == "train-logloss")
    assert (step.step, list(step.tensors)) == (4, ["train-logloss"])
    assert list(output.at(3)) == []


def test_only_wanted_tensors_are_read_and_the_others_are_named(output: DebugOutput) -> None:
    steps = list(output.steps(wanted=lambda name: name == "train-logloss"))
    train = ["train-logloss"]
    assert [list(step.tensors) for step in steps] == [train] * 3 + [[]] + [train] * 2
    assert steps[1].names == ("train-logloss", "validation-logloss")


def test_the_collections_equal_those_of_smdebug(output: DebugOutput) -> None:
    found = output.collections()
    assert found is not None
    metrics = found.by_name["metrics"]
    assert metrics.include_regex == ("^[a-zA-z]+-[a-zA-z0-9]+$",)
    assert "train-logloss" in metrics.tensor_names
    assert "losses" in found.by_name
    assert (found.num_workers, found.workers, found.damaged) == (1, ("worker_0",), ())
    assert metrics.save_configs is not None
    assert {mode: config.save_interval for mode, config in metrics.save_configs.items()} == dict.fromkeys(
        ("TRAIN", "EVAL", "PREDICT", "GLOBAL"), 2
    )


def test_an_empty_location_is_reported_immediately(s3: Any) -> None:
    nothing = on_s3(s3, f"s3://{BUCKET}/debug/another-job/debug-output")
    assert list(nothing.steps()) == []
    assert nothing.collections() is None
    assert not nothing.ended()
    assert list(Reader(nothing).read()) == list(Reader(nothing).read(ended=True)) == []


def test_a_missing_bucket_is_an_error_that_names_the_operation(s3: Any) -> None:
    with pytest.raises(NotFound, match="s3:ListBucket"):
        list(on_s3(s3, "s3://no-such-bucket/job/debug-output").steps())


def test_a_damaged_file_is_reported_and_the_others_are_read(s3: Any, copy: Callable[[], str]) -> None:
    prefix = copy()
    cut = f"{prefix}events/000000000004/000000000004_worker_0.tfevents"
    whole = s3.get_object(Bucket=BUCKET, Key=cut)["Body"].read()
    s3.put_object(Bucket=BUCKET, Key=cut, Body=whole[:-1])
    empty = f"{prefix}events/000000000008/000000000008_worker_0.tfevents"
    s3.put_object(Bucket=BUCKET, Key=empty, Body=b"")

    steps = list(on_s3(s3, f"s3://{BUCKET}/{prefix}").steps())
    assert numbers(steps) == [0, 2, 5, 6]
    damaged = [step for step in steps if isinstance(step, UnreadableStep)]
    assert [(step.step, step.worker) for step in damaged] == [(4, "worker_0"), (8, "worker_0")]
    assert damaged[0].reason.startswith(f"s3://{BUCKET}/{cut}: cut off in the record at byte ")
    assert damaged[1].reason == f"s3://{BUCKET}/{empty}: the file is empty"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"collections": {"metrics": {}}}', b"\xff"])
def test_an_invalid_collections_file_is_named(s3: Any, copy: Callable[[], str], text: bytes) -> None:
    prefix = copy()
    s3.put_object(Bucket=BUCKET, Key=prefix + COLLECTIONS, Body=text)
    output = on_s3(s3, f"s3://{BUCKET}/{prefix}")
    with pytest.raises(WatcherError, match=r"worker_0_collections\.json is not a collections file of smd"):
        output.collections()
    assert numbers(Reader(output).read()) == [0, 2, 4, 5, 6, 8]


def test_more_files_than_a_page_lists_are_all_read(trained: Sandbox) -> None:
    s3 = trained.client("s3")
    pages = []

    def small(params: dict[str, Any], **_: Any) -> None:
        pages.append(params.get("ContinuationToken"))
        params["MaxKeys"] = 2

    s3.meta.events.register("before-parameter-build.s3.ListObjectsV2", small)
    assert numbers(on_s3(s3, xgboost_job.debug_output("trained")).steps()) == [0, 2, 4, 5, 6, 8]
    assert len(pages) == 3


@pytest.mark.parametrize("uri", ["", "debug-output", "/tmp/out", "s3:/bucket/x", "https://bucket/x", "s3://"])
def test_a_location_that_is_not_on_s3_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="is not a place on S3: it should look like s3://"):
        on_s3(None, uri)  # it is never called


@pytest.mark.parametrize("ending", ["", "/", "//"])
def test_extra_slashes_are_accepted(s3: Any, ending: str) -> None:
    uri = f"s3://{BUCKET}/debug//trained/debug-output{ending}"
    assert numbers(on_s3(s3, uri).steps(last=1)) == [8]
