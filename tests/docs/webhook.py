"""The webhook body in docs/webhooks.md: the alert of the picture, with a shorter curve.

python -m tests.docs.webhook
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.docs.picture import message
from watcher.delivery.channels.webhook import document

WIDTH = 80


def example() -> dict[str, Any]:
    alert = message()
    return document(replace(alert, evidence=replace(alert.evidence, curve=alert.evidence.curve[-3:])))


def pretty(value: Any, margin: str = "") -> str:
    """JSON in which whatever fits on one line is on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(margin) + len(line) <= WIDTH:
        return line
    inner = f"{margin}  "
    if isinstance(value, dict):
        items = [f"{inner}{json.dumps(key)}: {pretty(item, inner)}" for key, item in value.items()]
    else:
        items = [f"{inner}{pretty(item, inner)}" for item in value]
    opening, closing = line[0], line[-1]
    return "\n".join((opening, ",\n".join(items), f"{margin}{closing}"))


if __name__ == "__main__":
    print(pretty(example()))
