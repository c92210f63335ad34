"""Which place near a mistyped one holds debug output, on S3 and in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from watcher.debug_output.places import holds_debug_output, nearest
from watcher.debug_output.storage import Folder, S3Prefix, Storage
from watcher.sandbox.process import Sandbox

OBJECTS = [
    "debug/churn/debug-output/events/000000000000/000000000000_worker_0.tfevents",
    "debug/churn/debug-output/collections/000000000/worker_0_collections.json",
    "debug/churn/output/model.tar.gz",
    "debug/fraud/debug-output/index/000000000/000000000000_worker_0.json",
    "debug/empty/output/model.tar.gz",
    "plain/events/000000000000/000000000000_worker_0.tfevents",
]


@pytest.fixture(params=["s3", "folder"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        for key in OBJECTS:
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / key).write_bytes(b"")
        return Folder(tmp_path)
    sandbox: Sandbox = request.getfixturevalue("sandbox")
    s3: Any = sandbox.client("s3")
    s3.create_bucket(Bucket="bucket")
    for key in OBJECTS:
        s3.put_object(Bucket="bucket", Key=key, Body=b"")
    return S3Prefix(s3, "s3://bucket")


def test_a_place_holds_debug_output_if_the_hook_has_written_anything_there(storage: Storage) -> None:
    assert holds_debug_output(storage, "debug/churn/debug-output")
    assert holds_debug_output(storage, "plain")
    assert not holds_debug_output(storage, "debug/churn")
    assert not holds_debug_output(storage, "debug/churn/debug-outptu")
    assert not holds_debug_output(storage)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("debug/churn/debug-outptu", ["debug/churn/debug-output"]),
        ("debug/churn", ["debug/churn/debug-output"]),
        ("debug/churn/output", ["debug/churn/debug-output"]),
        ("debug/chrun/debug-output", ["debug/churn/debug-output"]),
        ("debug/xyz/debug-output", ["debug/churn/debug-output", "debug/fraud/debug-output"]),
        ("debgu/fraud/debug-output", ["debug/fraud/debug-output"]),
        ("debug", ["debug/churn/debug-output", "debug/fraud/debug-output"]),
        ("debug/churn/debug-output/events", ["debug/churn/debug-output"]),
        ("debug/churn/debug-output/events/000000000000", ["debug/churn/debug-output"]),
        ("plian", ["plain"]),
        ("", ["plain"]),
    ],
)
def test_the_nearest_place_is_found(storage: Storage, path: str, found: list[str]) -> None:
    assert nearest(storage, path) == found
