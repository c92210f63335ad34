"""Signs a webhook's request: `X-Watcher-Signature: t=<unix seconds>,v1=<hex>`.

`v1` is the HMAC-SHA256 of `<t>.<body>` under the shared secret. The signature includes the time, so that
a recorded request cannot be sent again later. Receivers written in Python can use `verify`.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime, timedelta

HEADER = "X-Watcher-Signature"
TOLERANCE = timedelta(minutes=5)

_HEADER = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


def sign(secret: str, body: bytes, now: datetime) -> str:
    """The value of the header."""
    timestamp = int(now.timestamp())
    return f"t={timestamp},v1={_digest(secret, timestamp, body)}"


def verify(secret: str, header: str, body: bytes, now: datetime, tolerance: timedelta = TOLERANCE) -> bool:
    """Whether this body was signed with this secret, within `tolerance` of `now`."""
    match = _HEADER.fullmatch(header)
    if not match:
        return False
    timestamp = int(match[1])
    recent = abs(now.timestamp() - timestamp) <= tolerance.total_seconds()
    return recent and hmac.compare_digest(match[2], _digest(secret, timestamp, body))


def _digest(secret: str, timestamp: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, "sha256").hexdigest()
