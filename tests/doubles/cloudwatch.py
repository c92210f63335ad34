"""CloudWatch (metrics and the end of a log) on loopback, for responses that neither AWS nor the sandbox gives
on demand.

with CloudWatchDouble() as cloudwatch:
    cloudwatch.answers = [{"MetricDataResults": […], "NextToken": "…"}, …]  # the last one repeats
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloudwatch.url)
    cloudwatch.requests
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast


class CloudWatchDouble:
    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.cloudwatch = self  # type: ignore[attr-defined]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        double = cast("CloudWatchDouble", self.server.cloudwatch)  # type: ignore[attr-defined]
        if not self.headers["X-Amz-Target"].endswith((".GetMetricData", ".GetLogEvents")):
            self.send_error(501)
            return
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(double.call(request)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
