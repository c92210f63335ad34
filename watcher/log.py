"""Configures logging: every line goes to one stream, without secrets; as JSON unless a person is looking.

This includes what libraries (APScheduler, botocore, slack_sdk, urllib3) log with Python's `logging`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, TextIO

# If rich is installed, structlog imports it to draw tracebacks. Here, tracebacks become text before a
# renderer gets them, and importing rich would take as long as everything that a short command needs of
# botocore.
_rich_was_imported = "rich" in sys.modules
if not _rich_was_imported:
    sys.modules["rich"] = None  # type: ignore[assignment]

import structlog  # noqa: E402
from structlog.typing import EventDict, Processor  # noqa: E402

if not _rich_was_imported:
    del sys.modules["rich"]

MASK = "***"


def configure(stream: TextIO, *, level: int = logging.INFO, secrets: Iterable[str] = ()) -> None:
    """Send every log line of this process to `stream`. Calling it again replaces the earlier configuration.

    Watcher logs from `level` on, libraries from WARNING on. What is bound with `structlog.contextvars`
    (`job`) is part of each line, also of those of libraries.
    """
    on_every_line: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *on_every_line,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=on_every_line,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # An exception becomes text before the redactor sees it, so that its message is masked too.
                structlog.processors.format_exc_info,
                Redactor(secrets),
                _renderer(stream),
            ],
        )
    )
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("watcher").setLevel(level)
    # It logs a traceback at each attempt to assume a role that refuses. The caller gets the same error, and
    # logs it once.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


class _Handler(logging.StreamHandler[TextIO]):
    """A class of its own, so that `configure` can tell its earlier handler from those of libraries."""


def _renderer(stream: TextIO) -> Processor:
    if not stream.isatty():
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors="NO_COLOR" not in os.environ, exception_formatter=structlog.dev.plain_traceback
    )


class Redactor:
    """Masks the known secrets wherever they occur, and anything that looks like a secret.

    This is the last line of defence. Nothing should log a secret, but a library's debug line, or an exception
    that quotes a request, might.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, so that no part of a secret that contains another is left. Very short secrets would
        # mask parts of ordinary words; `config` refuses them.
        known = sorted({form for secret in secrets if len(secret) >= 8 for form in _forms(secret)}, key=len)
        self._known = re.compile("|".join(re.escape(form) for form in reversed(known))) if known else None

    def text(self, text: str) -> str:
        if self._known:
            text = self._known.sub(MASK, text)
        for pattern in _PATTERNS:
            text = pattern.sub(lambda match: (match.groupdict().get("keep") or "") + MASK, text)
        return text

    def value(self, value: Any) -> Any:
        """The value as plain data, masked. An object of any other type becomes its `repr`."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._masked(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self.text(repr(value))

    def _masked(self, key: Any, value: Any) -> Any:
        return MASK if value and _SECRET_NAME.fullmatch(str(key)) else self.value(value)

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        return {key: self._masked(key, value) for key, value in event.items()}


def _forms(secret: str) -> set[str]:
    """A secret as it is, as it looks inside JSON, and as it looks inside a Python literal."""
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]}


_NAMES = (
    r"(?:proxy-)?authorization|x-amz-security-token|(?:aws_?)?secret_?access_?key|(?:aws_?)?session_?token"
    r"|(?:bot|app)?_?token|webhook_?secret|secret|password|api_?key|(?:set-)?cookie"
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)

_PATTERNS = (
    # Slack: bot, user, app-level, refresh and configuration tokens.
    re.compile(r"\b(?:xox[a-z]|xapp|xoxe\.xox[bp])-[\w%-]+"),
    re.compile(r"(?P<keep>hooks\.slack\.com/(?:services|workflows|triggers)/)[\w/%-]+"),
    # AWS access keys: long-term and temporary.
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    # The parts of a presigned URL that grant access.
    re.compile(r"(?P<keep>X-Amz-(?:Signature|Security-Token|Credential)=)[^&\s\"'<>]+", re.IGNORECASE),
    # A header or field whose name says that it is secret, in a dict, JSON, XML or plain text. The value ends
    # with its quotes or its tag; without either, with the line.
    re.compile(
        rf"(?P<keep>\b(?:{_NAMES})\\*[\"']?\s*[:=]\s*b?(?P<quote>\\*[\"']))(?:(?!(?P=quote)).)+",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(rf"(?P<keep><(?P<tag>{_NAMES})>)[^<]+", re.IGNORECASE),
    re.compile(
        r"(?P<keep>\b(?:(?:proxy-)?authorization|x-amz-security-token|(?:set-)?cookie)\s*[:=]\s*)"
        r"(?!\\*b?\\*[\"']|\*)[^\r\n]+",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<keep>\bBearer\s+)[\w.~+/=-]{8,}"),
    # User and password in a URL.
    re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://)[^\s/@\"']+@", re.IGNORECASE),
)
