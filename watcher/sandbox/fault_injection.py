"""Counts the calls of each AWS operation, and makes chosen calls fail."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


@dataclass
class Fault:
    operation: str
    """A glob on `service:Operation`; for S3 the operation is the HTTP method (`s3:GET`)."""
    code: str = "ThrottlingException"
    message: str = "Rate exceeded"
    status: int = 400
    times: int | None = None
    """How many calls fail; None: all, until the faults are cleared."""
    after: int = 0
    """How many calls are answered before the first one that fails."""
    every: int = 1
    """1: each call after that fails; 2: every second one; and so on."""
    members: dict[str, Any] = field(default_factory=dict)
    """Further members of the error of a JSON service, such as `CancellationReasons`."""


class Faults:
    """WSGI middleware around moto."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._faults: list[Fault] = []

    def inject(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def pending(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def calls(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._calls)

    def forget_calls(self) -> None:
        with self._lock:
            self._calls.clear()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["sandbox.operation"] = operation = operation_of(environ)
        if fault := self._take(operation):
            return failed(environ, fault, start_response)
        return self._application(environ, start_response)

    def _take(self, operation: str) -> Fault | None:
        with self._lock:
            self._calls[operation] += 1
            for fault in self._faults:
                if fnmatchcase(operation, fault.operation):
                    if fault.after:
                        fault.after -= 1
                        continue
                    fault.after = fault.every - 1
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times == 0:
                            self._faults.remove(fault)
                    return fault
        return None


_SERVICES = {"monitoring": "cloudwatch"}
"""The name of a service in policies, by the name in its signatures, if they differ."""


def operation_of(environ: WSGIEnvironment) -> str:
    """`sagemaker:Search`, `sts:GetCallerIdentity`, `s3:GET`. The service is read from the signature."""
    credential = re.search(r"Credential=[^,/]+/\d+/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    signed_for = credential.group(1) if credential else "unsigned"
    service = _SERVICES.get(signed_for, signed_for)
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return f"{service}:{target.rpartition('.')[2]}"
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        form = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(form)
        if action := parse_qs(form.decode(errors="replace")).get("Action"):
            return f"{service}:{action[0]}"
    return f"{service}:{environ['REQUEST_METHOD']}"


_XML_SERVICES = frozenset({"s3", "s3-control", "route53", "cloudfront"})


def protocol_of(environ: WSGIEnvironment) -> Literal["json", "query", "xml"]:
    """How the service of the request writes its errors."""
    if "HTTP_X_AMZ_TARGET" in environ:
        return "json"
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return "query"
    service = environ["sandbox.operation"].partition(":")[0]
    return "xml" if service in _XML_SERVICES or service == "unsigned" else "json"


def failed(environ: WSGIEnvironment, fault: Fault, start_response: StartResponse) -> Iterable[bytes]:
    """The answer to a request that fails, in the protocol of the request."""
    content_type, body = _error(protocol_of(environ), fault)
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("x-amzn-RequestId", str(uuid.uuid4())),
        ("x-amzn-ErrorType", fault.code),
    ]
    start_response(f"{fault.status} {fault.code}", headers)
    return [body]


def _error(protocol: str, fault: Fault) -> tuple[str, bytes]:
    """Content type and body."""
    if protocol == "json":
        body: dict[str, Any] = {"__type": fault.code, "message": fault.message, **fault.members}
        return "application/x-amz-json-1.1", json.dumps(body).encode()
    error = f"<Error><Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message></Error>"
    if protocol == "xml":
        return "application/xml", error.encode()
    return "text/xml", f"<ErrorResponse>{error}</ErrorResponse>".encode()
