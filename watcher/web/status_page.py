"""The status page: the content of `watcher status`, `incidents` and `jobs` as HTML."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from functools import cached_property

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from watcher import __version__
from watcher.alerts import in_brief
from watcher.aws import links
from watcher.errors import WatcherError
from watcher.model import Delivery, Finding, Incident
from watcher.store import incident_views, views
from watcher.store.base import JobRecord, KnownRun, Store
from watcher.text import ago, counts, instances, roughly, shown
from watcher.web.loops import Loops
from watcher.web.readiness import Readiness

PAGE_LIFETIME_S = 10.0
"""A page is served again for this long, since making one reads the whole store."""
MAX_ROWS = 50
"""Rows of each table. `watcher incidents` and `watcher jobs` list all."""


class NoPageYet(WatcherError):
    """The first page is being made."""


class _ReadOnce:
    """The content of the store, read once for all tables of a page."""

    def __init__(self, store: Store) -> None:
        self._jobs, self._incidents = store.jobs(), store.incidents()
        self._findings, self._deliveries = store.findings(), store.deliveries()

    def jobs(self) -> list[JobRecord]:
        return self._jobs

    def runs(self) -> list[KnownRun]:
        return [*map(KnownRun.of, self._jobs)]

    def incidents(self) -> list[Incident]:
        return self._incidents

    def findings(self) -> list[Finding]:
        return self._findings

    def deliveries(self) -> list[Delivery]:
        return self._deliveries


class StatusPage:
    """`url` is the store's. Safe to use from several threads."""

    def __init__(
        self,
        *,
        store: Store,
        url: str,
        loops: Loops,
        readiness: Readiness,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._store, self._url, self._loops, self._readiness = store, url, loops, readiness
        self._clock, self._monotonic = clock, monotonic
        self._making = threading.Lock()
        self._page = ""
        self._made_at = monotonic() - PAGE_LIFETIME_S

    def __call__(self) -> str:
        """The page as HTML.

        Only one thread at a time makes it. Meanwhile the others get the last page, so a slow store holds only
        one of the server's threads. Raises `StoreError`, and `NoPageYet` if there is no last page.
        """
        if self._monotonic() - self._made_at >= PAGE_LIFETIME_S and self._making.acquire(blocking=False):
            try:
                self._page = self._make()
                self._made_at = self._monotonic()
            finally:
                self._making.release()
        if not self._page:
            raise NoPageYet("this page is being made; load it again in a few seconds")
        return self._page

    def _make(self) -> str:
        now, content = self._clock(), _ReadOnce(self._store)
        jobs = views.jobs(content)
        # Watched jobs first, since people look for these. The sort keeps each group newest first.
        jobs.sort(key=lambda job: not job["watching"])
        return self._template.render(
            version=__version__,
            now=now,
            status=views.status(content, self._url),
            jobs=jobs[:MAX_ROWS],
            cases=incident_views.cases(content)[:MAX_ROWS],
            lags=self._loops.lags(),
            problems=self._readiness.answer().problems,
            max_rows=MAX_ROWS,
        )

    @cached_property
    def _template(self) -> Template:
        environment = Environment(
            loader=PackageLoader("watcher.web", "."),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals["training_job"] = links.training_job
        environment.filters.update(ago=ago, counts=counts, roughly=roughly)
        environment.globals["instances"] = instances
        environment.globals["in_brief"] = in_brief
        return environment.get_template("status.html")
