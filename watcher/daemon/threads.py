"""Starts the daemon's named threads, and waits for them to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import structlog

from watcher.web.loops import Loops

log = structlog.get_logger(__name__)

Loop = Callable[[Callable[[], None]], None]
"""Works until the daemon stops. Its argument is to be called once in each of its turns."""

MAX_TURN_S = 300.0
"""The longest turn of a loop before `/healthz` reports it. A request that AWS does not answer is given up,
retries included, in half of that."""
MAX_PASS_S = 900.0
"""The same for a loop that goes through all jobs or all logs, which AWS may slow down."""
DRAIN_TIMEOUT_S = 8.0
"""How long work may take to finish after SIGTERM. ECS waits 30 seconds before it kills."""


class Threads:
    """The first thread that ends with an error stops the daemon, which keeps the error in `failure`."""

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
            if self._stopping.is_set():  # such as a request that outlasted the drain: the store is closed
                log.debug("loop_interrupted", loop=name, error=str(error))
                return
            log.exception("loop_failed", loop=name)
            self.failure = error
            self._stop()


def join_until(threads: Iterable[threading.Thread], deadline: float) -> None:
    """Wait for these threads to end, until `deadline` on the monotonic clock."""
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
