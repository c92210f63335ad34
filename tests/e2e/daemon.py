"""Daemons that a test starts and kills, each in its own process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from multiprocessing.process import BaseProcess

# A daemon imports these when it first needs them. The fork server preloads them, so no delivery waits.
import watcher.alerts.plots
import watcher.debug_output.reader
import watcher.delivery.channels.slack
import watcher.store.dynamodb.store
import watcher.store.sqlite  # noqa: F401
from tests.waiting import WAIT_LIMIT_S
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.delivery.outbox import LEASE_S

# The fork server imports the daemon once: each daemon is a real process and still starts in milliseconds.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class Daemons:
    """Starts daemons with `environment` added to their own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._started: list[BaseProcess] = []

    def start(self, config: Config, lease_s: float = LEASE_S) -> BaseProcess:
        process = _processes.Process(target=_run, args=(config, self._environment, lease_s))
        process.start()
        self._started.append(process)
        return process

    def close(self) -> None:
        """Kill daemons that still run because a test failed, so that they do not disturb the next test."""
        for process in self._started:
            process.kill()
            process.join()


def kill(process: BaseProcess) -> None:
    """Send `kill -9` to a daemon, which must still be alive."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def end(*processes: BaseProcess) -> list[int | None]:
    """Send SIGTERM to these daemons and return their exit codes."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(WAIT_LIMIT_S)
    return [process.exitcode for process in processes]


def end_leases(config: Config) -> None:
    """End the leases that dead daemons hold in the SQLite store, as if they had expired."""
    with closing(sqlite3.connect(config.store.url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE deliveries SET lease_until = due_at WHERE lease_until IS NOT NULL")
        connection.execute("DELETE FROM leases")


def _run(config: Config, environment: Mapping[str, str], lease_s: float) -> None:
    os.environ.update(environment)
    app = App(config, lease=lease_s)
    if app.queued:  # retry at once, because here another replica is just handling the message
        app.queued._retry_delay = lambda receives: 1
    signal.signal(signal.SIGTERM, lambda *_: app.stop())
    app.run()
    app.close()
    if app.failure:
        raise app.failure
