"""Every Python that Watcher runs on and that this machine has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

VERSIONS = ((3, 11), (3, 12), (3, 13))


def pythons() -> dict[str, Path]:
    """The interpreters by version (`3.12`): on the PATH, else among pyenv's, whose shims need not work."""
    found = {}
    for major, minor in VERSIONS:
        version = f"{major}.{minor}"
        on_path = shutil.which(f"python{version}")
        candidates = [Path(on_path)] if on_path else []
        candidates += sorted(_pyenv_versions().glob(f"{version}.*/bin/python"), reverse=True)
        for candidate in candidates:
            if _is_usable(candidate, version):
                found[version] = candidate
                break
    return found


def _pyenv_versions() -> Path:
    if shutil.which("pyenv") is None:
        return Path("/nonexistent")
    root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True)
    return Path(root.stdout.strip()) / "versions"


def _is_usable(python: Path, version: str) -> bool:
    """It runs, is what its name says, and can make virtual environments."""
    script = "import sys, venv, ensurepip; print('{}.{}'.format(*sys.version_info))"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version
