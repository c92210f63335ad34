"""What tests of several folders share: sandboxes, and how Hypothesis runs.

A sandbox is a process and takes a second to start, so one serves all tests of a worker of pytest-xdist. It is
emptied before each test.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.trials import save_trial
from watcher.sandbox.process import Sandbox

SANDBOX_PACE_S = 0.05
"""Seconds a job of the sandbox spends in each step, instead of the minutes of a real one."""

# A shell starts a background process with Ctrl-C ignored, and its children inherit that: the tests that send
# one would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says nothing on a busy machine, so it never fails a test. Each run tries the same
# examples: a change is not blamed for a failure that it did not cause. `--hypothesis-profile=explore` looks
# for new ones.
_untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("repeatable", _untimed, derandomize=True, database=None)
settings.register_profile("explore", _untimed, max_examples=1000)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def _shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox.start(pace=SANDBOX_PACE_S) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_shared_sandbox: Sandbox) -> Sandbox:
    """A sandbox with nothing in it."""
    _shared_sandbox.control.reset()
    return _shared_sandbox


@pytest.fixture
def aws_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The AWS clients of this process and of its children talk to the sandbox."""
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
            return running.enter_context(Sandbox.start(**{"pace": SANDBOX_PACE_S, **settings}))

        yield start


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Debug output of the cookbook's training, and the step at which its rule fires. Not to be changed: all
    workers share it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "trial"
    folder.mkdir(exist_ok=True)
    return save_trial(folder)
