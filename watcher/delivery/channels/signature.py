"""How a webhook's request is signed: `X-Watcher-Signature: t=<unix seconds>,v1=<hex>`.

`v1` is the HMAC-SHA256 of `<t>.<body>` under the shared secret. The time is part of what is signed, so that
a request that somebody recorded cannot be sent again later. Receivers written in Python can use `verify`.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime, timedelta

HEADER = "X-Watcher-Signature"
TOLERANCE = timedelta(minutes=5)

_HEADER = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


def sign(secret: str, body: bytes, now: datetime) -> str:
    """The header's value."""
    timestamp = int(now.timestamp())
    return f"t={timestamp},v1={_digest(secret, timestamp, body)}"


def verify(secret: str, header: str, body: bytes, now: datetime, tolerance: timedelta = TOLERANCE) -> bool:
    """Whether this body was signed with this secret, not longer than `tolerance` ago (or ahead)."""
    match = _HEADER.fullmatch(header)
    if not match:
        return False
    timestamp = int(match[1])
    recent = abs(now.timestamp() - timestamp) <= tolerance.total_seconds()
    return recent and hmac.compare_digest(match[2], _digest(secret, timestamp, body))


def _digest(secret: str, timestamp: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, "sha256").hexdigest()
