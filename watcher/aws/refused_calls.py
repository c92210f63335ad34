"""What AWS refuses is said once, and once more when it is over: not in every pass."""

from __future__ import annotations

import threading

import structlog

from watcher.errors import AwsError

log = structlog.get_logger(__name__)


class Faults:
    """Remembers which operations are refused, and where. Safe to use from several threads."""

    def __init__(self) -> None:
        self._refused: set[tuple[str, str, type[AwsError]]] = set()
        self._lock = threading.Lock()

    def say(self, error: AwsError, consequence: str) -> None:
        """Log what was refused and what follows from it, the first time."""
        key = (error.operation, error.at, type(error))
        with self._lock:
            new = key not in self._refused
            self._refused.add(key)
        if new:
            where = {"at": error.at} if error.at else {}
            log.error(
                "aws_refused", operation=error.operation, error=str(error), consequence=consequence, **where
            )
        else:
            log.debug("aws_still_refuses", operation=error.operation, at=error.at)

    def over(self, operation: str, at: str = "") -> None:
        """The operation was answered, `at` this account and region: if it was refused before, say that it
        works again."""
        with self._lock:
            ended = {key for key in self._refused if key[:2] == (operation, at)}
            self._refused -= ended
        if ended:
            log.info("aws_answers_again", operation=operation, at=at)
