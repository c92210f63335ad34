"""What AWS refuses is said once, and once more when it is over: not in every pass."""

from __future__ import annotations

import threading

import structlog

from watcher.errors import AwsError

log = structlog.get_logger(__name__)


class Faults:
    """Remembers which operations are refused. Safe to use from several threads."""

    def __init__(self) -> None:
        self._refused: set[tuple[str, type[AwsError]]] = set()
        self._lock = threading.Lock()

    def say(self, error: AwsError, consequence: str) -> None:
        """Log what was refused and what follows from it, the first time."""
        key = (error.operation, type(error))
        with self._lock:
            new = key not in self._refused
            self._refused.add(key)
        if new:
            log.error("aws_refused", operation=error.operation, error=str(error), consequence=consequence)
        else:
            log.debug("aws_still_refuses", operation=error.operation)

    def over(self, operation: str) -> None:
        """The operation was answered: if it was refused before, say that it works again."""
        with self._lock:
            ended = {key for key in self._refused if key[0] == operation}
            self._refused -= ended
        if ended:
            log.info("aws_answers_again", operation=operation)
