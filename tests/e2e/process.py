"""`watcher run` as a separate process, as users and ECS run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.waiting import WAIT_LIMIT_S, eventually


class Watcher:
    """A process and its log lines so far. `environment` is added to that of the test."""

    def __init__(self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "watcher", "run", "--verbose", *arguments],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(self.process.stderr or ())

    def events(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in map(json.loads, self.lines) if entry["event"] == event]

    def ready(self) -> Watcher:
        eventually(lambda: self.events("ready"), "ready")
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send this signal and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(WAIT_LIMIT_S)
        self._reader.join()
        return code

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stderr:
            self.process.stderr.close()
