"""A daemon as a process of a test's own: the whole of it, with a lease that ends soon after its death."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

import watcher.alerts.plots

# What a daemon imports late, its first delivery would wait for: the fork server has it already.
import watcher.debug_output.reader
import watcher.delivery.channels.slack
import watcher.store.dynamodb.store
import watcher.store.sqlite  # noqa: F401
from watcher.config.settings import Config
from watcher.daemon.app import App

LEASE = 1.0


def run_daemon(config: Config, environment: Mapping[str, str], lease: float = LEASE) -> None:
    os.environ.update(environment)
    app = App(config, lease=lease)
    if app.queued:  # what another replica handles just now is not an outage
        app.queued._pause = lambda receives: 1
    signal.signal(signal.SIGTERM, lambda *_: app.stop())
    app.run()
    app.close()
    if app.failure:
        raise app.failure
