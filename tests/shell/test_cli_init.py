"""`watcher init`: with options, and on a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.shell.conftest import CommandResult
from watcher.config.load import load
from watcher.config.settings import Config

Watcher = Callable[..., CommandResult]

FILE = Path("watcher.toml")
REGION, JOBS, CHANNEL, STOP = "AWS region", "Jobs to watch", "Slack channel", "Stop a job"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLACK_BOT_TOKEN", "WATCHER_TOML", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


def written(file: Path = FILE) -> Config:
    return load(file, {"SLACK_BOT_TOKEN": "xoxb-1"})


# -- options --------------------------------------------------------------------------------------


def test_without_options_every_setting_has_its_default(watcher: Watcher):
    ran = watcher("init")

    assert ran == CommandResult(0, "Wrote watcher.toml. Next:\n  watcher check\n  watcher run\n", "")
    assert written() == Config()


def test_the_options_are_the_answers(watcher: Watcher):
    ran = watcher(
        *(
            "init",
            "--region",
            "eu-west-1",
            "--job",
            'a"\\b*',
            "--job",
            "ü*",
            "--slack-channel",
            "ml",
            "--stop",
        )
    )

    assert ran.code == 0
    assert ran.out.splitlines()[1:] == ["  export SLACK_BOT_TOKEN=xoxb-…", "  watcher check", "  watcher run"]
    config = written()
    assert (config.region, config.watch.jobs, config.slack.channel) == ("eu-west-1", ('a"\\b*', "ü*"), "#ml")
    assert config.route[0].stop


def test_an_exported_token_is_neither_asked_for_nor_written(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-secret")

    assert "export" not in watcher("init", "--slack-channel", "C0123456789").out
    assert "xoxb-secret" not in FILE.read_text()
    assert written().slack.channel == "C0123456789"


def test_the_next_steps_name_another_file(watcher: Watcher):
    ran = watcher("init", "--config", "my watcher.toml")

    assert "  watcher check --config 'my watcher.toml'\n" in ran.out
    assert written(Path("my watcher.toml")) == Config()


def test_the_next_steps_name_a_file_that_watcher_would_not_read_by_default(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WATCHER_TOML", "[watch]")

    assert "  watcher run --config watcher.toml\n" in watcher("init").out


def test_a_file_that_exists_is_kept_unless_forced(watcher: Watcher):
    FILE.write_text("mine")

    ran = watcher("init")

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("watcher: watcher.toml exists: overwrite it with --force")
    assert FILE.read_text() == "mine"
    assert watcher("init", "--force").code == 0
    assert written() == Config()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--region", "Frankfurt"], 'region = "Frankfurt": is not an AWS region'),
        (["--job", ""], 'watch.jobs[0] = ""'),
        (["--slack-channel", "Training Alerts"], "is not a Slack channel: write slack:#training-alerts"),
        (["--slack-channel", "${NOWHERE}"], "the variable NOWHERE is not set"),
    ],
)
def test_an_invalid_answer_gives_one_line_and_writes_nothing(watcher: Watcher, option: list[str], says: str):
    ran = watcher("init", *option)

    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert says in ran.err
    assert not FILE.exists()


# -- on a terminal --------------------------------------------------------------------------------


def on_a_terminal(folder: Path, answers: Sequence[tuple[str, str]], *options: str) -> tuple[int, str]:
    """Run `watcher init` on a pseudo-terminal, and give each answer when its question has been asked. Returns
    the exit code and the terminal's text."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "watcher", "init", *options],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = ""
    waiting = list(answers)
    deadline = time.monotonic() + 60
    try:
        while select.select([terminal], [], [], max(deadline - time.monotonic(), 0))[0]:
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # On Linux this means that the other end is closed.
                break
            if not piece:
                break
            shown += piece.decode()
            if waiting and waiting[0][0] in shown.rpartition("\n")[2] and shown.endswith(": "):
                os.write(terminal, f"{waiting.pop(0)[1]}\n".encode())
        assert not waiting, f"never asked for {waiting}: {shown}"
        return process.wait(10), shown.replace("\r\n", "\n")
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_on_a_terminal_it_asks_questions(tmp_path: Path):
    answers = [(REGION, "eu-west-1"), (JOBS, "prod-*, nightly-*"), (CHANNEL, "ml"), (STOP, "y")]

    code, shown = on_a_terminal(tmp_path, answers)

    assert code == 0
    assert shown.endswith("  export SLACK_BOT_TOKEN=xoxb-…\n  watcher check\n  watcher run\n")
    config = written(tmp_path / FILE)
    assert (config.region, config.watch.jobs) == ("eu-west-1", ("prod-*", "nightly-*"))
    assert config.slack.channel == "#ml"
    assert config.route[0].stop


def test_enter_accepts_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")

    code, shown = on_a_terminal(tmp_path, [(REGION, ""), (JOBS, ""), (CHANNEL, ""), (STOP, "")])

    assert code == 0, shown
    assert written(tmp_path / FILE) == Config(region="ap-south-1")


def test_it_asks_again_after_an_invalid_answer(tmp_path: Path):
    answers = [(REGION, "Ireland"), (REGION, "eu-west-1"), (JOBS, "*"), (CHANNEL, "A B"), (CHANNEL, "#a-b")]

    code, shown = on_a_terminal(tmp_path, answers, "--no-stop")

    assert code == 0
    assert 'region = "Ireland": is not an AWS region' in shown
    assert written(tmp_path / FILE).slack.channel == "#a-b"


def test_it_asks_only_what_no_option_answers(tmp_path: Path):
    code, shown = on_a_terminal(
        tmp_path, [(CHANNEL, "")], "--region", "eu-west-1", "--job", "prod-*", "--no-stop"
    )

    assert code == 0
    assert REGION not in shown
    assert written(tmp_path / FILE) == Config(region="eu-west-1", watch={"jobs": ("prod-*",)})


@pytest.mark.parametrize(("answer", "kept"), [("n", True), ("y", False)])
def test_it_asks_before_it_overwrites(tmp_path: Path, answer: str, kept: bool):
    (tmp_path / FILE).write_text("mine")
    rest = [] if kept else [(REGION, ""), (JOBS, ""), (CHANNEL, ""), (STOP, "")]

    code, shown = on_a_terminal(tmp_path, [("watcher.toml exists", answer), *rest])

    assert (code, (tmp_path / FILE).read_text() == "mine") == (1 if kept else 0, kept), shown
