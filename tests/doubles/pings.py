"""A dead man's switch on loopback: it counts the requests to its address.

with Pings() as pings:
    Heartbeat(pings.url, …).beat()
    pings.received
"""

from __future__ import annotations

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self, cast


class Pings:
    secret = "5f3c9a52-ping"

    def __init__(self) -> None:
        self.received = 0
        self.status = 200
        self.endless = False
        """Whether it goes on answering for as long as somebody reads."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.pings = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{self.secret}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        pings = cast(Pings, self.server.pings)  # type: ignore[attr-defined]
        found = self.path == f"/{pings.secret}"
        pings.received += found
        self.send_response(pings.status if found else 404)
        self.send_header("Content-Length", str(2**40 if pings.endless else 0))
        self.end_headers()
        with suppress(ConnectionError):
            while pings.endless:
                self.wfile.write(bytes(2**16))

    def log_message(self, *_: object) -> None:
        """Logs nothing."""
