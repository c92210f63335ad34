"""DynamoDB where moto stops short: its server looks at conditions and writes in two steps, between which
another thread may write. Here one request is over before the next begins."""

from __future__ import annotations

import threading
from typing import Any

from moto.dynamodb.responses import DynamoHandler

_one_at_a_time = threading.RLock()
_call_action = DynamoHandler.call_action


def install() -> None:
    DynamoHandler.call_action = call_action


def call_action(self: DynamoHandler) -> Any:
    with _one_at_a_time:
        return _call_action(self)
