"""Configures logging: every line goes to one stream, without secrets; as JSON unless a person is looking.

This includes what libraries (APScheduler, botocore, slack_sdk, urllib3) log with Python's `logging`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

# If rich is installed, structlog imports it to draw tracebacks. Here, tracebacks become text before a
# renderer gets them, and importing rich would take as long as everything that a short command needs of
# botocore.
_rich_was_imported = "rich" in sys.modules
if not _rich_was_imported:
    sys.modules["rich"] = None  # type: ignore[assignment]

import structlog  # noqa: E402
from structlog.typing import EventDict, Processor  # noqa: E402

from watcher.redaction import Redactor  # noqa: E402
from watcher.text import clean, in_row  # noqa: E402

if not _rich_was_imported:
    del sys.modules["rich"]


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
                *_renderers(stream),
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
    logging.getLogger("botocore.tokens").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


class _Handler(logging.StreamHandler[TextIO]):
    """A class of its own, so that `configure` can tell its earlier handler from those of libraries."""


def _renderers(stream: TextIO) -> Sequence[Processor]:
    if not stream.isatty():
        return [structlog.processors.JSONRenderer()]  # escapes what would control a terminal
    to_terminal = structlog.dev.ConsoleRenderer(
        colors="NO_COLOR" not in os.environ, exception_formatter=structlog.dev.plain_traceback
    )
    return [_clean_event, to_terminal]


_MULTILINE = frozenset({"exception", "stack"})


def _clean_event(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Without what would control the terminal or begin another line."""
    return {
        in_row(key): clean(value) if key in _MULTILINE else _cleaned(value) for key, value in event.items()
    }


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return in_row(value)
    if isinstance(value, Mapping):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
