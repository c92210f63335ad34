"""A receiver of webhooks on loopback: it refuses requests without a valid signature and keeps the others.

with WebhookDouble("a shared secret", clock) as receiver:
    channel = WebhookChannel(receiver.url, receiver.secret)
    receiver.answer(503, {"Retry-After": "7"})         # to the next request
    receiver.bodies

It answers HEAD with 405, as many receivers do; `answer` applies to HEAD, too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast

from watcher.delivery.channels.signature import HEADER, verify


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class _Answer:
    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False
    close: bool = False


class WebhookDouble:
    def __init__(self, secret: str, clock: Callable[[], datetime]) -> None:
        self.secret = secret
        self.clock = clock
        self.received: list[Received] = []
        self.released = threading.Event()
        self._answers: list[_Answer] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.receiver = self  # type: ignore[attr-defined]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hooks/watcher"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request.body for request in self.received]

    def answer(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """Answer the next request like this, instead of with 204."""
        self._answers.append(_Answer(status, headers or {}))

    def hang(self) -> None:
        """Do not answer the next request until the double ends."""
        self._answers.append(_Answer(hang=True))

    def close_connection(self) -> None:
        """Accept the next request and close the connection without a response."""
        self._answers.append(_Answer(close=True))

    def next_answer(self, status: int = 204) -> _Answer:
        return self._answers.pop(0) if self._answers else _Answer(status)

    def __enter__(self) -> Self:
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.02,), name="webhook", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        receiver = cast("WebhookDouble", self.server.receiver)  # type: ignore[attr-defined]
        answer = receiver.next_answer(405)
        if answer.hang:
            receiver.released.wait()
        elif not answer.close:
            self._end(answer)

    def do_POST(self) -> None:
        receiver = cast("WebhookDouble", self.server.receiver)  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not verify(receiver.secret, self.headers.get(HEADER, ""), body, receiver.clock()):
            self._end(_Answer(401))
            return
        receiver.received.append(Received(self.path, dict(self.headers), json.loads(body)))
        answer = receiver.next_answer()
        if answer.hang:
            receiver.released.wait()
        elif not answer.close:
            self._end(answer)

    def _end(self, answer: _Answer) -> None:
        with suppress(ConnectionError):
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass
