"""A pipeline with its dependencies."""

from __future__ import annotations

from typing import Any

from tests.jobs import NOON
from watcher.aws.accounts import Accounts
from watcher.config.settings import Config
from watcher.instruments import Instruments
from watcher.jobs.pipeline import Pipeline
from watcher.store.base import Store


def a_pipeline(store: Store, **changes: Any) -> Pipeline:
    """A pipeline that never waits, with the clock at noon."""
    values: dict[str, Any] = {
        "accounts": Accounts("us-east-1"),
        "config": Config(),
        "clock": lambda: NOON,
        "spread": lambda: 0.5,
        "committed": lambda changed: None,
        "owner": "us",
        "wait": lambda seconds: None,
        "instruments": Instruments(),
    }
    return Pipeline(store=store, **{**values, **changes})
