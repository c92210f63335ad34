"""An HTTP server that runs in one thread."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn

from watcher.errors import ConfigError

if TYPE_CHECKING:
    from starlette.applications import Starlette

SHUTDOWN_TIMEOUT_S = 2
"""How long a response may take to finish once the server closes."""


class Server:
    """`listen` is HOST:PORT, with an IPv6 address in brackets. Port 0 picks a free one.

    Raises `ConfigError` if it cannot listen there.
    """

    def __init__(self, listen: str, application: Starlette) -> None:
        self._socket = _listening(listen)
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
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
