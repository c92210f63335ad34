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

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from watcher.errors import WatcherError
from watcher.web.access import Access, Guarded, Verdict
from watcher.web.loops import Loops
from watcher.web.readiness import Readiness

MAX_LINES = 50
"""Of an answer of `/healthz` or `/readyz`."""


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

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    def status(request: Request) -> Response:
        try:
            return HTMLResponse(status_page())
        except WatcherError as error:
            return _answer(request, [str(error)], well=False)

    pages = {"/": status, "/healthz": healthz, "/readyz": readyz, "/metrics": metrics}
    routes = [Route(path, page, methods=["GET"]) for path, page in pages.items()]
    return Guarded(Starlette(routes=routes), access)


def _answer(request: Request, lines: list[str], *, well: bool) -> Response:
    if request.state.verdict is Verdict.STATUS_ONLY:
        lines = ["ok" if well else "not ok; to those who may read it, this page says why"]
    elif len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"and {len(lines) - MAX_LINES} more"]
    return PlainTextResponse("\n".join(lines) + "\n", status_code=200 if well else 503)
