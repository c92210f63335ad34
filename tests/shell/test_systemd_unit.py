"""deploy/systemd/watcher.service, checked by systemd itself and against Watcher."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from watcher import cli
from watcher.daemon.threads import DRAIN_TIMEOUT_S

UNIT = Path(__file__).parents[2] / "deploy/systemd/watcher.service"
SETTINGS = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
NEWER = ("RestartSteps", "RestartMaxDelaySec")
"""Settings new in systemd 254; the unit says how older versions treat them."""

systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


@systemd
def test_systemd_understands_every_line(tmp_path: Path):
    unit = tmp_path / UNIT.name
    # There is no /opt/watcher here, but the command to start must exist.
    unit.write_text(UNIT.read_text().replace("/opt/watcher/bin/watcher run", f"{sys.executable} run"))

    done = analyze("verify", "--man=no", str(unit))

    complaints = [line for line in done.stderr.splitlines() if not any(f"'{key}'" in line for key in NEWER)]
    assert (done.returncode, complaints) == (0, [])


@systemd
def test_systemd_rates_the_units_exposure_low():
    done = analyze("security", "--offline=true", "--threshold=20", str(UNIT))

    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


def test_the_unit_starts_a_command_that_exists():
    _, command, option, _ = SETTINGS["ExecStart"].split()

    parameters = typer.main.get_group(cli.app).commands[command].params
    assert option in {name for parameter in parameters for name in parameter.opts}


def test_the_unit_gives_the_daemon_enough_time_to_shut_down():
    assert int(SETTINGS["TimeoutStopSec"]) > DRAIN_TIMEOUT_S


def test_the_unit_restarts_the_daemon_except_after_a_wrong_configuration(tmp_path: Path):
    wrong = tmp_path / "watcher.toml"
    wrong.write_text("regoin = 1")
    code = cli.main(["run", "--config", str(wrong)])

    assert SETTINGS["Restart"] == "always"
    assert SETTINGS["RestartPreventExitStatus"] == str(code)
