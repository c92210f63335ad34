"""Runs notebooks on a sandbox, with nothing but this machine in reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.docs.pages import code_blocks, read
from tests.waiting import WAIT_LIMIT_S
from watcher.sandbox.process import Sandbox

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Notebooks:
    """What has come of notebooks that ran."""

    folder: Path
    codes: dict[str, int]

    def failures(self) -> dict[str, str]:
        """The end of the output of each notebook that failed."""
        return {name: self._read(f"{name}.txt")[-3000:] for name, code in self.codes.items() if code}

    def refused_hosts(self) -> list[str]:
        """The hosts beyond this machine that they wanted to connect to."""
        return self._read("refused").split()

    def requests(self, notebook: str) -> list[list[Any]]:
        """Its requests to AWS: service, operation, parameters."""
        return [json.loads(line) for line in self._read(f"{notebook}.requests").splitlines()]

    def _read(self, name: str) -> str:
        file = self.folder / name
        return file.read_text(errors="replace") if file.exists() else ""


def documented(heading: str) -> str:
    """The Python example below this heading of the page on notebooks."""
    section = read("docs/notebooks.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    [code] = code_blocks(section, "python")
    return code


def run(
    sandbox: Sandbox,
    notebooks: Sequence[Path],
    folder: Path,
    python: str = sys.executable,
    imports: Sequence[str] = ("boto3",),
) -> Notebooks:
    """In this order, each in the environment that the sandbox prints. Raises if the kernel itself fails."""
    kernel = subprocess.run(
        [python, "-P", "-m", "tests.notebooks.kernel", str(folder), *map(str, notebooks)],
        env={
            **os.environ,
            **sandbox.env,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join((str(HERE / "loopback"), str(HERE.parent.parent))),
            "LOOPBACK_LOG": str(folder / "refused"),
            "NOTEBOOK_IMPORTS": " ".join(imports),
            "MPLBACKEND": "agg",
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=10 * WAIT_LIMIT_S,
        check=True,
    )
    ran = [json.loads(line) for line in kernel.stdout.splitlines() if line.startswith("{")]
    return Notebooks(folder, {each["notebook"]: each["code"] for each in ran})
