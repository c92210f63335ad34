"""Bounds what clients can hold: open connections, and the time for a request and its answer.

uvicorn limits neither the time that a client takes to send a request or to read the answer, nor the number
of connections without a complete request. Without these limits, 1,100 half-sent requests take all file
descriptors of the process.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 100
ACCEPTED_AT_ONCE = 32
"""Three times as many file descriptors can be open for a moment, beyond `MAX_CONNECTIONS`: connections that
are being accepted, opened and closed."""
REQUEST_TIMEOUT_S = 10.0
"""From the opening of a connection until its request is complete, and again from the end of the answer until
the client has read what is left of it."""
ANSWER_TIMEOUT_S = 60.0
"""From the request to the end of the answer."""
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer."""


class BoundedConnection(H11Protocol):
    """One connection.

    If there are too many, a new one takes the place of the one that has made no progress for the longest
    time. So a health check is answered even while a client holds all the others.
    """

    _since: float
    """When the present wait began, by the clock of the event loop."""
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(REQUEST_TIMEOUT_S)
        if len(self.connections) > MAX_CONNECTIONS:
            others = [cast("BoundedConnection", other) for other in self.connections if other is not self]
            min(others, key=lambda other: other._since)._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline:
            self._deadline.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._expect(ANSWER_TIMEOUT_S)

    def on_response_complete(self) -> None:
        self._expect(REQUEST_TIMEOUT_S)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP. uvicorn's own answer would lack the headers."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._abort()  # it has an answer already
            return
        headers = {**SECURITY_HEADERS, "Content-Type": "text/plain; charset=utf-8", "Connection": "close"}
        answer: tuple[Any, ...] = (
            h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request"),
            h11.Data(data=f"{msg}\n".encode()),
            h11.EndOfMessage(),
        )
        for event in answer:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _expect(self, seconds: float) -> None:
        """Abort the connection unless it makes progress within this time."""
        if self._deadline:
            self._deadline.cancel()
        self._since = self.loop.time()
        self._deadline = self.loop.call_later(seconds, self._abort)

    def _abort(self) -> None:
        """Close the socket at once, without waiting for the client to read what is left."""
        self.connections.discard(self)
        self.transport.abort()
