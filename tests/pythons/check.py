"""`make pythons`: the wheel with its locked dependencies, on each Python of this machine.

It takes a few minutes, mostly for pip, and is not part of `make test`. Its small form
tests/shell/test_pythons.py is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.profiler_output import write_job
from tests.pythons import VERSIONS, pythons
from watcher import __version__
from watcher.sandbox.cookbook import PARAMETERS
from watcher.sandbox.process import Sandbox

ROOT = Path(__file__).parents[2]
FOUND = pythons()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "LICENSE", "docs/package.md", "rules", "watcher"):
        target = source / name
        target.parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    build = "import setuptools.build_meta as build; build.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True)
    [built] = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="session", params=FOUND)
def watcher(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script `watcher`, installed as in the image."""
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    pip = folder / "bin" / "pip"
    quiet = ("install", "--quiet", "--disable-pip-version-check", "--no-deps")
    subprocess.run([FOUND[request.param], "-m", "venv", folder], check=True)
    subprocess.run([pip, *quiet, "--require-hashes", "-r", ROOT / "requirements-image.lock"], check=True)
    subprocess.run([pip, *quiet, "--no-index", wheel], check=True)
    subprocess.run([pip, "check"], check=True)
    return folder / "bin" / "watcher"


def run(watcher: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [watcher, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_every_supported_python_is_found() -> None:
    if len(FOUND) < len(VERSIONS):
        pytest.skip(f"only {', '.join(FOUND)}")


def test_the_installed_command_prints_its_version_and_its_commands(watcher: Path) -> None:
    assert run(watcher, "--version").stdout == f"watcher {__version__}\n"
    assert "\n  run " in run(watcher, "--help").stdout


def test_the_demo_without_its_extra_gives_one_line(watcher: Path) -> None:
    assert run(watcher, "demo", code=2).stderr.count("\n") == 1


@pytest.mark.usefixtures("aws_environment")
def test_the_installed_command_checks_watches_and_shows_jobs(
    watcher: Path, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sandbox.control.put_training_job("churn", TrainingJobStatus="InProgress")
    (tmp_path / "watcher.toml").write_text('[http]\nlisten = ""\n')

    checked = run(watcher, "check")
    run(watcher, "run", "--once")

    assert "failed" not in checked.stdout
    assert "churn" in run(watcher, "jobs").stdout


def test_a_rule_is_evaluated_and_a_profile_summed_up_with_plots(
    watcher: Path, trial: tuple[Path, int], tmp_path: Path
) -> None:
    output, step = trial
    parameters = [word for name, text in PARAMETERS.items() for word in ("--param", f"{name}={text}")]
    write_job(tmp_path / "bert" / "profiler-output", 3)
    curve, use = tmp_path / "curve.png", tmp_path / "use.png"

    evaluated = run(
        watcher,
        *("evaluate", str(output), "--rule", "LossNotDecreasing", *parameters),
        *("--plot", str(curve), "--json"),
        code=1,
    )
    profiled = run(watcher, "profile", str(tmp_path / "bert"), "--plot", str(use), "--json")

    assert json.loads(evaluated.stdout)["step"] == step
    assert json.loads(profiled.stdout)["source"] == "profiler"
    assert min(curve.stat().st_size, use.stat().st_size) > 10_000
