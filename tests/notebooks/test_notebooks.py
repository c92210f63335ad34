"""Notebooks run on the sandbox as they would on AWS, with the clients as they come: the SageMaker Python SDK,
smdebug, boto3, awslogs and the AWS CLI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebooks import running
from tests.notebooks.running import Notebooks
from watcher.sandbox.process import Sandbox

IN_ORDER = (
    *("train", "tensors", "rule_log", "curves", "made_of", "permissions", "metrics"),
    "system_metrics",
    *("documented", "experiments", "clean_up"),
)
"""`train` trains what the others look at, and `clean_up` deletes it. `documented` is docs/notebooks.md's."""


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Notebooks:
    folder = tmp_path_factory.mktemp("notebooks")
    documented = folder / "documented.py"
    documented.write_text(running.documented("SDK version 2"))
    with Sandbox.start(pace=0.05) as sandbox:
        return running.run(
            sandbox,
            [documented if name == "documented" else running.HERE / f"{name}.py" for name in IN_ORDER],
            folder,
            imports=("boto3", "sagemaker", "pandas", "matplotlib.pyplot"),
        )


def test_every_notebook_runs_to_its_end_and_reaches_nothing_but_this_machine(notebooks: Notebooks) -> None:
    """One test, so that pytest-xdist does not run the notebooks once for each worker."""
    assert notebooks.failures() == {}
    assert list(notebooks.codes) == list(IN_ORDER)
    assert notebooks.refused_hosts() == []


def test_every_notebook_has_a_place_in_the_order() -> None:
    own = {"__init__", "kernel", "running", Path(__file__).stem, "test_sdk_v3", "test_histograms"}
    assert {path.stem for path in running.HERE.glob("*.py")} - own == {*IN_ORDER} - {"documented"}
