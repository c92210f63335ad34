"""`watcher demo`: what it shows, and what it says when a part of it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import eventually

DEMO_LIMIT_S = 400
"""Ends a demo that hangs; normally it gives up earlier by itself."""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the demo with its output in a pipe and its files below `tmp_path`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with subprocess.Popen(
        [sys.executable, "-m", "watcher", "demo"],
        env={**environment, "TMPDIR": str(tmp_path), "COLUMNS": "100", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def processes_in(folder: Path) -> dict[int, str]:
    """The ids of the processes that the demo started, recognised by its folder in their environment."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended, or belongs to another user
            continue
    return found


def test_the_demo_shows_the_alert_its_evidence_and_the_stop_and_leaves_nothing_behind(demo, tmp_path: Path):
    out, err = demo.communicate(timeout=DEMO_LIMIT_S)

    assert (demo.returncode, err) == (0, ""), out
    shown = " ".join(out.split())  # ignores line breaks
    for words in (
        "LossNotDecreasing found an issue in churn-xgboost-",
        "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step",
        "Loss is not decreasing over the last 2 steps",
        "the rule wants 5 %",
        "│ fired at step",
        "Watcher is stopping this job",
        "SageMaker confirms it",
        "What happened when",
        "the same message in Slack is updated",
        "The one message in Slack",
        "🛑 Stopped: LossNotDecreasing found an issue in churn-xgboost-",
        "From IssuesFound to the alert: ",
        "All of it happened, in ",
        "Next: docs/first-run.md",
    ):
        assert words in shown
    assert processes_in(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_demo_whose_daemon_dies_says_so_exits_1_and_leaves_nothing_behind(demo, tmp_path: Path):
    def daemon() -> int | None:
        started = processes_in(tmp_path).items()
        return next((number for number, words in started if " watcher run -c " in words), None)

    os.kill(eventually(daemon, "a daemon"), signal.SIGKILL)
    out, err = demo.communicate(timeout=DEMO_LIMIT_S)

    assert (demo.returncode, err) == (1, "")
    assert "✗ Watcher ended unexpectedly, with exit code -9. The end of Watcher's log:" in out
    assert processes_in(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_a_demo_and_leaves_nothing_behind(demo, tmp_path: Path):
    eventually(lambda: len(processes_in(tmp_path)) > 1, "the sandbox's process")
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=DEMO_LIMIT_S)

    assert (demo.returncode, err) == (130, ""), out
    eventually(lambda: processes_in(tmp_path) == {}, "the end of all that was started")
    assert list(tmp_path.iterdir()) == []
