"""Reading profiler output, compared with smdebug's `get_events` on the same files.

    python -m tests.bench.profile

One node with 8 GPUs and 16 cores. `ours` is all that `watcher profile` does: it reads, sums up, and evaluates
the profiler rules. smdebug keeps each event as an object, 5 GB of them for a day. Processor time is compared,
because other processes do not change it much."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.doubles.profiler_output import BEGIN, minute, system_text, write_system

CORES, GPUS = 16, 8
DAY, HOUR = 1440, 60
PAIRS = 3
TEMPLATES = 10
"""Minutes that are made; the others are these at other times, because making a day takes longer than reading
it."""


def write(folder: Path, minutes: int) -> None:
    made = []
    for number in range(TEMPLATES):
        end = BEGIN + 60 * (number + 1)
        lines = minute(end, cores=CORES, gpus=GPUS, busy=40.0)
        made.append((end, lines))
    for number in range(minutes):
        end = BEGIN + 60 * (number + 1)
        was, lines = made[number % TEMPLATES]
        moved = ((kind, name, dimension, value, at + end - was) for kind, name, dimension, value, at in lines)
        write_system(folder, end, system_text(moved))


def ours(folder: str) -> dict[str, Any]:
    """As `watcher profile`: statistics, heat map and rules."""
    from watcher.evaluation.profile import of_folder, to_document

    begin, cpu = time.perf_counter(), time.process_time()
    profile = of_folder(Path(folder)).profile()
    to_document(profile)
    return figures(profile.usage.values, begin, cpu)


def only_reading(folder: str) -> dict[str, Any]:
    from rules.profiler import Batch
    from watcher.debug_output.storage import Folder
    from watcher.profiler_output.reader import ProfilerOutput, Reader

    begin, cpu = time.perf_counter(), time.process_time()
    count = 0
    for batch in Reader(ProfilerOutput(Folder(Path(folder)))).read(ended=True):
        assert isinstance(batch, Batch)
        count += sum(len(series.times) for series in batch.series.values())
    return figures(count, begin, cpu)


def smdebug(folder: str) -> dict[str, Any]:
    from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader

    begin, cpu = time.perf_counter(), time.process_time()
    reader = LocalSystemMetricsReader(folder)
    events = reader.get_events(0, reader.get_timestamp_of_latest_available_file())
    return figures(len(events), begin, cpu)


def figures(values: int, begin: float, cpu: float) -> dict[str, Any]:
    return {
        "values": values,
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


READERS = {"ours": ours, "only_reading": only_reading, "smdebug": smdebug}


def in_own_process(reader: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.profile", reader, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SMDEBUG_LOG_LEVEL": "error"},
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        hour, day = Path(folder) / "hour", Path(folder) / "day"
        write(hour, HOUR)
        pairs = [
            {name: in_own_process(name, hour) for name in ("ours", "only_reading", "smdebug")}
            for _ in range(PAIRS)
        ]
        assert {run["values"] for pair in pairs for run in pair.values()} == {HOUR * 6720}
        write(day, DAY)
        return {"hour": pairs, "day": {name: in_own_process(name, day) for name in ("ours", "smdebug")}}


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows for the table: what, measured, expected."""
    day, theirs = found["day"]["ours"], found["day"]["smdebug"]
    yield (
        f"profile of a day with {GPUS} GPUs and {CORES} cores, {day['values']:,} values",
        f"{day['seconds']:.1f} s ({day['cpu_seconds']:.1f} s of CPU)",
        "≤ 25 s",
    )
    yield "  memory", f"{day['peak_memory_mb']:.0f} MB", "≤ 300 MB"
    ratio = theirs["cpu_seconds"] / day["cpu_seconds"]
    yield "  smdebug's get_events ÷ ours", f"{ratio:.1f}", "≥ 10"
    yield "  smdebug's memory", f"{theirs['peak_memory_mb']:,.0f} MB", ""
    for name, label in (("ours", "with statistics and rules"), ("only_reading", "only reading")):
        ratios = [pair["smdebug"]["cpu_seconds"] / pair[name]["cpu_seconds"] for pair in found["hour"]]
        yield (
            f"  smdebug's get_events ÷ ours on an hour, {label}",
            f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
            "≥ 10",
        )


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(READERS[sys.argv[1]](sys.argv[2])))
    else:
        print(json.dumps(measured()))


if __name__ == "__main__":
    main()
