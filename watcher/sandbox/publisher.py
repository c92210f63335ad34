"""Puts events on moto's EventBridge, in order, in its own thread."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable, Iterable

from watcher.sandbox.aws.events import Event

log = logging.getLogger(__name__)


class Publisher:
    def __init__(self) -> None:
        self._events: queue.Queue[tuple[str, str, Event]] = queue.Queue()
        threading.Thread(target=self._publish, name="events", daemon=True).start()

    def to(self, account: str, region: str) -> Callable[[Iterable[Event]], None]:
        """A function that queues events of one account and region. It returns at once."""

        def put(events: Iterable[Event]) -> None:
            for event in events:
                self._events.put((account, region, event))

        return put

    def flush(self) -> None:
        """Return when everything put so far is on the bus."""
        self._events.join()

    def _publish(self) -> None:
        from moto.events.models import events_backends

        while True:
            account, region, event = self._events.get()
            try:
                entry = {
                    "Source": "aws.sagemaker",
                    "DetailType": event.detail_type,
                    "Resources": [event.resource],
                    "Detail": json.dumps(event.detail),
                }
                events_backends[account][region].put_events([entry])
            except Exception:
                # The target of an EventBridge rule is missing. EventBridge drops such an event.
                log.exception("%s of %s", event.detail_type, event.resource)
            finally:
                self._events.task_done()
