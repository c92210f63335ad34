"""Decides who may read the pages: by the header `Host`, the bearer token and the address of the client.

A web page in a browser can make a name of its own resolve to this machine (DNS rebinding), and then reads
what is served there. Such a request carries that name in `Host`, so Watcher answers only to names that are
its own. The health checks of load balancers send no token, so their paths answer with the status alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from watcher.config.settings import Http

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HEALTH_PATHS = frozenset({"/healthz", "/readyz"})


class Verdict(StrEnum):
    ALLOWED = "allowed"
    STATUS_ONLY = "status only"
    """A health check without a token: it may know the status and nothing else."""
    WRONG_HOST = "wrong host"
    NO_TOKEN = "no token"  # noqa: S105 - a word, not a token
    NOT_A_PROXY = "not a proxy"
    """There is no token, and the client is none of the proxies."""


REFUSALS: Mapping[Verdict, tuple[int, str, Mapping[str, str]]] = {
    Verdict.WRONG_HOST: (
        421,
        "Watcher does not answer to the name in this request's Host header; if it is Watcher's, "
        "add it to http.hosts in the settings.",
        {},
    ),
    Verdict.NO_TOKEN: (
        401,
        "This page needs the header `Authorization: Bearer TOKEN`, with the token of http.token.",
        {"WWW-Authenticate": 'Bearer realm="Watcher"'},
    ),
    Verdict.NOT_A_PROXY: (
        403,
        "Watcher serves this page only to the proxies that http.proxies names.",
        {},
    ),
}
"""Status, sentence and headers. They show nothing of the request or the settings."""


@dataclass(frozen=True, slots=True)
class Access:
    names: frozenset[str]
    """The names in `Host` that are Watcher's own, in lower case. The address that the request came to is
    accepted, too: the name of a rebinding page is never an address."""
    token: bytes = b""
    remote: bool = False
    """Whether other machines can connect."""
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def of(cls, http: Http) -> Access:
        own = (_name(host if ":" not in host else f"[{host}]") for host in (http.listen_host, *http.hosts))
        return cls(
            LOOPBACK_NAMES | frozenset(own),
            http.token.get_secret_value().encode(),
            http.remote,
            tuple(map(ip_network, http.proxies)),
        )

    def verdict(
        self, path: str, host: str | None, authorization: str | None, client: str, own: str
    ) -> Verdict:
        """`host` and `authorization` are the request's headers, `client` and `own` the addresses of the two
        ends of its connection, empty if that is closed already."""
        name = _name(host or "")
        if not name or name not in self.names | {own}:
            return Verdict.WRONG_HOST
        if self._may_read(authorization, client):
            return Verdict.ALLOWED
        if path in HEALTH_PATHS:
            return Verdict.STATUS_ONLY
        return Verdict.NO_TOKEN if self.token else Verdict.NOT_A_PROXY

    def _may_read(self, authorization: str | None, client: str) -> bool:
        if not self.token and not self.remote:
            return True
        if self.token and authorization:
            scheme, _, token = authorization.partition(" ")
            given = token.strip().encode()
            if scheme.lower() == "bearer" and hmac.compare_digest(given, self.token):
                return True
        return bool(client) and any(ip_address(client) in network for network in self.proxies)


def _name(host: str) -> str:
    """The host of a `Host` header, without the port, the brackets of an IPv6 address and a dot at the end."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


class Guarded:
    """An application behind `access`. It finds the verdict in `request.state.verdict`."""

    def __init__(self, application: ASGIApp, access: Access) -> None:
        self._application, self._access = application, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        verdict = self._access.verdict(
            scope["path"],
            headers.get("Host"),
            headers.get("Authorization"),
            *(end[0] if end else "" for end in (scope["client"], scope["server"])),
        )
        if verdict in REFUSALS:
            status, sentence, extra = REFUSALS[verdict]
            await PlainTextResponse(f"{sentence}\n", status, extra)(scope, receive, send)
            return
        scope.setdefault("state", {})["verdict"] = verdict
        await self._application(scope, receive, send)
