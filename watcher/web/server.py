"""An HTTP server that runs in one thread."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import uvicorn

from watcher.errors import ConfigError
from watcher.web.connections import ACCEPTED_AT_ONCE, SECURITY_HEADERS, BoundedConnection

if TYPE_CHECKING:
    from starlette.types import ASGIApp

QUEUE = 1024
"""Connections that wait in the kernel. They take no file descriptor."""
SHUTDOWN_TIMEOUT_S = 2
"""How long a response may take to finish once the server closes."""


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """asyncio has one number for how many connections wait in the kernel and how many it accepts at once.
        A client whose connection finds no place to wait tries again only after a second."""
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(QUEUE)


class Server:
    """`listen` is HOST:PORT, with an IPv6 address in brackets. Port 0 picks a free one.

    Raises `ConfigError` if it cannot listen there.
    """

    def __init__(self, listen: str, application: ASGIApp) -> None:
        self._socket = _listening(listen)
        self.port: int = self._socket.getsockname()[1]
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it logs each malformed request otherwise
        self._server = _Server(
            uvicorn.Config(
                application,
                http=BoundedConnection,
                # A connection is for one request. So few come that keeping it open saves nothing, and it
                # would let a client send a thousand at once.
                headers=[*SECURITY_HEADERS.items(), ("Connection", "close")],
                backlog=ACCEPTED_AT_ONCE,
                # Else a client on this machine could choose its address, with a header.
                proxy_headers=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            )
        )

    def run(self) -> None:
        """Serve until `close` is called."""
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        self._server.should_exit = True


def _listening(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f'http.listen = "{listen}": cannot listen there ({error}); write another HOST:PORT, or ""'
        ) from error
