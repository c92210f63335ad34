"""Refuses requests that a web page in a browser sends to the sandbox.

The sandbox asks nobody for a password, and moto allows every page to call it (CORS). Without this check, any
page that is open in a browser on this machine could change jobs, read buckets, or run a script as a training
job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def refusal(environ: WSGIEnvironment) -> str:
    """One sentence why the request is refused; empty if it is not.

    Accepted are programs, the sandbox's own page, and a link from elsewhere to a page of the sandbox.
    """
    host = environ.get("HTTP_HOST", "")
    if not _is_loopback(host):
        return (
            "The sandbox answers only to names of this machine, such as 127.0.0.1, not to the name in this "
            "request's Host header."
        )
    # Browsers send Origin with each request that may change something or whose answer a page may read.
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and origin.lower() != f"http://{host}".lower():
        return "The sandbox does not take calls from other web pages."
    # What a page embeds, such as an image, has no Origin.
    elsewhere = environ.get("HTTP_SEC_FETCH_SITE", "none") in ("cross-site", "same-site")
    if elsewhere and not _opens_a_page(environ):
        return "The sandbox does not take calls from other web pages."
    return ""


def _is_loopback(host: str) -> bool:
    """Also a name below one of this machine, since SDKs put the name of a bucket before it."""
    name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name.lower() in LOOPBACK or name.lower().endswith((".localhost", ".127.0.0.1"))


def _opens_a_page(environ: WSGIEnvironment) -> bool:
    """Whether a person follows a link to the sandbox's page."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and environ["PATH_INFO"].rstrip("/") == "/sandbox"
        and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        and environ.get("HTTP_SEC_FETCH_DEST") == "document"
    )
