"""Starts the daemon's named threads, stops the daemon if one fails, and waits for them to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import structlog

from watcher.web.loops import Loops

log = structlog.get_logger(__name__)

Loop = Callable[[Callable[[], None]], None]
"""Works until the daemon stops, and calls its argument once in each turn (iteration)."""

MAX_TURN_S = 300.0
"""`/healthz` reports a loop after a longer turn. A request that AWS does not answer ends in half that time,
retries included."""
MAX_PASS_S = 900.0
"""The same limit for a loop whose turn goes through all jobs or all logs, because AWS may throttle it."""
DRAIN_TIMEOUT_S = 8.0
"""How long current work may take to finish after SIGTERM. Docker kills after 10 seconds, ECS after 30."""


class Threads:
    """When a thread ends with an error, the daemon stops, and `failure` holds the error."""

    def __init__(self, loops: Loops, stopping: threading.Event, stop: Callable[[], None]) -> None:
        self.failure: BaseException | None = None
        self._loops, self._stopping, self._stop = loops, stopping, stop

    def start_loop(self, name: str, loop: Loop, max_turn_s: float = MAX_TURN_S) -> threading.Thread:
        """Start a loop that `/healthz` reports once a turn takes longer than `max_turn_s`."""
        return self.start(name, partial(loop, self._loops.add(name, max_turn_s)))

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guarded, args=(name, work), name=name, daemon=True)
        thread.start()
        return thread

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            if self._stopping.is_set():  # such as a request that outlasted the drain, with the store closed
                log.debug("loop_interrupted", loop=name, error=str(error))
                return
            log.exception("loop_failed", loop=name)
            self.failure = error
            self._stop()


def join_until(threads: Iterable[threading.Thread], deadline: float) -> None:
    """Wait for these threads to end, until `deadline` on the monotonic clock."""
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
