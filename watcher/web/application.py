"""The pages that the daemon serves.

    /          the status page
    /healthz   200 while every loop runs, else 503: restart the process
    /readyz    200 while store and queue are reachable, else 503; says which destinations refuse alerts
    /metrics   for Prometheus

`/healthz` ignores store and queue, since a restart would not make them reachable.

`access` decides who may read a page. To all others, `/healthz` and `/readyz` answer with their status, but
not with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from watcher.errors import WatcherError
from watcher.text import one_line
from watcher.web.access import Access, Guarded, Verdict
from watcher.web.loops import Loops
from watcher.web.readiness import Readiness

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_LINES = 50
"""Of an answer of `/healthz` or `/readyz`."""
MAX_IN_WORK = 100
"""Requests for other pages than `/healthz`, those of clients that went away included."""


def application(
    loops: Loops,
    readiness: Readiness,
    registry: CollectorRegistry,
    status_page: Callable[[], str],
    access: Access,
) -> Guarded:
    # Starlette runs plain functions in threads, because they may wait. /healthz never waits, so it is async,
    # and answers even if all threads are busy.

    async def healthz(request: Request) -> Response:
        late = loops.late()
        lines = [f"{lag} (limit {lag.bound:.0f} s)" for lag in late]
        return _answer(request, lines or ["every loop runs"], well=not late)

    def readyz(request: Request) -> Response:
        answer = readiness.answer()
        degraded = [f"degraded: {sentence}" for sentence in answer.degraded]
        lines = [*answer.problems, *degraded] or ["store and queue are reachable"]
        # A destination that refuses alerts is not fixed by sending requests to another process.
        return _answer(request, lines, well=answer.ready)

    encoding = asyncio.Lock()

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        async with (
            encoding
        ):  # many threads at once would hold Python's lock too long for the rest of the daemon
            text = await run_in_threadpool(encode, registry)
        return Response(text, headers={"Content-Type": content_type})

    def status(request: Request) -> Response:
        try:
            return HTMLResponse(status_page())
        except WatcherError as error:
            return _answer(request, [str(error)], well=False)

    pages = {"/": status, "/healthz": healthz, "/readyz": readyz, "/metrics": metrics}
    routes = [Route(path, page, methods=["GET"]) for path, page in pages.items()]
    return Guarded(Limited(Starlette(routes=routes)), access)


class Limited:
    """At most `MAX_IN_WORK` requests at a time. Any more get 503. Those for `/healthz` never wait, and do not
    count."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._in_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/healthz":
            await self._application(scope, receive, send)
        elif self._in_work >= MAX_IN_WORK:
            await PlainTextResponse("too many requests at a time\n", 503)(scope, receive, send)
        else:
            self._in_work += 1
            try:
                await self._application(scope, receive, send)
            finally:
                self._in_work -= 1


def _answer(request: Request, lines: list[str], *, well: bool) -> Response:
    if request.state.verdict is Verdict.STATUS_ONLY:
        lines = ["ok" if well else "not ok; to those who may read it, this page says why"]
    elif len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"and {len(lines) - MAX_LINES} more"]
    return PlainTextResponse("\n".join(map(one_line, lines)) + "\n", status_code=200 if well else 503)
