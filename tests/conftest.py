"""What tests of several folders share: sandboxes.

A sandbox is a process, and costs a second to start: one serves the whole run, emptied before each test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from watcher.sandbox.process import Sandbox

PACE = 0.05
"""Seconds for each step of a job: no test has to wait for a real one's minutes."""


@pytest.fixture(scope="session")
def _shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox.start(pace=PACE) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_shared_sandbox: Sandbox) -> Sandbox:
    """A sandbox with nothing in it."""
    _shared_sandbox.control.reset()
    return _shared_sandbox


@pytest.fixture
def aws_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """This process's own AWS clients, and its children's, speak to the sandbox."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    return sandbox


@pytest.fixture
def start_sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Starts further sandboxes, with the settings given; they end with the test."""
    with ExitStack() as running:

        def start(**settings: Any) -> Sandbox:
            return running.enter_context(Sandbox.start(**{"pace": PACE, **settings}))

        yield start
