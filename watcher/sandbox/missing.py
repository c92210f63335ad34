"""Answers what moto lacks, and what fails inside moto, with one sentence in the service's own error shape.

moto's server answers such a request with a page in HTML and the status 500, which AWS's SDKs repeat. Here the
status is 400, which they do not.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import create_backend_app

from watcher.sandbox.fault_injection import Fault, failed, protocol_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_HTML = b"<!doctype html>"
_UNKNOWN_OPERATION = {"json": "UnknownOperationException", "query": "InvalidAction", "xml": "NotImplemented"}
"""The code with which services of each protocol refuse an operation that they do not have."""


_IGNORED_BY_S3 = frozenset(
    {
        *("abac", "analytics", "annotation", "intelligent-tiering", "metadataAnnotationTable"),
        *(
            "metadataConfiguration",
            "metadataInventoryTable",
            "metadataJournalTable",
            "metadataTable",
            "metrics",
        ),
        *("renameObject", "requestPayment", "session", "torrent"),
    }
)
"""What moto's S3 does not look at in a query: it would list the bucket or send the object instead."""


class OneSentence:
    """WSGI middleware around moto; the name of the operation is in the `sandbox.operation` of the request."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if _is_ignored(environ):
            return failed(environ, _lacking(environ), start_response)
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def begin(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:  # noqa: ARG001
            begun.append((status, headers))

        try:
            answer = self._application(environ, begin)
        except NotImplementedError:
            return failed(environ, _lacking(environ), start_response)
        except Exception as error:  # whatever moto does not handle itself
            return failed(environ, _broken(environ, error), start_response)
        status, headers = begun[0]
        if int(status[:3]) < 400:
            start_response(status, headers)
            return answer
        body = b"".join(answer)
        if body[: len(_HTML)].lower() == _HTML:  # the server found no handler for the request's path
            return failed(environ, _lacking(environ), start_response)
        start_response(status, headers)
        return [body]


def create_app(service: str | None) -> Any:
    """moto's application for a service; raises NotImplementedError if moto does not have the service."""
    if service is None:
        raise NotImplementedError
    return create_backend_app(service)


def _is_ignored(environ: WSGIEnvironment) -> bool:
    service, _, method = environ["sandbox.operation"].partition(":")
    if service != "s3" or not (query := environ.get("QUERY_STRING")):
        return False
    asked = {part.partition("=")[0] for part in query.split("&")}
    return bool(asked & _IGNORED_BY_S3) or (method == "GET" and "retention" in asked)


def _lacking(environ: WSGIEnvironment) -> Fault:
    operation = str(environ["sandbox.operation"])
    code = _UNKNOWN_OPERATION[protocol_of(environ)]
    return Fault(operation, code, f"the sandbox has no {_named(environ, operation)}")


def _broken(environ: WSGIEnvironment, error: Exception) -> Fault:
    operation = str(environ["sandbox.operation"])
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.lineno}"
    why = " ".join(f"{type(error).__name__}: {error} ({place})".split())
    message = f"the sandbox cannot answer {_named(environ, operation)}: {why}"
    return Fault(operation, "InternalFailure", message)


def _named(environ: WSGIEnvironment, operation: str) -> str:
    """The operation, or the path where the protocol has no names of operations."""
    service, _, name = operation.partition(":")
    if name != environ["REQUEST_METHOD"]:
        return operation
    query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
    return f"{service} request {name} {environ['PATH_INFO']}{query}"
