"""Watcher's commands as separate processes, as users, cron and ECS run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.waiting import WAIT_LIMIT_S, eventually
from watcher.config.settings import Config


def write_settings(config: Config, folder: Path) -> None:
    """Write a `watcher.toml` with these settings, for commands that run in this folder."""
    slack, watch = config.slack, config.watch
    (folder / "watcher.toml").write_text(
        f"""
        [watch]
        poll_interval = {watch.poll_interval}
        [store]
        url = "{config.store.url}"
        [slack]
        bot_token = "{slack.bot_token.get_secret_value()}"
        channel = "{slack.channel}"
        api_url = "{slack.api_url}"
        [http]
        listen = ""
        """
    )


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str


def command(folder: Path, *arguments: str) -> Ran:
    """Run a command of Watcher in a folder with its settings, and wait for its end."""
    done = subprocess.run(
        [sys.executable, "-m", "watcher", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_LIMIT_S,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


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
