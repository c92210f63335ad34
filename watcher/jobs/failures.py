"""Ends an unexpected error with the one thing that was being handled: one run, message, delivery or log.

What a training job's owner writes can lead to errors that no code foresees (`RecursionError`,
`OverflowError`, `MemoryError` …). They must not end a loop, which serves all other jobs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from watcher.errors import AwsError, StoreError, WatcherError
from watcher.lru import LruCache

log = structlog.get_logger(__name__)

FAILURES_CACHE_SIZE = 1000
"""Failures that were logged. One that has not occurred for long is logged again."""
MAX_ERROR_CHARACTERS = 500


class Failures:
    """Logs each failure once with its traceback, and then at level debug. Safe to use from several
    threads."""

    def __init__(self) -> None:
        self._logged = LruCache[str](FAILURES_CACHE_SIZE)

    @contextmanager
    def caught(self, event: str, consequence: str, **what: str) -> Iterator[list[Exception]]:
        """Log and suppress what the block raises, except `AwsError` and `StoreError`, which say that the next
        calls would fail as well.

        `what` names the thing that is handled (`job=…`); it becomes part of the log line. Yields a list that
        holds the error after the block, and is empty if there was none.
        """
        errors: list[Exception] = []
        try:
            yield errors
        except (AwsError, StoreError):
            raise
        except Exception as error:
            errors.append(error)
            self.report(error, event, consequence, **what)

    def report(self, error: Exception, event: str, consequence: str, **what: str) -> None:
        """Log a failure, unless the same thing has failed in the same way before."""
        cause = described(error)
        key = repr((event, cause, sorted(what.items())))
        new = self._logged.get(key) is None
        self._logged.put(key, cause)
        if new:
            trace = None if isinstance(error, WatcherError) else error  # ours say all that there is to know
            log.error(event, error=cause, consequence=consequence, exc_info=trace, **what)
        else:
            log.debug(event, error=cause, **what)


def described(error: Exception) -> str:
    """The type and the text of an error, in one bounded line; without the type if the text is ours."""
    text = " ".join(str(error).split())
    if isinstance(error, WatcherError):
        return text[:MAX_ERROR_CHARACTERS]
    return f"{type(error).__name__}: {text}"[:MAX_ERROR_CHARACTERS] if text else type(error).__name__
