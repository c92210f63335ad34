"""Runs a container, which is a process here. It gets a JSON document, and its output is read line by line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_MAX_ERROR_LINES = 20
"""Lines of stderr that are kept, the last ones."""


@dataclass(frozen=True)
class Exit:
    code: int
    """Negative if a signal ended it."""
    last_output: str
    """The last line of its stdout that is not empty."""
    last_errors: str
    """The last lines of its stderr."""


class Container:
    """`out` and `err` are called with each line, without its line end, in a thread for each stream."""

    def __init__(
        self,
        command: Sequence[str],
        document: Path,
        environment: Mapping[str, str],
        *,
        out: Callable[[str], None],
        err: Callable[[str], None],
    ) -> None:
        self._last_output = ""
        self._errors: deque[str] = deque(maxlen=_MAX_ERROR_LINES)
        self._out, self._err = out, err
        self._process = subprocess.Popen(  # noqa: S603 - the commands are the sandbox's own settings
            [*command, str(document)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=dict(environment),
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(
                target=self._read, args=source, name=f"container-{self._process.pid}", daemon=True
            )
            for source in ((self._process.stdout, self._output), (self._process.stderr, self._error))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds. Returns whether the process has ended."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, timeout: float) -> None:
        """Send SIGTERM to the process and its children, and SIGKILL if it runs after `timeout` seconds."""
        self._signal(signal.SIGTERM)
        if not self.wait(timeout):
            self.kill()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def exit(self) -> Exit:
        """Wait for the end of the process and for its last lines. Returns how it ended."""
        code = self._process.wait()
        self.kill()  # children that still run would keep the streams open
        for reader in self._readers:
            reader.join()
        return Exit(code, self._last_output, "\n".join(self._errors))

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _output(self, line: str) -> None:
        self._last_output = line or self._last_output
        self._out(line)

    def _error(self, line: str) -> None:
        self._errors.append(line)
        self._err(line)

    @staticmethod
    def _read(stream: IO[str], handle: Callable[[str], None]) -> None:
        with stream:
            for line in stream:
                handle(line.rstrip())
