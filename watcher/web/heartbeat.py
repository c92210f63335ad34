"""A dead man's switch: an address is told that all is well, and whoever keeps it raises the alarm when that
ends."""

from __future__ import annotations

import structlog

from watcher.web.loops import Loops
from watcher.web.readiness import Readiness

log = structlog.get_logger(__name__)

EVERY = 60.0
"""Seconds between two beats."""
TIMEOUT = 10.0


class Heartbeat:
    """`url` may let anybody speak for this daemon, so it is in no log line."""

    def __init__(self, url: str, loops: Loops, readiness: Readiness) -> None:
        self._url, self._loops, self._readiness = url, loops, readiness
        self._refused = False

    def beat(self) -> None:
        """Tell it, where every loop turns, and store and queue answer."""
        if problems := [*map(str, self._loops.late()), *self._readiness.answer().problems]:
            log.error("heartbeat_withheld", problems=problems)
            return
        import httpx  # not before there is somebody to tell

        try:
            httpx.get(self._url, timeout=TIMEOUT).raise_for_status()
        except httpx.HTTPError as error:
            self._say(error)
        else:
            self._refused = False

    def _say(self, error: Exception) -> None:
        """Once: it is tried again each minute. An HTTPStatusError's own words would tell the address."""
        from httpx import HTTPStatusError

        if not self._refused:
            answer = (
                f"it answers {error.response.status_code}"
                if isinstance(error, HTTPStatusError)
                else repr(error)
            )
            log.warning(
                "heartbeat_not_told", error=answer, consequence="whoever waits for it may raise the alarm"
            )
        self._refused = True
