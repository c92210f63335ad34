"""Writes profiler output as SageMaker's profiler does, in the layout that smdebug's readers need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

BEGIN = 1_700_000_040
"""A whole minute."""

SystemLine = tuple[str, str, str, float, float]
"""Type, name, dimension, value, time."""


def hour(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%d%H}"


def system_text(lines: Iterable[SystemLine], node: str = "algo-1") -> str:
    return "".join(
        f'{{"Type": "{kind}", "Name": "{name}", "Dimension": "{dimension}", "Value": {value!r}, '
        f'"NodeId": "{node}", "Timestamp": {time!r}}}\n'
        for kind, name, dimension, value, time in lines
    )


def write_system(folder: Path, end: int, text: str, node: str = "algo-1") -> Path:
    """`folder` is the profiler output of the job."""
    path = folder / "system" / "incremental" / hour(end) / f"{end}.{node}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def minute(end: int, *, cores: int = 2, gpus: int = 1, busy: float = 90.0, seed: int = 0) -> list[SystemLine]:
    """What the profiler reads of one node in a minute, twice a second: busy cores and GPUs that idle."""
    dice = Random(f"{seed} {end}")
    lines: list[SystemLine] = []
    for number in range(120):
        time = end - 60 + 0.5 * number + 0.017

        def put(kind: str, name: str, dimension: str, value: float, time: float = time) -> None:
            lines.append((kind, name, dimension, value, time + dice.random() * 0.002))

        for core in range(cores):
            put("cpu", f"cpu{core}", "CPUUtilization", round(min(100, busy + 10 * dice.random()), 2))
            put("cpu", f"cpu{core}", "I/OWaitPercentage", round(5 * dice.random(), 2))
        for gpu in range(gpus):
            put("gpu", f"gpu{gpu}", "GPUUtilization", dice.randrange(10))
            put("gpu", f"gpu{gpu}", "GPUMemoryUtilization", dice.randrange(20, 30))
        put("memory", "MemoryUsedPercent", "", round(20 + dice.random(), 2))
        for name in ("IOPS", "ReadThroughputInBytesPerSecond", "WriteThroughputInBytesPerSecond"):
            put("i/o", name, "", dice.random() * 1e7)
        for name in ("ReceiveBytesPerSecond", "TransmitBytesPerSecond"):
            for dimension in ("Algorithm", "Platform"):
                put("network", name, dimension, dice.random() * 1e8)
    return lines


def write_job(
    folder: Path, minutes: int, *, nodes: Sequence[str] = ("algo-1",), begin: int = BEGIN, **of: Any
) -> Path:
    """So many minutes of a job; the arguments are those of `minute`."""
    for number in range(1, minutes + 1):
        for seed, node in enumerate(nodes):
            end = begin + 60 * number
            write_system(folder, end, system_text(minute(end, seed=seed, **of), node), node)
    return folder


def write_framework(
    folder: Path,
    end_us: int,
    events: Sequence[Mapping[str, Any]],
    *,
    node: str = "algo-1",
    process: int = 1234,
    timeline: str = "pythontimeline",
) -> Path:
    name = f"{end_us}_{process}-{node}_{timeline}.json"
    path = folder / "framework" / "pevents" / hour(end_us / 1e6) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(events)))
    return path


def row(name: str, pid: int, origin_us: int) -> list[dict[str, Any]]:
    """The events that name a row of a timeline."""
    arguments = {"name": name, "start_time_since_epoch_in_micros": origin_us}
    return [
        {"name": "process_name", "pid": pid, "ph": "M", "args": arguments},
        {"name": "process_sort_index", "pid": pid, "ph": "M", "args": {"sort_index": pid}},
    ]


def steps(origin_us: int, durations_us: Sequence[int], mode: str = "TRAIN") -> list[dict[str, Any]]:
    """Training steps, one after another."""
    name = f"Step:ModeKeys.{mode}"
    events, at = row(name, 7, origin_us), 0
    for number, duration in enumerate(durations_us):
        arguments = {"step_num": str(number), "pid": 1234}
        events.append({"name": name, "pid": 7, "ph": "X", "ts": at, "dur": duration, "args": arguments})
        at += duration
    return events
