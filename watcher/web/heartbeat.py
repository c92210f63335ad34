"""Requests an address while all is well. The dead man's switch behind it raises an alarm when that stops."""

from __future__ import annotations

import structlog

from watcher.web.loops import Loops
from watcher.web.readiness import Readiness

log = structlog.get_logger(__name__)

HEARTBEAT_INTERVAL_S = 60.0
HEARTBEAT_TIMEOUT_S = 10.0


class Heartbeat:
    """`url` is a secret, since anyone who knows it can send heartbeats. No log line contains it."""

    def __init__(self, url: str, loops: Loops, readiness: Readiness) -> None:
        self._url, self._loops, self._readiness = url, loops, readiness
        self._failing = False

    def beat(self) -> None:
        """Request the address, if no loop hangs and store and queue are reachable."""
        if problems := [*map(str, self._loops.late()), *self._readiness.answer().problems]:
            log.error("heartbeat_withheld", problems=problems)
            return
        import httpx  # imported here because only a daemon with a heartbeat needs it

        try:
            # Only the status counts. The body, of any size, is not read.
            with httpx.stream("GET", self._url, timeout=HEARTBEAT_TIMEOUT_S) as answer:
                answer.raise_for_status()
        except httpx.HTTPStatusError as error:  # its text contains the address
            self._log_failure(f"it answers {error.response.status_code}")
        except httpx.HTTPError as error:
            self._log_failure(repr(error))
        except (httpx.InvalidURL, ValueError):  # a name that DNS cannot have is a UnicodeError
            self._log_failure("http.heartbeat_url is not a valid URL")
        else:
            self._failing = False

    def _log_failure(self, error: str) -> None:
        """Log a failure once, until a heartbeat succeeds again."""
        if not self._failing:
            log.warning(
                "heartbeat_failed", error=error, consequence="the service behind it may raise an alarm"
            )
        self._failing = True
