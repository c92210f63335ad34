"""Two signals within milliseconds, as `timeout` sends them, end each process of Watcher that waits for one.

WATCHER_ENDS sets how often each is tried; `make ends` tries 100 times.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import WAIT_LIMIT_S

ENDS = os.environ.get("WATCHER_ENDS")
AT_ONCE = 4

ENDED = {0, -signal.SIGTERM, -signal.SIGINT}
"""At the very end, the interpreter removes its handlers. A second signal that comes then ends it at once."""

WAITS = """
import signal, threading
from watcher.end_signals import on_end_signals

ending = threading.Event()
on_end_signals(ending.set)
with ending._cond:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
ending.wait()
"""
"""Gets its signals while the main thread holds the lock that `Event.set` needs, as inside `Event.wait`."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Has settings with which a daemon starts, and reaches nothing."""
    (tmp_path / "watcher.toml").write_text('region = "us-east-1"\n[http]\nlisten = ""\n')
    return tmp_path


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "none"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def codes(folder: Path, times: int, command: tuple[str, ...], until: str) -> set[int]:
    """Start the command so often, a few at a time, and send each two signals once it has written `until`."""
    found = set()
    for begin in range(0, times, AT_ONCE):
        started = [start(folder, *command) for _ in range(min(AT_ONCE, times - begin))]
        try:
            for process in started:
                assert process.stderr is not None
                assert any(until in line for line in process.stderr), f"{command} ended before {until!r}"
            for number, process in enumerate(started):
                process.send_signal(signal.SIGTERM)
                time.sleep(0.001 * (number % 3))
                process.send_signal(signal.SIGINT if number % 2 else signal.SIGTERM)
            for process in started:
                process.communicate(timeout=WAIT_LIMIT_S)
                found.add(process.returncode)
        finally:
            for process in started:
                process.kill()
                process.communicate()
    return found


def test_signals_while_the_main_thread_holds_the_lock_end_the_process(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WAITS], cwd=tmp_path, timeout=WAIT_LIMIT_S, check=True)


def test_two_signals_at_once_end_the_daemon(folder: Path) -> None:
    assert codes(folder, int(ENDS or 12), ("-m", "watcher", "run"), '"ready"') <= ENDED


def test_two_signals_at_once_end_a_single_pass(folder: Path) -> None:
    refused = "refused"
    command = ("-m", "watcher", "run", "--once", "--verbose")

    assert codes(folder, int(ENDS or 2), command, refused) <= {1} | ENDED


def test_two_signals_at_once_end_the_sandbox(folder: Path) -> None:
    assert codes(folder, int(ENDS or 2), ("-m", "watcher", "sandbox", "--port", "0"), "is ready") <= ENDED
