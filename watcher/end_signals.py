"""SIGTERM and SIGINT, which ask a process to end.

Python runs a signal handler in the main thread, between any two of its instructions. If the main thread
holds a lock at that moment, as inside `Event.wait`, a handler that needs the same lock, as `Event.set` does,
waits for ever. So the handlers here do nothing. The interpreter writes the number of each signal into a pipe
before it runs them, in whichever thread the signal arrives, and a thread reads that pipe.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_end_signals(end: Callable[[], object]) -> None:
    """From now on, the first SIGTERM or SIGINT calls `end`, once, in a thread of its own; later ones change
    nothing, because the process is ending. Call this in the main thread, once in the life of a process."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in END_SIGNALS:
        signal.signal(number, _nothing)
    threading.Thread(target=_await, args=(reading, end), name="signals", daemon=True).start()


def _nothing(_number: int, _frame: object) -> None:
    """What is left to do in the main thread."""


def _await(reading: int, end: Callable[[], object]) -> None:
    while os.read(reading, 1)[0] not in END_SIGNALS:  # a signal that somebody else handles
        pass
    end()
