"""What the sandbox's profiler makes of the kernel's counters, and which files it writes. Pure."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest

from watcher.sandbox.jobs.profiler_output import Minutes, interval_s, key, place
from watcher.sandbox.jobs.system_metrics import Counters, Gpu, Value, lines, of_thread, values

GIB = 2**30
MINUTE = int(datetime(2026, 11, 27, 10, 31, tzinfo=UTC).timestamp())


def by_dimension(found: list[Value]) -> dict[tuple[str, str], float]:
    return {(value.name, value.dimension): value.value for value in found}


def test_counters_become_shares_and_rates_of_the_time_between_two_looks():
    before = Counters(10.0, {0: 5.0, 1: 1.0}, {0: 2.0, 1: 2.0}, GIB, 100, 1000, 2000, 50, 60)
    after = Counters(10.5, {0: 5.4, 1: 1.0}, {0: 2.1, 1: 2.0}, GIB, 150, 2000, 2000, 150, 60)

    found = by_dimension(values(before, after, 4 * GIB, [Gpu(30.0, 80.0)]))

    assert found["cpu0", "CPUUtilization"] == pytest.approx(80)
    assert found["cpu1", "CPUUtilization"] == 0
    assert found["cpu0", "I/OWaitPercentage"] == pytest.approx(20)
    assert found["MemoryUsedPercent", ""] == 25
    assert found["IOPS", ""] == 100
    assert found["ReadThroughputInBytesPerSecond", ""] == 2000
    assert found["ReceiveBytesPerSecond", "Algorithm"] == 200
    assert (found["gpu0", "GPUUtilization"], found["gpu0", "GPUMemoryUtilization"]) == (30, 80)


def test_a_core_is_never_used_more_than_fully_nor_less_than_not_at_all():
    before = Counters(10.0, {0: 5.0, 1: 5.0})
    after = Counters(10.1, {0: 9.0, 1: 4.0})

    found = by_dimension(values(before, after, GIB, []))

    assert (found["cpu0", "CPUUtilization"], found["cpu1", "CPUUtilization"]) == (100, 0)


def test_a_line_has_the_members_of_the_profilers_own():
    [core, memory] = lines(
        12.5, [Value("cpu", "cpu0", "CPUUtilization", 7.0), Value("memory", "MemoryUsedPercent", "", 3.0)]
    )

    assert json.loads(core) == {
        "Type": "cpu",
        "Name": "cpu0",
        "Dimension": "CPUUtilization",
        "Value": 7.0,
        "NodeId": "algo-1",
        "Timestamp": 12.5,
    }
    assert (json.loads(memory)["Name"], json.loads(memory)["Dimension"]) == ("MemoryUsedPercent", "")


def test_the_kernels_line_on_a_thread_says_its_core_and_its_processor_time_whatever_its_name():
    fields = ["0"] * 50
    fields[11], fields[12], fields[36] = "150", "50", "7"

    core, seconds = of_thread(f"1234 (a) b (c) {' '.join(fields)}")

    assert (core, seconds * 100) == (7, pytest.approx(200))


def cpu(percent: float) -> list[Value]:
    return [Value("cpu", "cpu0", "CPUUtilization", percent)]


def test_a_minute_is_a_file_named_after_its_end_and_holds_what_was_measured_in_it():
    minutes = Minutes()
    for at, percent in ((-70.0, 99.0), (-1.0, 10.0), (-0.5, 20.0), (0.0, 30.0)):
        minutes.add(MINUTE + at, cpu(percent))

    [_, (end, text)] = minutes.files(MINUTE)
    [(last, _)] = minutes.files(math.inf)

    assert key(end) == f"system/incremental/2026112710/{MINUTE}.algo-1.json"
    assert [json.loads(line)["Value"] for line in text.splitlines()] == [10.0, 20.0]
    assert text.endswith("\n")
    assert last == MINUTE + 60
    totals = [(begin - MINUTE, found["CPUUtilization"]) for begin, found in minutes.totals(math.inf)]
    assert totals == [(-120, 99.0), (-60, 15.0), (0, 30.0)]


def test_the_first_file_ends_within_a_second_and_its_minute_is_still_one():
    minutes = Minutes()
    for at, percent in ((10.2, 10.0), (10.9, 20.0), (11.4, 60.0)):
        minutes.add(MINUTE + at, cpu(percent))

    files = list(minutes.files(math.inf))

    assert [(end - MINUTE, text.count("\n")) for end, text in files] == [(11, 2), (60, 1)]
    assert list(minutes.totals(math.inf)) == [(MINUTE, {"CPUUtilization": 30.0})]


def test_instance_metrics_are_sums_over_cores_and_gpus():
    minutes = Minutes()
    found = [Value("cpu", f"cpu{core}", "CPUUtilization", 60.0) for core in range(4)]
    found += [Value("gpu", "gpu0", "GPUUtilization", 30.0), Value("gpu", "gpu1", "GPUUtilization", 50.0)]
    minutes.add(MINUTE + 1, [*found, Value("memory", "MemoryUsedPercent", "", 9.0)])

    [(_, totals)] = minutes.totals(math.inf)

    assert totals == {"CPUUtilization": 240.0, "GPUUtilization": 80.0, "MemoryUtilization": 9.0}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"S3OutputPath": "s3://b/p/"}, "s3://b/p/churn/profiler-output"),
        ({"S3OutputPath": "s3://b/p", "DisableProfiler": True}, ""),
        ({"DisableProfiler": False}, ""),
        (None, ""),
    ],
)
def test_a_job_is_profiled_if_it_says_where_and_does_not_refuse(config: dict[str, object], expected: str):
    assert place({"TrainingJobName": "churn", "ProfilerConfig": config}) == expected


def test_the_job_says_how_often():
    assert interval_s({"ProfilerConfig": {"ProfilingIntervalInMilliseconds": 100}}) == 0.1
    assert interval_s({}) == 0.5
