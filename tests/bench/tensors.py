"""Reading saved tensors from S3, compared with smdebug's own reader and with plain requests.

    python -m tests.bench.tensors

One run grows on one sandbox, with two metrics per step, written by smdebug's own writer. `ours`, `smdebug`
and `floor` read the same bytes. The floor is the same number of threads that only call `get_object` for given
keys. smdebug would take hours for a long run, so it reads a sample, and `seconds` is the time of
`create_trial` plus the extrapolated time of all values.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests.doubles.debug_output import SavedJob
from watcher.debug_output.event_files import of_all_steps
from watcher.debug_output.position import LIST_OVERLAP_FILES, Position
from watcher.debug_output.reader import FETCH_THREADS, DebugOutput, Reader
from watcher.debug_output.storage import Folder, S3Prefix
from watcher.debug_output.tfevents import decode
from watcher.sandbox.process import Sandbox

BUCKET, RUN, LARGE = "bench", "debug/run/debug-output", "debug/large/debug-output"
TENSORS = 2
S3_PAGE = 1_000
"""Keys in one response to a listing."""
READ_RUNS = {200: 3, 1_000: 3, 5_000: 1}
"""Repetitions by the number of steps, with ours and the floor in turn; the median counts."""
SAMPLE_SIZES = {200: 100, 1_000: 20, 5_000: 4}
"""The number of values that smdebug reads, by the number of steps."""
REFRESHED_STEPS = (100, 1_000, 10_000)
NEW_STEPS = 10


class Bench:
    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.s3 = sandbox.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)
        self.folder = folder
        self.job = SavedJob(folder / "run")
        self.steps = 0
        self.requests = 0
        self.s3.meta.events.register("before-send.s3", self._count)

    def _count(self, **_: Any) -> None:
        self.requests += 1

    def grow(self, steps: int) -> None:
        """Save steps until there are this many."""
        fresh = []
        for step in range(self.steps, steps):
            loss = 1 / (step + 1)
            saved = {"train-logloss": np.float64(loss), "validation-logloss": np.float64(loss * 1.1)}
            fresh += [self.job.step(step, saved), self.job.index_file(step)]
        if self.steps == 0:
            self.job.collections(metrics={"include_regex": [".*-logloss"]})
            fresh += (self.job.folder / "collections").rglob("*.json")
        self.steps = steps
        self._upload(self.job.folder, RUN, fresh)

    def _upload(self, root: Path, prefix: str, files: Iterable[Path]) -> None:
        def put(path: Path) -> None:
            self.s3.put_object(
                Bucket=BUCKET, Key=f"{prefix}/{path.relative_to(root)}", Body=path.read_bytes()
            )

        with ThreadPoolExecutor(FETCH_THREADS) as threads:
            list(threads.map(put, files))

    def output(self, prefix: str = RUN) -> DebugOutput:
        return DebugOutput(S3Prefix(self.s3, f"s3://{BUCKET}/{prefix}"))

    # -- all values of a run --------------------------------------------------------------------------

    def read(self, steps: int) -> dict[str, Any]:
        keys = [f"{RUN}/{file.key}" for file in of_all_steps(Folder(self.job.folder))]
        ours, floor = [], []
        for _ in range(READ_RUNS[steps]):
            floor.append(seconds(lambda: self._floor(keys)))
            self.requests = 0
            ours.append(seconds(lambda: self._ours(steps)))
        return {
            "ours": {"seconds": statistics.median(ours), "requests": self.requests},
            "floor": {"seconds": statistics.median(floor), "requests": len(keys)},
            "smdebug": self._smdebug(steps),
        }

    def _ours(self, steps: int) -> None:
        values = sum(len(saved.tensors) for saved in Reader(self.output()).read())  # type: ignore[union-attr]
        assert values == steps * TENSORS

    def _floor(self, keys: list[str]) -> None:
        def get(key: str) -> bytes:
            data: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            return data

        with ThreadPoolExecutor(FETCH_THREADS) as threads:
            for _ in threads.map(get, keys):
                pass

    def _smdebug(self, steps: int) -> dict[str, Any]:
        from smdebug.trials import create_trial

        begin = time.perf_counter()
        trial = create_trial(f"s3://{BUCKET}/{RUN}")
        opened = time.perf_counter() - begin
        tensor = trial.tensor("train-logloss")
        sample = range(0, steps, steps // SAMPLE_SIZES[steps])
        each = seconds(lambda: [tensor.value(step) for step in sample]) / len(sample)
        return {
            "seconds": opened + each * steps * TENSORS,
            "to_open": opened,
            "each_value": each,
            "values_read": len(sample),
        }

    # -- refreshing ------------------------------------------------------------------------------------

    def refresh(self, steps: int) -> dict[str, Any]:
        """Read ten new steps with a reader that has read all earlier ones, and again with plain requests."""
        reader = Reader(self.output(), self._cursor())
        self.grow(steps + NEW_STEPS)
        keys = [f"{RUN}/{file.key}" for file in of_all_steps(Folder(self.job.folder), steps - 1)]
        start = f"{RUN}/events/{reader.cursor['floor']:012}/~"

        def bare() -> None:
            self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{RUN}/events/", StartAfter=start)
            self._floor(keys)

        floor = seconds(bare)
        self.requests, cpu, begin = 0, time.process_time(), time.perf_counter()
        found = [saved.step for saved in reader.read()]
        figures = {
            "seconds": time.perf_counter() - begin,
            "cpu_seconds": time.process_time() - cpu,
            "requests": self.requests,
            "floor_seconds": floor,
        }
        assert found == list(range(steps, steps + NEW_STEPS))
        return figures

    def _cursor(self) -> dict[str, Any]:
        """Of a reader that has read all steps. It knows the newest files as S3 lists them."""
        position = Position(workers=1)
        newest = of_all_steps(S3Prefix(self.s3, f"s3://{BUCKET}/{RUN}"), self.steps - 2 * LIST_OVERLAP_FILES)
        for file in position.due(newest, ended=False):
            position.give(file)
        return position.to_json()

    # -- large tensors --------------------------------------------------------------------------------

    def large(self, tensors: int = 100, megabytes: int = 1) -> dict[str, Any]:
        job = SavedJob(self.folder / "large")
        value = np.random.default_rng(0).random(megabytes << 17)  # values of eight bytes
        path = job.step(0, {f"layer{number}/weight": value for number in range(tensors)})
        job.collections()
        self._upload(job.folder, LARGE, (one for one in job.folder.rglob("*") if one.is_file()))
        storage = Metered(self.s3, f"s3://{BUCKET}/{LARGE}")
        reader = Reader(DebugOutput(storage))
        reader.collections()
        storage.bytes = self.requests = 0
        begin = time.perf_counter()
        (saved,) = reader.read(wanted=lambda name: name == "layer50/weight")
        took = time.perf_counter() - begin
        assert len(saved.tensors) == 1  # type: ignore[union-attr]
        return {
            "bytes": storage.bytes,
            "requests": self.requests,
            "seconds": took,
            "tensor_bytes": value.nbytes,
            "file_bytes": path.stat().st_size,
        }


class Metered(S3Prefix):
    bytes = 0

    def get(self, key: str, span: range | None = None) -> bytes | None:
        data = super().get(key, span)
        self.bytes += len(data or b"")
        return data


def decoding(job: SavedJob) -> dict[str, float]:
    """Microseconds to decode a file with two tensors."""
    from smdebug.core.tfrecord.tensor_reader import TensorReader

    data = job.event_file(0).read_bytes()
    return {
        "ours": best(lambda: decode(data)),
        "smdebug": best(lambda: list(TensorReader(data).read_tensors())),
    }


def best(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=500, repeat=5)) / 500 * 1e6


def seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measured(bench: Bench) -> Iterator[tuple[str, Any]]:
    """All measurements, in the order in which the run grows."""
    for steps in sorted({*READ_RUNS, *REFRESHED_STEPS}):
        bench.grow(steps)
        if steps in READ_RUNS:
            yield f"read_{steps}", bench.read(steps)
        if steps in REFRESHED_STEPS:
            yield f"refresh_{steps}", bench.refresh(steps)
    yield "decode", decoding(bench.job)
    yield "large", bench.large()


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows for the table: what, measured, expected."""
    for steps in READ_RUNS:
        read = figures[f"read_{steps}"]
        ours, floor, smdebug = read["ours"], read["floor"]["seconds"], read["smdebug"]
        yield (
            f"all values of {steps:,} saved steps",
            f"{ours['seconds']:.1f} s, {ours['requests']:,} requests",
            f"{steps + math.ceil(steps / S3_PAGE) + 2:,} requests",
        )
        yield "  ÷ plain requests with the same number of threads", f"{ours['seconds'] / floor:.2f}", "≤ 1.25"
        yield (
            f"  smdebug's reader ÷ ours (from {smdebug['values_read']} of {steps * TENSORS:,} values)",
            f"{smdebug['seconds'] / ours['seconds']:.0f}",
            "≥ 80" if steps == 1_000 else "",
        )
    for steps in REFRESHED_STEPS:
        refresh = figures[f"refresh_{steps}"]
        yield (
            f"a refresh with {NEW_STEPS} new steps after {steps:,}",
            f"{refresh['cpu_seconds'] * 1000:.0f} ms of CPU, {refresh['requests']} requests",
            f"flat, {NEW_STEPS + 1} requests",
        )
        yield "  ÷ the same plain requests", f"{refresh['seconds'] / refresh['floor_seconds']:.2f}", "≤ 1.25"
    large = figures["large"]
    one, all_of_them = large["tensor_bytes"] / 1e6, large["file_bytes"] / 1e6
    yield (
        f"one tensor of {all_of_them:.0f} MB: fetched",
        f"{large['bytes'] / 1e6:.2f} MB",
        f"{one:.2f} MB + index",
    )
    decode = figures["decode"]
    yield f"decoding {TENSORS} tensors: ours", f"{decode['ours']:.0f} µs", "≤ 40 µs"
    yield "  smdebug's", f"{decode['smdebug']:.0f} µs", ""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Sandbox.start(pace=0.05) as sandbox:
        os.environ.update(sandbox.env, SMDEBUG_LOG_LEVEL="error")
        print(json.dumps({"threads": FETCH_THREADS, **dict(measured(Bench(sandbox, Path(folder))))}))


if __name__ == "__main__":
    main()
