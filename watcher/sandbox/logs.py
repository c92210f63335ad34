"""Writing to moto's CloudWatch Logs from within its own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from moto.logs.models import logs_backends


class LogWriter:
    """Groups and streams come to be with the first line; moto itself does not guard its streams."""

    def __init__(self, account: str, region: str) -> None:
        self._account, self._region = account, region
        self._lock = threading.Lock()

    def write(self, group: str, stream: str, lines: Sequence[str]) -> None:
        with self._lock:
            logs = logs_backends[self._account][self._region]
            if group not in logs.groups:
                logs.create_log_group(group, {})
            logs.ensure_log_stream(group, stream)
            now = int(time.time() * 1000)
            logs.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])
