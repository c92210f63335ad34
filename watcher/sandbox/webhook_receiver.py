"""A server for the demo that receives Watcher's webhooks, checks their signatures and keeps them."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from watcher.delivery.channels.signature import HEADER, verify


@dataclass(frozen=True, slots=True)
class Received:
    at: datetime
    body: dict[str, Any]


class WebhookReceiver:
    """In `with WebhookReceiver(secret) as receiver:`, it listens at `receiver.url`, on loopback."""

    def __init__(self, secret: str) -> None:
        received = self.received = list[Received]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                now = datetime.now(UTC)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                genuine = verify(secret, self.headers.get(HEADER, ""), body, now)
                if genuine:
                    received.append(Received(now, json.loads(body)))
                self.send_response(204 if genuine else 401)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def first(self, kind: str) -> Received | None:
        return next((received for received in self.received if received.body["kind"] == kind), None)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="webhooks", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
