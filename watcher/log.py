"""One way out for every log line: stderr, JSON unless a person is looking, and no secret in it.

Lines of the standard library's `logging` (APScheduler, botocore, slack_sdk, urllib3) go the same way.
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

# structlog imports rich where it is installed, to draw tracebacks. Here they are text before a renderer sees
# them, and rich would take as long to import as all that a short command needs of botocore.
_loaded = "rich" in sys.modules
if not _loaded:
    sys.modules["rich"] = None  # type: ignore[assignment]

import structlog  # noqa: E402
from structlog.typing import EventDict, Processor  # noqa: E402

if not _loaded:
    del sys.modules["rich"]

MASK = "***"


def configure(stream: TextIO, *, level: int = logging.INFO, secrets: Iterable[str] = ()) -> None:
    """Send every log line of this process to `stream`; calling it again replaces what was set before.

    Watcher's own lines from `level` on, everybody else's from WARNING on. What is bound with
    `structlog.contextvars` (`job`, `rule`) stands in each line, others' lines included.
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
    # Of a role that refuses it would write a traceback at each attempt. Whoever asked is told, too, and says
    # so once.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that configuring again finds it among those of others."""


def _renderer(stream: TextIO) -> Processor:
    if not stream.isatty():
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors="NO_COLOR" not in os.environ, exception_formatter=structlog.dev.plain_traceback
    )


class Redactor:
    """Masks what must not be seen: known secrets wherever they stand, and whatever looks like one.

    The last defence only. Nothing should log a secret to begin with; but a library's debug line, an
    exception that quotes a request, or a header dumped in a hurry might.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, so that a secret that contains another leaves no remainder. Very short ones
        # would mask parts of ordinary words, and `config` refuses them.
        known = sorted({form for secret in secrets if len(secret) >= 8 for form in _forms(secret)}, key=len)
        self._known = re.compile("|".join(re.escape(form) for form in reversed(known))) if known else None

    def text(self, text: str) -> str:
        if self._known:
            text = self._known.sub(MASK, text)
        for pattern in _PATTERNS:
            text = pattern.sub(lambda match: (match.groupdict().get("keep") or "") + MASK, text)
        return text

    def value(self, value: Any) -> Any:
        """The same for anything: what is no plain value is shown as its `repr`, and that is masked."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._under(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self.text(repr(value))

    def _under(self, key: Any, value: Any) -> Any:
        return MASK if value and _SECRET_NAME.fullmatch(str(key)) else self.value(value)

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        return {key: self._under(key, value) for key, value in event.items()}


def _forms(secret: str) -> set[str]:
    """A secret as itself, and as it looks inside JSON and inside a Python literal."""
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
    # The parts of a presigned address that let anybody use it.
    re.compile(r"(?P<keep>X-Amz-(?:Signature|Security-Token|Credential)=)[^&\s\"'<>]+", re.IGNORECASE),
    # A header or field with a telling name, as a dict, JSON, XML or plain text shows it. Its value ends
    # with its quotes or its tag, or without any with the line.
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
    # User and password of an address.
    re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://)[^\s/@\"']+@", re.IGNORECASE),
)
