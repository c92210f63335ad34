"""A receiver of webhooks on loopback: it refuses requests without a valid signature and keeps the others.

with WebhookDouble("a shared secret", clock) as receiver:
    channel = WebhookChannel(receiver.url, receiver.secret)
    receiver.answer(503, {"Retry-After": "7"})         # to the next request
    receiver.bodies

It refuses a body that is not as docs/webhook.schema.json describes it, with 422 and what is wrong. The schema
allows keys that it does not know; the double does not, so that each key is described.

It answers HEAD with 405, as many receivers do; `answer` applies to HEAD, too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, cast

from jsonschema import Draft202012Validator

from watcher.delivery.channels.signature import HEADER, verify

SCHEMA = Path(__file__).parents[2] / "docs" / "webhook.schema.json"


def faults(body: Any) -> list[str]:
    """How a body differs from its description, which also has to name each key."""
    return [f"{error.json_path}: {error.message}" for error in _validator().iter_errors(body)]


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(_closed(json.loads(SCHEMA.read_text())))


def _closed(schema: Any) -> Any:
    """The schema without keys that it does not name."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(item) for key, item in schema.items()}
    # `properties` and `$defs` are no schemas themselves.
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        return {"additionalProperties": False} | closed
    return closed


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
    body: str = ""


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

    def answer(self, status: int, headers: Mapping[str, str] | None = None, body: str = "") -> None:
        """Answer the next request like this, instead of with 204."""
        self._answers.append(_Answer(status, headers or {}, body=body))

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
        content = json.loads(body)
        receiver.received.append(Received(self.path, dict(self.headers), content))
        if found := faults(content):
            self._end(_Answer(422, body="; ".join(found)))
            return
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
            content = answer.body.encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass
