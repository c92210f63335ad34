"""Errors that a loop of the daemon survives: AWS refuses a call, or the store does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from watcher.aws.refused_calls import TRIED_AGAIN, RefusedCalls
from watcher.aws.session import Aws
from watcher.errors import LeaseLost, StoreError, WatcherError

log = structlog.get_logger(__name__)


@contextmanager
def expected_errors(refused: RefusedCalls, place: Aws | None = None) -> Iterator[list[WatcherError]]:
    """Log and suppress an `AwsError` or a `StoreError` from the block.

    `place` is the account and region that the block asks, or None if it asks several. Yields a list that
    holds the error after the block, and is empty if there was none.
    """
    errors: list[WatcherError] = []
    try:
        with lost_lease() as lost, refused.reported(TRIED_AGAIN, place) as refusals:
            yield errors
        errors += [*lost, *refusals]
    except StoreError as error:
        errors.append(error)
        log.error("store_failed", error=str(error), consequence=TRIED_AGAIN)


@contextmanager
def lost_lease() -> Iterator[list[LeaseLost]]:
    """Log and suppress a `LeaseLost` from the block. Yields a list that holds the error after the block."""
    lost: list[LeaseLost] = []
    try:
        yield lost
    except LeaseLost as error:
        lost.append(error)
        log.info("handled_elsewhere", error=str(error), consequence="the job is looked at again")
