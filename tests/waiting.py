"""Waiting for another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

WAIT_LIMIT_S = 120.0
"""Ends a test that has failed. A test that passes never comes near it, however busy the machine is."""
POLL_S = 0.02


def eventually(
    condition: Callable[[], Any], what: str, *, limit_s: float = WAIT_LIMIT_S, poll_s: float = POLL_S
) -> Any:
    """The first true answer of `condition`. `what`: what is expected, for the error."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:.0f} s: {what}")
        time.sleep(poll_s)
    return found


def next_second() -> None:
    """Wait until what S3 stores has a later time than everything before: it counts in whole seconds."""
    time.sleep(1.01 - time.time() % 1)
