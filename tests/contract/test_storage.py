"""What a storage of debug output guarantees, on S3 and in a folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import next_second
from watcher.debug_output.storage import Folder, S3Prefix, Storage
from watcher.sandbox.process import Sandbox

OBJECTS = {
    "collections/000000000/worker_0_collections.json": b"{}",
    "events/000000000001/000000000001_worker_0.tfevents": b"0123456789",
    "events/000000000001/000000000001_worker_1.tfevents": b"",
    "events/000000000020/000000000020_worker_0.tfevents": b"abc",
    "index/000000000/000000000001_worker_0.json": b"{}",
    "training_job_end.ts": b"",
}
TEN = "events/000000000001/000000000001_worker_0.tfevents"


@pytest.fixture(params=["s3", "folder"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        for key, data in OBJECTS.items():
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / key).write_bytes(data)
        return Folder(tmp_path)
    sandbox: Sandbox = request.getfixturevalue("sandbox")
    s3: Any = sandbox.client("s3")
    s3.create_bucket(Bucket="bucket")
    for key, data in OBJECTS.items():
        s3.put_object(Bucket="bucket", Key=f"debug/job/debug-output/{key}", Body=data)
    s3.put_object(Bucket="bucket", Key="debug/job/debug-output-of-another/events/x", Body=b"")
    return S3Prefix(s3, "s3://bucket/debug/job/debug-output")


def keys(storage: Storage, prefix: str, after: str = "") -> list[str]:
    return [stored.key for stored in storage.list(prefix, after)]


def test_every_object_is_listed_in_order_with_its_size(storage: Storage) -> None:
    assert {stored.key: stored.size for stored in storage.list("")} == {
        key: len(data) for key, data in OBJECTS.items()
    }
    assert keys(storage, "") == sorted(OBJECTS)


def test_a_listing_is_limited_to_its_prefix_and_starts_after_a_key(storage: Storage) -> None:
    events = [key for key in OBJECTS if key.startswith("events/")]
    assert keys(storage, "events/") == events
    assert keys(storage, "events/", events[0]) == events[1:]
    assert keys(storage, "events/", "events/000000000001/~") == events[2:]
    assert keys(storage, "events/", "events/000000000020/~") == []
    assert keys(storage, "training_job_end") == ["training_job_end.ts"]
    assert keys(storage, "nothing/") == keys(storage, "nothing") == []


def test_an_object_is_read_whole_or_in_part(storage: Storage) -> None:
    assert storage.get(TEN) == b"0123456789"
    assert storage.get(TEN, range(2, 5)) == b"234"
    assert storage.get(TEN, range(8, 20)) == b"89"
    assert storage.get(TEN, range(10, 12)) == b""


def test_a_missing_object_is_none(storage: Storage) -> None:
    assert storage.get("events/nothing") is None
    assert storage.get("events/nothing", range(3)) is None


def test_the_displayed_name_locates_the_object(storage: Storage) -> None:
    assert storage.uri.endswith("debug-output") or Path(storage.uri, TEN).is_file()


def test_on_s3_what_was_written_before_a_time_does_not_exist(sandbox: Sandbox) -> None:
    s3: Any = sandbox.client("s3")
    s3.create_bucket(Bucket="bucket")

    def write(data: bytes, *names: str) -> None:
        for key in names:
            s3.put_object(Bucket="bucket", Key=f"job/debug-output/{key}", Body=data)

    write(b"the earlier run", "events/1", "events/2", "events/3")
    next_second()
    write(b"this run", "events/2", "events/25")
    written_at = s3.head_object(Bucket="bucket", Key="job/debug-output/events/2")["LastModified"]
    # S3 gives the time in whole seconds, so in the same second counts.
    storage = S3Prefix(s3, "s3://bucket/job/debug-output", since=written_at + timedelta(milliseconds=999))

    assert keys(storage, "") == keys(storage, "events/", "events/1") == ["events/2", "events/25"]
    assert storage.get("events/2") == b"this run"
    assert storage.get("events/2", range(5, 8)) == b"run"
    assert storage.get("events/1") is storage.get("events/3", range(3)) is None
    assert storage.get("events/nothing") is None
    assert keys(S3Prefix(s3, "s3://bucket/job/debug-output"), "") == [
        "events/1",
        "events/2",
        "events/25",
        "events/3",
    ]
