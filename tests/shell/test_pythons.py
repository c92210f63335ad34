"""The sources are Python 3.11, and newer Pythons compile them without warnings.

This is the small form of `make pythons`, which installs the wheel on each Python and runs it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pythons import pythons

ROOT = Path(__file__).parents[2]
FOUND = pythons()


def test_the_python_that_runs_the_tests_is_found():
    assert "{}.{}".format(*sys.version_info) in FOUND


@pytest.mark.parametrize("version", FOUND)
def test_each_python_compiles_every_module_without_a_warning(version: str):
    script = (
        "import sys, pathlib;"
        "[compile(file.read_bytes(), str(file), 'exec') for name in sys.argv[1:]"
        " for file in pathlib.Path(name).rglob('*.py')]"
    )
    done = subprocess.run(
        [FOUND[version], "-W", "error", "-c", script, "watcher", "rules"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
