"""Output where stdout has an encoding that lacks characters, is closed, or is read only in part."""

from __future__ import annotations

import io
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.samples import case, delivery, look, opens
from tests.doubles.profiler_output import write_job
from tests.waiting import WAIT_LIMIT_S
from watcher.cli import main, standard_streams
from watcher.model import DeliveryState
from watcher.store import open_store

COMMANDS = (
    *(["status"], ["incidents"], ["jobs"], ["findings"], ["audit"], ["show", "churn-größe"]),
    *(["jobs", "--json"], ["profile", "bert"], ["init", "--config", "new.toml"], ["show", "…"]),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output")
    (folder / "watcher.toml").write_text('region = "us-east-1"')
    dead = delivery("churn-größe", "slack:#größe", state=DeliveryState.DEAD, error="„gone“ → 消えた …")
    with closing(open_store(f"sqlite:///{folder / 'watcher.db'}")) as store:
        store.commit([look("churn-größe", opens(case("churn-größe", dead)))])
    write_job(folder / "bert" / "profiler-output", 10, nodes=("algo-1",))
    return folder


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_a_command_prints_is_readable_in_each_encoding(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], encoding: str
) -> None:
    monkeypatch.chdir(tmp_path if command[0] == "init" else folder)
    written = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding))

    code = main(command)

    sys.stdout.flush()
    shown = written.getvalue().decode(encoding)
    assert code == (2 if "…" in command else 0), shown
    assert shown.strip()
    if command in (["jobs"], ["show", "churn-größe"]):
        assert {"cp1252": "churn-größe", "ascii": "churn-gro?e"}[encoding] in shown


@pytest.mark.parametrize(
    ("text", "ascii_text"),
    [
        ("…", "..."),
        ("┌──┐│└┘", "+--+|++"),
        ("▁▂▃▄▅▆▇█", "_.,-=+*#"),
        ("⠀⣿", " :"),
        ("größe × ﬁ", "gro?e x fi"),
        ("消えた 🛑", "??? ?"),
        ("\ud800", "?"),
    ],
)
def test_a_character_becomes_what_looks_most_like_it(
    monkeypatch: pytest.MonkeyPatch, text: str, ascii_text: str
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii", write_through=True))
    standard_streams.prepare()

    sys.stdout.write(text)

    assert written.getvalue().decode() == ascii_text


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, in which $watcher is the command."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"watcher='{sys.executable} -m watcher'; {command}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_LIMIT_S,
    )


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
def test_closed_streams_take_what_is_printed_and_no_file_gets_their_numbers(
    folder: Path, closed: str
) -> None:
    ran = run(folder, f"$watcher jobs {closed}")

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    with closing(sqlite3.connect(folder / "watcher.db")) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_reader_that_closes_early_is_no_error_to_talk_about(folder: Path) -> None:
    ran = run(folder, "$watcher jobs --json | head -c 1")

    assert (ran.stdout, ran.stderr) == ("[", "")
