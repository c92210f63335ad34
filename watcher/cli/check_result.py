"""One line of what `watcher check` prints."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """Watcher works, but not fully; or this cannot be tried without side effects."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    state: State
    found: str
    fix: str = ""
    """What to do about it; empty if `found` says it, or nothing is wrong."""
