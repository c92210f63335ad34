"""What the tests of the edge share: a command run in this process, and logging put back afterwards."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from watcher import cli

LOGGERS = ("", "watcher", "botocore", "slack_sdk", "urllib3")


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def watcher(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logging_as_before: None,
) -> Callable[..., Ran]:
    """Runs a command in an empty folder, whose `watcher.toml` a test may write."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = cli.main(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run
