"""The commands of docs/first-run.md work as written, each block in its own shell."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.waiting import WAIT_LIMIT_S, eventually

DOCS = Path(__file__).parents[2] / "docs"
TERMINALS = re.findall(r"^```sh\n(.*?)^```", (DOCS / "first-run.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Runs commands in a shell, in a folder that has the checkout's docs; each terminal has its own log."""
    (tmp_path / "docs").symlink_to(DOCS)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        # Other tests use the default ports at the same time.
        "WATCHER_SANDBOX_PORT": str(port),
        "WATCHER_TOML": '[http]\nlisten = "127.0.0.1:0"',
    }
    with ExitStack() as running:

        def run(commands: str) -> subprocess.Popen[str]:
            log = tmp_path / f"{len(list(tmp_path.glob('*.log')))}.log"
            shell = running.enter_context(
                subprocess.Popen(
                    ["bash", "-e", "-c", commands],
                    cwd=tmp_path,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=running.enter_context(log.open("w")),
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,
                )
            )
            running.callback(interrupt, shell)
            return shell

        yield run


def interrupt(shell: subprocess.Popen[str]) -> None:
    """Send Ctrl-C to everything that the shell started."""
    if shell.poll() is None:
        os.killpg(shell.pid, signal.SIGINT)
        shell.wait(WAIT_LIMIT_S)


def test_three_terminals_show_an_alert_and_stop_the_job(
    terminal: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    sandbox, training, watching, looking, stopping = TERMINALS
    environment = training.splitlines()[0]

    terminal(sandbox)
    trained = terminal(training)
    assert trained.wait(WAIT_LIMIT_S) == 0, output(tmp_path)
    watcher = terminal(watching)
    eventually(lambda: "LossNotDecreasing found an issue in first-run-" in output(tmp_path), "an alert")
    for commands in (looking, stopping):
        done = terminal(f"{environment}\n{commands}")  # the second terminal already has it
        assert done.wait(WAIT_LIMIT_S) == 0, output(tmp_path)
    interrupt(watcher)

    assert watcher.returncode == 0
    assert "train-logloss fell" in output(tmp_path)
    assert "Stopped" in output(tmp_path)
    assert "Traceback" not in output(tmp_path)


def output(folder: Path) -> str:
    return "".join(file.read_text() for file in sorted(folder.glob("*.log")))
