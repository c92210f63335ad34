"""Watcher reads the output of smdebug's PyTorch hook as smdebug does. `make parity-torch` installs PyTorch
and runs this."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.shell.smdebug_parity import compare

pytestmark = [
    pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed: make parity-torch"),
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
]


def test_a_pytorch_training_with_modes_and_reductions_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMDEBUG_TRAINING_END_DELAY_REFRESH", "0")
    folder = tmp_path / "debug-output"
    trained = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.shell.pytorch_job", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert trained.returncode == 0, trained.stderr

    values = compare(folder)
    assert {mode for mode, *_ in values} == {"TRAIN", "EVAL", "PREDICT"}
    names = {name for _, name, *_ in values}
    assert {"Sequential_fc.weight", "relu_output_0", "CrossEntropyLoss_output_0"} <= names
    assert "smdebug/reductions/abs_max/gradient/Sequential_fc.weight" in names
    assert "smdebug/reductions/std/Sequential_fc.weight" in names
