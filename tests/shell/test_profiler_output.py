"""Reading profiler output from a folder, whatever lies there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rules.profiler import Batch, SeriesKey
from tests.doubles.profiler_output import (
    BEGIN,
    minute,
    row,
    steps,
    system_text,
    write_framework,
    write_job,
    write_system,
)
from watcher.debug_output.storage import Folder
from watcher.profiler_output import reader as reading
from watcher.profiler_output import system_file
from watcher.profiler_output.reader import ProfilerOutput, Reader, UnreadableFile

GPU0 = SeriesKey("algo-1", "gpu", "gpu0", "GPUUtilization")


def reader(folder: Path, cursor: dict[str, object] | None = None) -> Reader:
    return Reader(ProfilerOutput(Folder(folder)), cursor)


def values(found: list[Batch | UnreadableFile], key: SeriesKey = GPU0) -> int:
    return sum(len(one.series[key].values) for one in found if isinstance(one, Batch) and key in one.series)


def reasons(found: list[Batch | UnreadableFile]) -> list[str]:
    return [one.reason for one in found if isinstance(one, UnreadableFile)]


def test_what_is_new_is_read_once_also_by_another_process(tmp_path: Path) -> None:
    write_job(tmp_path, 2)
    first = reader(tmp_path)
    assert values(list(first.read())) == 240
    assert list(first.read()) == []
    write_system(tmp_path, BEGIN + 180, system_text(minute(BEGIN + 180)))
    cursor = json.loads(json.dumps(first.cursor))
    assert values(list(first.read())) == 120
    assert values(list(reader(tmp_path, cursor).read())) == 120


def test_a_place_without_files_is_read_as_nothing_without_waiting(tmp_path: Path) -> None:
    assert list(reader(tmp_path).read()) == []
    assert not ProfilerOutput(Folder(tmp_path)).exists()
    assert ProfilerOutput(Folder(tmp_path)).span() is None


def test_batches_end_with_a_minute_and_are_of_an_hour_at_most(tmp_path: Path) -> None:
    for number in range(1, 131):
        end = BEGIN + 60 * number
        write_system(tmp_path, end, system_text([("gpu", "gpu0", "GPUUtilization", 1.0, end - 30.0)]))
    found = [one for one in reader(tmp_path).read(ended=True) if isinstance(one, Batch)]
    assert [(one.until - BEGIN) / 60 for one in found] == [60, 120, 130]


def test_a_broken_last_line_is_skipped_and_any_other_is_an_error_in_that_file(tmp_path: Path) -> None:
    write_job(tmp_path, 4)
    text = system_text(minute(BEGIN + 60))
    write_system(tmp_path, BEGIN + 60, text[:-30])
    write_system(tmp_path, BEGIN + 120, text.replace('"Value"', "Value", 1))
    found = list(reader(tmp_path).read(ended=True))
    # The network's line is last, so each other metric is whole.
    assert values(found) == 3 * 120
    [reason] = reasons(found)
    assert f"{BEGIN + 120}.algo-1.json: line 1 of" in reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"Type": "cpu"}\n{}\n', "line 1 of 2 is broken"),
        ("\xff\xfe\n\n{}\n", "line 1 of 3 is broken"),
        (system_text([("cpu", "cpu0", "CPUUtilization", 1.0, 2.0)]).replace("1.0", "NaN") + "{}\n", "line 1"),
        ("[1, 2]\n[3]\n", "line 1 of 2 is broken"),
    ],
)
def test_a_damaged_file_is_reported_and_the_others_are_read(tmp_path: Path, text: str, message: str) -> None:
    write_job(tmp_path, 2)
    write_system(tmp_path, BEGIN + 60, "").write_bytes(text.encode("latin-1"))
    found = list(reader(tmp_path).read(ended=True))
    assert values(found) == 120
    [reason] = reasons(found)
    assert message in reason


def test_a_file_that_is_too_large_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 1000)
    write_job(tmp_path, 1)
    [reason] = reasons(list(reader(tmp_path).read(ended=True)))
    assert "files of more than 1,000 are not read" in reason


def test_a_job_that_invents_metrics_without_end_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_SERIES", 20)
    write_job(tmp_path, 1)
    lines = [("cpu", f"invented{number}", "CPUUtilization", 1.0, BEGIN + 61.0) for number in range(21)]
    write_system(tmp_path, BEGIN + 120, system_text(lines))
    found = list(reader(tmp_path).read(ended=True))
    assert values(found) == 120
    assert "more than 20 metrics" in reasons(found)[0]


def test_other_files_are_not_touched(tmp_path: Path) -> None:
    write_job(tmp_path, 1)
    for name in ("system/incremental/2023111422/notes.txt", "system/incremental/2023111422/1.json.tmp"):
        (tmp_path / name).write_text("not a metric")
    assert reasons(list(reader(tmp_path).read(ended=True))) == []


def test_a_regular_file_is_read_as_any_other(tmp_path: Path) -> None:
    data = system_text(minute(BEGIN + 60, cores=3, gpus=2)).encode()
    fast, slow = system_file.regular(data), system_file.by_lines(data)
    assert fast is not None
    assert fast.keys() == slow.keys()
    for key, series in slow.items():
        np.testing.assert_array_equal(fast[key].times, series.times)
        np.testing.assert_array_equal(fast[key].values, series.values)


def test_a_metric_without_a_device_may_be_named_by_its_dimension(tmp_path: Path) -> None:
    lines = [("memory", "", "MemoryUsedPercent", 20.0, BEGIN + 1.0), ("i/o", "IOPS", "", 1.0, BEGIN + 1.0)]
    write_system(tmp_path, BEGIN + 60, system_text(lines).replace('"Name": "", ', ""))
    [batch] = reader(tmp_path).read(ended=True)
    assert isinstance(batch, Batch)
    assert {(key.name, key.dimension) for key in batch.series} == {("MemoryUsedPercent", ""), ("IOPS", "")}


@pytest.mark.parametrize("changed", ["cpu9", "algo-9", "order", "last"])
def test_a_file_with_one_irregular_line_is_not_taken_for_a_regular_one(changed: str) -> None:
    lines = system_text(minute(BEGIN + 60)).splitlines(keepends=True)
    index = len(lines) - 1 if changed == "last" else len(lines) // 2
    match changed:
        case "cpu9" | "last":
            lines[index] = lines[index].replace('"Name": "', '"Name": "x')
        case "algo-9":
            lines[index] = lines[index].replace("algo-1", "algo-9")
        case _:
            lines[index], lines[index + 1] = lines[index + 1], lines[index]
    data = "".join(lines).encode()
    assert system_file.regular(data) is None
    assert sum(len(one.times) for one in system_file.decode(data).values()) == len(lines)


# -- framework files ------------------------------------------------------------------------------


def test_steps_have_times_since_the_epoch(tmp_path: Path) -> None:
    origin = BEGIN * 10**6
    write_framework(tmp_path, origin + 5 * 10**6, steps(origin, [1_000_000, 2_000_000], "EVAL"))
    [batch] = reader(tmp_path).read(ended=True)
    assert isinstance(batch, Batch)
    assert [(span.name, span.start_us - origin, span.duration_us, span.step) for span in batch.spans] == [
        ("Step:ModeKeys.EVAL", 0, 1_000_000, 0),
        ("Step:ModeKeys.EVAL", 1_000_000, 2_000_000, 1),
    ]
    assert {(span.node, span.process, span.phase) for span in batch.spans} == {
        ("algo-1", "1234", "Step:ModeKeys.EVAL")
    }


def test_an_event_may_begin_in_one_file_and_end_in_the_next(tmp_path: Path) -> None:
    origin = BEGIN * 10**6
    begun = [*row("NCCL", 3, origin), {"name": "allreduce", "ph": "B", "pid": 3, "ts": 10}]
    ended = [*row("NCCL", 3, origin), {"ph": "E", "pid": 3, "ts": 60_000_010}, {"ph": "E", "pid": 3, "ts": 1}]
    write_framework(tmp_path, origin + 30 * 10**6, begun, timeline="horovod_timeline")
    write_framework(tmp_path, origin + 61 * 10**6, ended, timeline="horovod_timeline")
    spans = [
        span for one in reader(tmp_path).read(ended=True) if isinstance(one, Batch) for span in one.spans
    ]
    assert [(span.name, span.duration_us, span.phase) for span in spans] == [
        ("allreduce", 60_000_000, "NCCL")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "is not a list of events"),
        ('{"traceEvents": []}', "is not a list of events"),
        ('[{"ph": "X", "name": "x"}]', "event 1 of 1 is broken"),
        ('[{"ph": "X", "name": "x", "ts": 1e400, "dur": 1}]', "not a list of events"),
    ],
)
def test_a_damaged_framework_file_is_reported(tmp_path: Path, text: str, message: str) -> None:
    write_framework(tmp_path, BEGIN * 10**6, []).write_text(text)
    [reason] = reasons(list(reader(tmp_path).read(ended=True)))
    assert message in reason
