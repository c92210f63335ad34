"""Daemons and commands that a test starts and kills, each in its own process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path

# A daemon imports these when it first needs them. The fork server preloads them, so no delivery waits.
import watcher.alerts.plots
import watcher.debug_output.reader
import watcher.delivery.channels.slack
import watcher.store.dynamodb.store
import watcher.store.sqlite  # noqa: F401
from tests.waiting import WAIT_LIMIT_S
from watcher import cli
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.daemon.context import utc_now
from watcher.delivery.outbox import LEASE_S
from watcher.end_signals import on_end_signals

# The fork server imports the daemon once: each daemon is a real process and still starts in milliseconds.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class Daemon(_processes.Process):
    """One daemon, with `environment` added to its own. Its clock is `ahead_s` seconds ahead."""

    def __init__(
        self, config: Config, environment: Mapping[str, str], lease_s: float, ahead_s: float
    ) -> None:
        super().__init__()
        self.ahead_s = ahead_s
        self._config, self._environment, self._lease_s = config, environment, lease_s
        self.handles_sigterm = _processes.Event()

    def run(self) -> None:
        os.environ.update(self._environment)
        ahead = timedelta(seconds=self.ahead_s)
        app = App(self._config, lease=self._lease_s, clock=lambda: utc_now() + ahead)
        if app.queued:  # retry at once: what is throttled here goes through the next time
            app.queued._retry_delay = lambda receives: 1
        on_end_signals(app.stop)
        self.handles_sigterm.set()
        app.run()
        app.close()
        if app.failure:
            raise app.failure


class Command(_processes.Process):
    """One command that a person types, such as `watcher ack JOB`, with `environment` added to its own."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], output: Path) -> None:
        super().__init__()
        self.arguments, self.output = list(arguments), output
        self._environment = environment

    def run(self) -> None:
        os.environ.update(self._environment)
        with self.output.open("w") as output, redirect_stdout(output), redirect_stderr(output):
            code = cli.main(self.arguments)
        sys.exit(code)


class Daemons:
    """Starts daemons and commands with `environment` added to their own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._started: list[Daemon | Command] = []

    def command(self, output: Path, *arguments: str, user: str = "alice") -> Command:
        """Start a command of this user, whose output goes to a file."""
        command = Command(arguments, {**self._environment, "LOGNAME": user}, output)
        command.start()
        self._started.append(command)
        return command

    def start(self, config: Config, lease_s: float = LEASE_S, ahead_s: float = 0) -> Daemon:
        daemon = Daemon(config, self._environment, lease_s, ahead_s)
        daemon.start()
        self._started.append(daemon)
        return daemon

    def close(self) -> None:
        """Kill what still runs because a test failed, so that they do not disturb the next test."""
        for process in self._started:
            process.kill()
            process.join()


def kill(daemon: Daemon) -> None:
    """Send `kill -9` to a daemon, which must still be alive."""
    assert daemon.pid is not None
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.join()
    assert daemon.exitcode == -signal.SIGKILL


def end(*daemons: Daemon) -> list[int | None]:
    """Send SIGTERM to these daemons and return their exit codes.

    A daemon that has just started is given the time to handle the signal: another may have done all of the
    work that the test waited for.
    """
    for daemon in daemons:
        assert daemon.handles_sigterm.wait(WAIT_LIMIT_S)
        daemon.terminate()
    for daemon in daemons:
        daemon.join(WAIT_LIMIT_S)
    return [daemon.exitcode for daemon in daemons]


def end_leases(config: Config) -> None:
    """End the leases that dead daemons hold in the SQLite store, as if another daemon had seen them unchanged
    for their length: what was in flight is uncertain."""
    with closing(sqlite3.connect(config.store.url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute(
            "UPDATE deliveries SET state = 'pending', uncertain = 1, owner = NULL WHERE state = 'in_flight'"
        )
        connection.execute("DELETE FROM leases")
