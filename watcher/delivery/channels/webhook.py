"""Sends alerts as signed HTTP POSTs to any address, for programs that act on findings.

The body is JSON. docs/webhook.schema.json describes each key, and docs/webhooks.md shows an example. Later
versions may add keys, but never remove any. Values that JSON cannot express are the strings "nan", "inf" and
"-inf". For the signature, see `watcher.delivery.channels.signature`.

Only the status of the answer counts: 2xx means delivered, `http_status` decides which are retried, and any
other is a refusal.
"""

from __future__ import annotations

import json
import logging
import math
import socket
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from watcher.alerts.cost import Spend
from watcher.alerts.job_facts import Facts
from watcher.alerts.message import Message
from watcher.config.destination import public_url
from watcher.delivery.channels import http_status
from watcher.delivery.channels.base import TEST_TITLE, OneWayChannel, Probe, identity_of_test
from watcher.delivery.channels.signature import HEADER, sign
from watcher.errors import DeliveryError, FormRefused, Retry, Undeliverable
from watcher.model import Change, Finding, Incident, Reading, RunStop
from watcher.redaction import MASK, Redactor
from watcher.text import printable, truncated

TIMEOUT_S = 10.0
REASON_READ_BYTES = 4096
"""Of the body of a refusal."""
SECRET_MIN_LENGTH = 4
"""A shorter part of the URL would mask parts of ordinary words."""
REASON_LIMIT = 200
"""Characters of the reason that are shown."""
USER_AGENT = "watcher"

_NO_HEAD = frozenset({401, 405, 501})
"""The usual answers of a receiver that takes only POST, or only what is signed."""
_TRY = "`watcher check --send` posts a test message"


class WebhookChannel(OneWayChannel):
    def __init__(self, url: str, secret: str, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._secret = secret
        self._timeout_s = timeout_s
        self._name = f"the webhook {public_url(url)}"
        # httpx logs whole URLs at INFO, and a webhook's URL may hold a secret.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    def send(self, message: Message) -> str:
        self._post(document(message), message.key, message.at)
        return ""

    def _post(self, content: dict[str, Any], id_: str, at: datetime) -> int:
        """Sign and send it. Returns the status of the answer."""
        body = json.dumps(content, allow_nan=False).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            # Of a refusal's body only the beginning is read, and nothing is unpacked.
            "Accept-Encoding": "identity",
            "Idempotency-Key": id_,
            HEADER: sign(self._secret, body, at),
        }
        try:
            # Streamed, so that only the beginning of the answer is read, however long its body is.
            with httpx.stream(
                "POST",
                self._url,
                content=body,
                headers=headers,
                timeout=self._timeout_s,
                follow_redirects=False,
            ) as answer:
                if not answer.is_success:
                    raise self._refusal(answer, at)
                return answer.status_code
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Retry(f"{self._name} cannot be reached: {error}") from error
        except httpx.TimeoutException as error:
            raise Retry(f"{self._name} did not answer in time", uncertain=True) from error
        except httpx.InvalidURL as error:
            raise Undeliverable(f"{self._name} is not a valid address: {error}") from error
        except httpx.TransportError as error:
            raise Retry(f"{self._name}: the connection broke ({error})", uncertain=True) from error

    def probe(self) -> Probe:
        """Connect, with TLS if the address has it, and ask with HEAD, which posts nothing.

        A receiver need not know HEAD, so hardly any answer shows that it would refuse a POST.
        """
        try:
            with httpx.stream(
                "HEAD",
                self._url,
                headers={"User-Agent": USER_AGENT},
                timeout=self._timeout_s,
                follow_redirects=False,
            ) as answer:
                return self._judged(answer)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Retry(f"{self._name} cannot be reached: {_why_unreachable(error)}") from error
        except httpx.InvalidURL as error:
            raise Undeliverable(f"{self._name} is not a valid address: {error}") from error
        except httpx.TransportError as error:
            what = "in time" if isinstance(error, httpx.TimeoutException) else f"({error})"
            return Probe(f"connected, but it did not answer HEAD {what}", f"check its service; {_TRY}")

    def _judged(self, answer: httpx.Response) -> Probe:
        status = answer.status_code
        said = f"answers HEAD with {status} {answer.reason_phrase}".rstrip()
        if answer.has_redirect_location:
            elsewhere = public_url(str(answer.url.join(answer.headers["Location"])))
            return Probe(f"{said} to {elsewhere}", "redirects are not followed: configure that address")
        if status in (404, 410):
            return Probe(said, f"check the path, unless it is known for POST only; {_TRY}")
        if status == 401 and "WWW-Authenticate" in answer.headers:
            return Probe(f"{said}: it wants a user and password", f"put them into the URL; {_TRY}")
        if status == 403:
            return Probe(said, f"check that it lets Watcher's network in; {_TRY}")
        if status in (408, 425, 429) or (status >= 500 and status != 501):
            return Probe(said, f"check its service; {_TRY}")
        return Probe("connected" if answer.is_success or status in _NO_HEAD else f"connected; {said}")

    def send_test(self, text: str, at: datetime) -> str:
        id_ = identity_of_test(at)
        return f"answered {self._post(_test_document(text, id_, at), id_, at)}"

    def _refusal(self, answer: httpx.Response, now: datetime) -> DeliveryError:
        said = f"{self._name} answered {answer.status_code} {answer.reason_phrase}".rstrip()
        if error := http_status.retry(said, answer.status_code, answer.headers.get("Retry-After"), now):
            return error
        if answer.has_redirect_location:
            elsewhere = public_url(str(answer.url.join(answer.headers["Location"])))
            return Undeliverable(f"{said} to {elsewhere}: redirects are not followed, configure that address")
        if reason := self._reason(answer):
            said = f'{said}: "{reason}"'
        if answer.status_code == http_status.TOO_LARGE:
            return FormRefused(said)
        fix = (
            "check that it has the same webhook.secret"
            if answer.status_code in (401, 403)
            else "check the address, and the log of its service"
        )
        return Undeliverable(f"{said}; {fix}")

    def _reason(self, answer: httpx.Response) -> str:
        """Why it refuses, from its body: the first line of a text, or the usual member of a JSON object.
        Secrets are masked."""
        if "Content-Encoding" in answer.headers:
            return ""
        body = b""
        try:
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) >= REASON_READ_BYTES:
                    break
        except httpx.HTTPError:  # the status alone says enough
            return ""
        text = _reason_in(body[:REASON_READ_BYTES].decode(errors="replace"))
        return truncated(self._masked(text), REASON_LIMIT)

    def _masked(self, text: str) -> str:
        """Without what the URL and the signature keep secret, which a receiver may repeat."""
        text = Redactor([self._secret, self._url]).text(text)
        parts = urlsplit(self._url)
        secrets = [parts.password or "", parts.query, parts.fragment, *dict(parse_qsl(parts.query)).values()]
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= SECRET_MIN_LENGTH:
                text = text.replace(secret, MASK)
        return text


def _reason_in(body: str) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        said = next((document[key] for key in _REASON_KEYS if document.get(key)), "")
        if isinstance(said, dict):
            said = said.get("message", "")
        body = said if isinstance(said, str) else ""
    if body.lstrip()[:1] in ("<", "{", "["):  # a page for people, or data without a reason
        return ""
    lines = (" ".join(printable(line).split()) for line in body.splitlines())
    return next(filter(None, lines), "")


_REASON_KEYS = ("message", "error", "error_description", "detail", "reason", "title")


def _why_unreachable(error: httpx.TransportError) -> str:
    """The reason that lies below httpx's, and how to fix it."""
    reason: BaseException | None = error
    while reason is not None:
        match reason:
            case socket.gaierror():
                return "its name does not resolve; check the address, and DNS"
            case ssl.SSLCertVerificationError():
                return (
                    f"its certificate is not valid here ({reason.verify_message}); renew it, or add its "
                    "authority to the file that SSL_CERT_FILE names"
                )
            case ssl.SSLError():
                return (
                    f"TLS fails ({reason.reason or reason}); check whether the address is http:// or https://"
                )
            case ConnectionRefusedError():
                return "nothing listens there; check the port, and that its service runs"
        reason = reason.__cause__ or reason.__context__
    if isinstance(error, httpx.ConnectTimeout):
        return "no answer in time; check the address, firewalls and security groups"
    return str(error)


def _test_document(text: str, id_: str, at: datetime) -> dict[str, Any]:
    return {
        "version": 2,
        "id": id_,
        "delivery": "",
        "kind": "test",
        "at": at.isoformat(),
        "title": TEST_TITLE,
        "text": text,
        "news": [],
        "status": "",
        "advice": "",
        "stop": "",
        "repeat": False,
        "incident": None,
        "finding": None,
        "findings": [],
        "changes": [],
        "undelivered": [],
        "job": None,
        "evidence": None,
        "left_out": "",
        "links": [],
    }


def document(message: Message) -> dict[str, Any]:
    """The body, as docs/webhook.schema.json describes it."""
    evidence = message.evidence
    return {
        "version": 2,
        "id": message.key,
        "delivery": message.delivery_id,
        "kind": "update" if message.is_update else "alert",
        "at": message.at.isoformat(),
        "title": message.title,
        "text": message.text,
        "news": list(message.news),
        "status": message.status,
        "advice": message.advice,
        "stop": message.stop,
        "repeat": message.repeat,
        "incident": _incident(message.incident),
        "finding": _finding(message.finding),
        "findings": [_finding(finding) for finding in message.findings],
        "changes": [_change(change) for change in message.changes],
        "undelivered": list(message.undelivered),
        "job": _job(message.job) if message.job else None,
        "evidence": {
            "explanation": evidence.explanation,
            "deciding": _readings(evidence.deciding),
            "needed": _readings(evidence.needed),
            "curve": _readings(evidence.curve),
            "curve_from": evidence.curve_from,
            "log": {"stream": evidence.log_stream, "lines": list(evidence.log_lines)},
            "missing": list(evidence.missing),
        },
        "left_out": message.left_out,
        "links": [{"label": label, "url": url} for label, url in message.links],
    }


def _incident(incident: Incident) -> dict[str, Any]:
    return {
        "id": incident.id,
        "run": incident.run,
        "state": incident.state,
        "severity": incident.severity,
        "revision": incident.revision,
        "opened_at": _time(incident.opened_at),
        "resolved_at": _time(incident.resolved_at),
        "acknowledged_by": incident.acknowledged_by or None,
        "acknowledged_at": _time(incident.acknowledged_at),
        "snoozed_until": _time(incident.snoozed_until),
        "snoozed_by": incident.snoozed_by or None,
        "stop": _stop(incident.stop) if incident.stop else None,
    }


def _stop(stop: RunStop) -> dict[str, Any]:
    return {
        "phase": stop.phase,
        "actor": stop.actor,
        "at": _time(stop.at),
        "due_at": _time(stop.due_at),
        "reason": stop.reason,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "kind": finding.kind,
        "severity": finding.severity,
        "job": finding.job,
        "job_arn": finding.job_arn,
        "rule": finding.rule,
        "source": finding.source,
        "sources": [
            {
                "source": finding.source_of(says),
                "status": says.status,
                "step": says.step,
                "at": _time(says.at),
                "reason": says.reason,
            }
            for says in finding.says
        ],
        "status": finding.status,
        "step": finding.step,
        "reason": finding.reason,
        "opened_at": _time(finding.opened_at),
        "episode": finding.episode,
        "closed_at": _time(finding.closed_at),
        "closing": finding.closing,
        "closing_reason": finding.closing_reason,
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "revision": change.revision,
        "kind": change.kind,
        "at": _time(change.at),
        "text": change.text,
        "actor": change.actor or None,
        "door": change.door,
        "finding": change.finding or None,
    }


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _job(job: Facts) -> dict[str, Any]:
    return {
        "status": job.status,
        "secondary_status": job.secondary_status,
        "runtime_seconds": _seconds(job.runtime),
        "max_runtime_seconds": _seconds(job.max_runtime),
        "instances": [{"type": type_, "count": count} for type_, count in job.instances],
        "spot": job.spot,
        "spend": _spend(job.spend) if job.spend else None,
        "hyperparameters": dict(job.hyperparameters),
        "experiment": job.experiment,
        "trial": job.trial,
        "tags": None if job.tags is None else dict(job.tags),
        "debug_output": job.debug_output,
    }


def _spend(spend: Spend) -> dict[str, Any]:
    saved = spend.saved_by_stopping
    return {
        "so_far": round(spend.so_far, 4),
        "an_hour": round(spend.an_hour, 4),
        "saved_by_stopping": None if saved is None else round(saved, 4),
        "currency": spend.currency or None,
        "basis": spend.basis,
        "at_most": spend.at_most,
    }


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else int(span.total_seconds())


def _readings(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    return [
        {
            "tensor": reading.tensor,
            "step": reading.step,
            "value": reading.value if math.isfinite(reading.value) else str(reading.value),
        }
        for reading in readings
    ]
