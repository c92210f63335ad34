"""Logs an AWS refusal once when it starts and once when it ends, and renews credentials that are refused.

Every loop of the daemon asks AWS again in its next pass, so an outage would otherwise fill the log.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from watcher.aws.accounts import Accounts
from watcher.aws.session import ASSUME_ROLE, Aws
from watcher.errors import AwsError, CredentialsError

log = structlog.get_logger(__name__)

TRIED_AGAIN = "nothing is lost; the next pass tries again"
"""The usual consequence of a refusal."""


class RefusedCalls:
    """Remembers which operations are refused, and in which account and region. Safe to use from several
    threads."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._refused: set[tuple[str, str, type[AwsError]]] = set()
        self._lock = threading.Lock()

    @contextmanager
    def reported(self, consequence: str, place: Aws | None = None) -> Iterator[list[AwsError]]:
        """Report an `AwsError` that is raised in the block, and raise it no further.

        The block is given a list, which is empty afterwards unless a call was refused.
        """
        errors: list[AwsError] = []
        try:
            yield errors
        except AwsError as error:
            errors.append(error)
            self.report(error, consequence, place)

    def report(self, error: AwsError, consequence: str, place: Aws | None = None) -> None:
        """Log what was refused and what follows from it, unless that was logged already.

        Refused credentials are renewed in the account and region that refused them. Where the caller cannot
        tell (`place` is None), they are renewed in all of them.
        """
        at = _name(place)
        key = (error.operation, at, type(error))
        with self._lock:
            new = key not in self._refused
            self._refused.add(key)
        where = {"at": at} if at else {}
        if new:
            log.error(
                "aws_refused", operation=error.operation, error=str(error), consequence=consequence, **where
            )
        else:
            log.debug("aws_still_refuses", operation=error.operation, **where)
        if isinstance(error, CredentialsError):
            (place or self._accounts).renew()

    def resolved(self, operation: str, place: Aws | None = None) -> None:
        """Log that AWS answered this operation, if it had refused it before.

        An answer in another account also means that its role could be assumed.
        """
        at = _name(place)
        with self._lock:
            ended = {key for key in self._refused if key[0] in (operation, ASSUME_ROLE) and key[1] == at}
            self._refused -= ended
        for name in sorted({key[0] for key in ended}):
            log.info("aws_answers_again", operation=name, **({"at": at} if at else {}))


def _name(place: Aws | None) -> str:
    return place.name if place else ""
