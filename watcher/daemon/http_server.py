"""Opens the server that the thread `http` runs: the status page, `/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from watcher.config.settings import Config
from watcher.daemon.context import utc_now
from watcher.errors import ConfigError
from watcher.store.base import Store
from watcher.web.loops import Loops
from watcher.web.readiness import Readiness

if TYPE_CHECKING:
    from watcher.web.server import Server

log = structlog.get_logger(__name__)


def open_server(
    config: Config, store: Store, loops: Loops, readiness: Readiness, registry: CollectorRegistry
) -> Server | None:
    """A server that listens at `http.listen`; None if that is empty.

    Raises `ConfigError` if it cannot listen at an address from the settings. If it cannot listen at the
    default address, which another daemon on the machine may use, it returns None.
    """
    if not config.http.listen:
        return None
    # Starlette and uvicorn are imported only by a daemon that serves.
    from watcher.web.access import Access
    from watcher.web.application import application
    from watcher.web.server import Server
    from watcher.web.status_page import StatusPage

    page = StatusPage(
        store=store,
        url=config.store.url,
        loops=loops,
        readiness=readiness,
        clock=utc_now,
        monotonic=time.monotonic,
    )
    try:
        access = Access.of(config.http)
        return Server(config.http.listen, application(loops, readiness, registry, page, access))
    except ConfigError as error:
        if "listen" in config.http.model_fields_set:
            raise
        log.warning("not_listening", error=str(error), consequence="no status page, /healthz or /metrics")
        return None
