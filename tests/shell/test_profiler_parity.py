"""Profiler output is read as smdebug's own readers read it: every value, and every event of the framework.

smdebug's readers are created on the folder that has `system/` and `framework/`, on disk and on S3.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from smdebug.core.tfevent.timeline_file_writer import TimelineFileWriter
from smdebug.profiler.algorithm_metrics_reader import LocalAlgorithmMetricsReader
from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader, S3SystemMetricsReader

from rules.profiler import Batch
from tests.doubles.profiler_output import BEGIN, steps, write_framework, write_job
from watcher.debug_output.storage import Folder, S3Prefix, Storage
from watcher.profiler_output.reader import ProfilerOutput, Reader
from watcher.profiler_output.usage import Usage, metric_name
from watcher.sandbox.process import Sandbox

Value = tuple[str, str, str, str, float, float]


def ours(storage: Storage) -> list[Batch]:
    batches = []
    for one in Reader(ProfilerOutput(storage)).read(ended=True):
        assert isinstance(one, Batch)
        batches.append(one)
    return batches


def values(batches: list[Batch]) -> Counter[Value]:
    return Counter(
        (*key, time, value)
        for batch in batches
        for key, series in batch.series.items()
        for time, value in zip(series.times.tolist(), series.values.tolist(), strict=True)
    )


def of_smdebug(reader: Any) -> Counter[Value]:
    events = reader.get_events(0, time.time() * 1e6)
    return Counter(
        (one.node_id, one.type, one.name, one.dimension, one.timestamp, one.value) for one in events
    )


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three minutes of two nodes."""
    return write_job(tmp_path_factory.mktemp("job"), 3, nodes=("algo-1", "algo-2"), cores=3, gpus=2)


def test_every_value_in_a_folder_is_read_as_smdebug_reads_it(job: Path) -> None:
    expected = of_smdebug(LocalSystemMetricsReader(str(job)))
    assert expected.total() == 3 * 2 * 120 * (3 * 2 + 2 * 2 + 8)
    assert values(ours(Folder(job))) == expected


def test_every_value_on_s3_is_read_as_smdebug_reads_it(
    job: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket="profiler-parity")
    prefix = "jobs/run/profiler-output"
    for path in job.rglob("*.json"):
        s3.put_object(
            Bucket="profiler-parity", Key=f"{prefix}/{path.relative_to(job)}", Body=path.read_bytes()
        )
    uri = f"s3://profiler-parity/{prefix}"
    assert values(ours(S3Prefix(s3, uri))) == of_smdebug(S3SystemMetricsReader(uri))


def test_a_file_that_was_cut_off_is_read_as_smdebug_reads_it(tmp_path: Path) -> None:
    write_job(tmp_path, 2)
    path = max(tmp_path.rglob("*.json"))
    path.write_text(path.read_text()[:-25])
    assert values(ours(Folder(tmp_path))) == of_smdebug(LocalSystemMetricsReader(str(tmp_path)))


def test_histograms_have_the_bins_of_smdebugs_metrics_histogram(job: Path) -> None:
    """Its bins end at 98: what is above, and with it a whole core, it leaves out. Ours do not."""
    usage = Usage(BEGIN, BEGIN + 180)
    for batch in ours(Folder(job)):
        usage.add(batch)
    events = LocalSystemMetricsReader(str(job)).get_events(0, time.time() * 1e6)
    of_dimension: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for one in events:
        of_dimension[one.node_id, one.dimension or one.name].append(one.value)
    for dimension in ("CPUUtilization", "GPUUtilization", "I/OWaitPercentage", "MemoryUsedPercent"):
        found = of_dimension["algo-2", dimension]
        expected, _ = np.histogram(found, bins=np.arange(0, 100, 2))
        histogram = usage.histogram("algo-2", dimension)
        # Its last bin has its upper edge as well.
        np.testing.assert_array_equal(histogram[:48], expected[:48])
        assert histogram.sum() == len(found)


def test_percentiles_are_those_of_what_smdebug_reads(job: Path) -> None:
    usage = Usage(BEGIN, BEGIN + 180)
    for batch in ours(Folder(job)):
        usage.add(batch)
    events = LocalSystemMetricsReader(str(job)).get_events(0, time.time() * 1e6)
    of_series: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for one in events:
        of_series[one.node_id, one.name, one.dimension].append(one.value)
    rows = usage.rows()
    assert len(rows) == len(of_series)
    for row in rows:
        found = of_series[row.key.node, row.key.name, row.key.dimension]
        exact = np.quantile(found, (0.05, 0.5, 0.95))
        tolerance = 1e-9 if "Percent" in metric_name(row.key) else 5.1e-4 * exact[2]
        np.testing.assert_allclose((row.p5, row.p50, row.p95), exact, rtol=0, atol=max(tolerance, 1e-9))
        assert (row.greatest, row.count) == (max(found), len(found))


# -- framework ------------------------------------------------------------------------------------


def framework_events(job: Path) -> Counter[tuple[Any, ...]]:
    reader = LocalAlgorithmMetricsReader(str(job))
    events = reader.get_events(0, (time.time() + 3600) * 1e6)
    return Counter(
        (one.node_id, one.event_phase, one.event_name, int(one.start_time), int(one.duration))
        for one in events
    )


def spans(job: Path) -> Counter[tuple[Any, ...]]:
    return Counter(
        # smdebug calls a process's node `algo-1-1234`.
        (f"{one.node}-{one.process}", one.phase, one.name, one.start_us, one.duration_us)
        for batch in ours(Folder(job))
        for one in batch.spans
    )


def test_steps_are_read_as_smdebug_reads_them(tmp_path: Path) -> None:
    dice = Random(0)
    for number, node in enumerate(("algo-1", "algo-2")):
        origin = (BEGIN + number) * 10**6
        durations = [dice.randrange(1, 10**6) for _ in range(50)]
        write_framework(tmp_path, origin + 60 * 10**6, steps(origin, durations), node=node)
        begins = [
            {"name": "op", "ph": "B", "pid": 7, "ts": 5, "tid": 0},
            {"name": "inner", "ph": "B", "pid": 7, "ts": 6, "tid": 0},
            {"name": "inner", "ph": "E", "pid": 7, "ts": 9, "tid": 0},
            {"name": "op", "ph": "E", "pid": 7, "ts": 11, "tid": 0},
        ]
        model = [*steps(origin, [7], "EVAL"), *begins]
        write_framework(tmp_path, origin + 61 * 10**6, model, node=node, timeline="model_timeline")
    expected = framework_events(tmp_path)
    assert expected.total() == 2 * (50 + 1 + 2)
    assert spans(tmp_path) == expected


@pytest.fixture
def written_by_smdebug(tmp_path: Path) -> Iterator[Path]:
    """A timeline of smdebug's own writer."""
    rotation = SimpleNamespace(file_close_interval=60, file_max_size=10**7)
    trace = SimpleNamespace(rotation_policy=rotation, file_open_fail_threshold=50)
    config = SimpleNamespace(
        profiling_enabled=True,
        config=SimpleNamespace(local_path=str(tmp_path), trace_file=trace),
    )
    writer = TimelineFileWriter(config)
    begin = time.time()
    for number in range(20):
        writer.write_trace_events(
            timestamp=begin + number / 10,
            training_phase="Step:ModeKeys.TRAIN",
            op_name="Step:ModeKeys.TRAIN",
            duration=0.05,
            step_num=number,
        )
    writer.close()
    yield tmp_path


def test_a_timeline_of_smdebugs_own_writer_is_read_as_smdebug_reads_it(written_by_smdebug: Path) -> None:
    expected = framework_events(written_by_smdebug)
    assert expected.total() == 20
    found = spans(written_by_smdebug)
    assert Counter(key[1:] for key in found.elements()) == Counter(key[1:] for key in expected.elements())
    steps_read = {
        one.step for batch in ours(Folder(written_by_smdebug)) for one in batch.spans if one.is_step
    }
    assert steps_read == set(range(20))
