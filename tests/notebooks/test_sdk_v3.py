"""Version 3 of the SageMaker Python SDK on the sandbox.

It does not go with version 2 in one environment. `make notebooks-v3` runs its notebooks in another one, and
compares the requests that they make with `v3/requests.json`; with WATCHER_RECORD_V3=1, it writes that file.
The suite makes these requests without the SDK.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name

from tests.notebooks import running
from watcher.sandbox.environment import DEFAULT_BUCKET
from watcher.sandbox.process import Sandbox

V3 = running.HERE / "v3"
RECORDED = V3 / "requests.json"
NOTEBOOKS = ("model_trainer", "training_job")
REPEATED = frozenset({"DescribeTrainingJob", "DescribeLogStreams", "GetLogEvents", "DescribeProcessingJob"})
"""How often these are made depends on how long the training takes."""


def shapes(requests: list[list[Any]]) -> dict[str, list[str]]:
    """The names of the parameters of each operation, of all its requests. S3's are the SDK's uploads."""
    found: dict[str, set[str]] = {}
    for service, operation, parameters in requests:
        if service != "s3":
            found.setdefault(f"{service}:{operation}", set()).update(parameters)
    return {operation: sorted(names) for operation, names in sorted(found.items())}


def first_of_each(requests: list[list[Any]]) -> list[list[Any]]:
    seen: set[tuple[str, str]] = set()
    kept = []
    for service, operation, parameters in requests:
        if service != "s3" and (operation not in REPEATED or (service, operation) not in seen):
            kept.append([service, operation, parameters])
        seen.add((service, operation))
    return kept


@pytest.mark.skipif("SAGEMAKER_V3_PYTHON" not in os.environ, reason="make notebooks-v3")
def test_the_notebooks_of_version_3_run_and_reach_nothing_but_this_machine(tmp_path: Path) -> None:
    python = os.environ["SAGEMAKER_V3_PYTHON"]
    documented = tmp_path / "documented.py"
    documented.write_text(running.documented("SDK version 3"))
    with Sandbox.start(pace=0.05) as sandbox:
        own = [V3 / f"{name}.py" for name in NOTEBOOKS]
        ran = running.run(sandbox, [*own, documented], tmp_path, python)
    assert ran.failures() == {}
    assert list(ran.codes) == [*NOTEBOOKS, "documented"]
    assert ran.refused_hosts() == []
    requests = {name: first_of_each(ran.requests(name)) for name in NOTEBOOKS}
    if "WATCHER_RECORD_V3" in os.environ:
        RECORDED.write_text(json.dumps(requests, indent=1) + "\n")
    recorded = json.loads(RECORDED.read_text())
    assert {name: shapes(made) for name, made in requests.items()} == {
        name: shapes(made) for name, made in recorded.items()
    }


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_sandbox_answers_the_requests_of_version_3(sandbox: Sandbox, notebook: str) -> None:
    """Each as it was recorded, in the same order. Log streams appear only when the training has begun."""
    recorded = json.loads(RECORDED.read_text())[notebook]
    for service, operation, parameters in recorded:
        if service == "logs" or operation == "DescribeProcessingJob":
            continue
        answer = getattr(sandbox.client(service), xform_name(operation))(**parameters)
        if operation == "SimulatePrincipalPolicy":
            decisions = [result["EvalDecision"] for result in answer["EvaluationResults"]]
            assert decisions == ["allowed"] * len(parameters["ActionNames"])
    created = next(parameters for _, operation, parameters in recorded if operation == "CreateTrainingJob")
    job = sandbox.client("sagemaker").describe_training_job(TrainingJobName=created["TrainingJobName"])
    for member in ("DebugHookConfig", "DebugRuleConfigurations", "HyperParameters"):
        assert job.get(member) == created.get(member)
    assert re.match(f"s3://{DEFAULT_BUCKET}/", job["ModelArtifacts"]["S3ModelArtifacts"])
