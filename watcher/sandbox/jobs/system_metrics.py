"""What a training uses of the machine, as SageMaker's profiler records it.

The values are those of the training's own processes, because several trainings share the machine: processor
time by core, resident memory, reads and writes. Waiting for disks and the network are counted for the
whole machine, which keeps no count of them by process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import psutil

NODE = "algo-1"
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_QUERY = ("--query-gpu=index,utilization.gpu,utilization.memory", "--format=csv,noheader,nounits")


class Value(NamedTuple):
    type: str
    """`cpu`, `gpu`, `memory`, `i/o` or `network`."""
    name: str
    """Of the core, of the GPU or, where there is one of a kind, of the metric."""
    dimension: str
    """The metric of a core or a GPU; whose traffic it is; else empty."""
    value: float


class Gpu(NamedTuple):
    utilization: float
    """Percent."""
    memory: float
    """Percent."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the kernel has counted up to one moment."""

    at: float
    """Seconds, on a clock that only goes on."""
    cpu_s: Mapping[int, float] = field(default_factory=dict)
    """Processor seconds, by core."""
    waited_s: Mapping[int, float] = field(default_factory=dict)
    """Seconds in which a core had nothing to do but wait for a disk."""
    memory_bytes: int = 0
    operations: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


def values(before: Counters, after: Counters, memory_bytes: int, gpus: Sequence[Gpu]) -> list[Value]:
    """The values of the time between two moments. `memory_bytes`: of the whole machine. Pure."""
    seconds = max(after.at - before.at, 1e-3)

    def percent(later: Mapping[int, float], earlier: Mapping[int, float], core: int) -> float:
        share = (later[core] - earlier.get(core, 0.0)) / seconds * 100
        return round(min(max(share, 0.0), 100.0), 2)

    def rate(later: int, earlier: int) -> float:
        return round(max(later - earlier, 0) / seconds, 2)

    found = []
    for core in sorted(after.cpu_s):
        name = f"cpu{core}"
        found.append(Value("cpu", name, "CPUUtilization", percent(after.cpu_s, before.cpu_s, core)))
        if core in after.waited_s:
            waited = percent(after.waited_s, before.waited_s, core)
            found.append(Value("cpu", name, "I/OWaitPercentage", waited))
    for number, gpu in enumerate(gpus):
        found.append(Value("gpu", f"gpu{number}", "GPUUtilization", gpu.utilization))
        found.append(Value("gpu", f"gpu{number}", "GPUMemoryUtilization", gpu.memory))
    used = round(after.memory_bytes / memory_bytes * 100, 2)
    reads = rate(after.read_bytes, before.read_bytes)
    writes = rate(after.written_bytes, before.written_bytes)
    found += [
        Value("memory", "MemoryUsedPercent", "", used),
        Value("i/o", "IOPS", "", rate(after.operations, before.operations)),
        Value("i/o", "ReadThroughputInBytesPerSecond", "", reads),
        Value("i/o", "WriteThroughputInBytesPerSecond", "", writes),
    ]
    for name, later, earlier in (
        ("ReceiveBytesPerSecond", after.received_bytes, before.received_bytes),
        ("TransmitBytesPerSecond", after.sent_bytes, before.sent_bytes),
    ):
        # The machine counts both together: the traffic of the training, and that of SageMaker's platform.
        found += [Value("network", name, whose, rate(later, earlier)) for whose in ("Algorithm", "Platform")]
    return found


def lines(at: float, found: Iterable[Value]) -> Iterator[str]:
    """As the profiler writes them. `at`: seconds since 1970."""
    for kind, name, dimension, value in found:
        yield json.dumps(
            {
                "Type": kind,
                "Name": name,
                "Dimension": dimension,
                "Value": value,
                "NodeId": NODE,
                "Timestamp": at,
            }
        )


class Sampler:
    """Reads the counters of a process and its children. Safe to use after the process has ended."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._threads: dict[tuple[int, int], float] = {}
        """Processor seconds of each thread that was seen, by process and thread."""
        self._cores = dict.fromkeys(range(psutil.cpu_count() or 1), 0.0)
        self._inputs: dict[int, tuple[int, int, int]] = {}
        """Operations, bytes read and bytes written of each process, as they were seen last."""

    def counters(self, at: float) -> Counters:
        memory = 0
        for pid in self._processes():
            with suppress(OSError, psutil.Error, AttributeError):  # it has ended; macOS does not count all
                self._count_threads(pid)
                process = psutil.Process(pid)
                memory += process.memory_info().rss
                counted = process.io_counters()
                operations = counted.read_count + counted.write_count
                self._inputs[pid] = (operations, counted.read_bytes, counted.write_bytes)
        operations, read, written = (
            sum(part) for part in zip((0, 0, 0), *self._inputs.values(), strict=True)
        )
        network = psutil.net_io_counters()
        waits = psutil.cpu_times(percpu=True)
        return Counters(
            at=at,
            cpu_s=dict(self._cores),
            waited_s={core: times.iowait for core, times in enumerate(waits) if hasattr(times, "iowait")},
            memory_bytes=memory,
            operations=operations,
            read_bytes=read,
            written_bytes=written,
            received_bytes=network.bytes_recv if network else 0,
            sent_bytes=network.bytes_sent if network else 0,
        )

    def _processes(self) -> list[int]:
        with suppress(psutil.Error):
            return [self._pid, *(child.pid for child in psutil.Process(self._pid).children(recursive=True))]
        return []

    def _count_threads(self, pid: int) -> None:
        """The kernel counts by thread and says on which core each runs: what a thread has used since the last
        look is added to that core."""
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError, ValueError):
                core, seconds = of_thread((task / "stat").read_text())
                key = (pid, int(task.name))
                self._cores[core] = self._cores.get(core, 0.0) + seconds - self._threads.get(key, 0.0)
                self._threads[key] = seconds


def of_thread(stat: str) -> tuple[int, float]:
    """The core that a thread ran on last, and its processor seconds; see proc_pid_stat(5)."""
    after_name = stat.rpartition(") ")[2].split()
    user, system, core = int(after_name[11]), int(after_name[12]), int(after_name[36])
    return core, (user + system) / _TICKS_PER_SECOND


class Gpus:
    """The GPUs of the machine, if it has any: one `nvidia-smi` prints their state over and over."""

    def __init__(self, interval_s: float) -> None:
        self._latest: dict[int, Gpu] = {}
        self._process: subprocess.Popen[str] | None = None
        if program := shutil.which("nvidia-smi"):
            self._process = subprocess.Popen(  # noqa: S603 - the driver's own program
                [program, *_QUERY, f"--loop-ms={int(interval_s * 1000)}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            threading.Thread(
                target=self._read, args=(self._process.stdout,), name="nvidia-smi", daemon=True
            ).start()

    def now(self) -> list[Gpu]:
        """As they were reported last."""
        return [self._latest[index] for index in sorted(self._latest)]

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with suppress(ValueError):  # "[N/A]": this GPU does not say
                    index, utilization, memory = map(float, line.split(","))
                    self._latest[int(index)] = Gpu(utilization, memory)
