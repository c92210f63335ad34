"""`watcher run` as a separate process on the sandbox: what the command adds to the daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import WAIT_LIMIT_S
from watcher.sandbox.process import Sandbox

FIRED = {
    "RuleConfigurationName": "LossNotDecreasing",
    "RuleEvaluationStatus": "IssuesFound",
    "StatusDetails": "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 24 "
    "resulted in the condition being met\n",
}


@pytest.fixture
def folder(tmp_path: Path, sandbox: Sandbox) -> Path:
    sandbox.control.put_training_job(
        "churn-1", TrainingJobStatus="InProgress", DebugRuleEvaluationStatuses=[FIRED]
    )
    return tmp_path


def run(folder: Path, sandbox: Sandbox, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "watcher", "run", "--once", *arguments],
        cwd=folder,
        env={**os.environ, **sandbox.env},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_LIMIT_S,
    )


def test_one_pass_reports_its_findings_once_and_ends(folder: Path, sandbox: Sandbox):
    first, second = run(folder, sandbox), run(folder, sandbox)

    assert (first.returncode, second.returncode) == (0, 0)
    assert "LossNotDecreasing found an issue in churn-1" in first.stdout
    assert second.stdout == ""


def test_stdout_has_the_alert_and_stderr_the_log_as_json_lines(folder: Path, sandbox: Sandbox):
    done = run(folder, sandbox)

    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"finding", "delivered"} <= {event["event"] for event in events}
    assert "timestamp" not in done.stdout


def test_keys_without_effect_yet_are_warned_about_once(folder: Path, sandbox: Sandbox):
    (folder / "watcher.toml").write_text('[slack]\napp_token = "xapp-1"')

    done = run(folder, sandbox)

    warnings = [json.loads(line) for line in done.stderr.splitlines() if '"settings_not_used"' in line]
    assert [(each["level"], each["keys"]) for each in warnings] == [("warning", ["slack.app_token"])]


def test_a_named_job_that_does_not_exist_is_a_usage_error(folder: Path, sandbox: Sandbox):
    done = run(folder, sandbox, "chrun-1")

    assert done.returncode == 2
    assert done.stderr.startswith("watcher: there is no training job chrun-1 in us-east-1")
    assert done.stderr.count("\n") == 1


def test_the_daemon_never_imports_the_sandboxs_dependencies(folder: Path, sandbox: Sandbox):
    script = (
        "import sys; from watcher.cli import main; code = main(['run', '--once']);"
        "print(*{name.split('.')[0] for name in sys.modules}); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, **sandbox.env},
        capture_output=True,
        text=True,
        check=True,
    )

    imported = set(done.stdout.splitlines()[-1].split())
    assert {"botocore", "numpy"} <= imported  # a rule has fired, so the daemon has worked
    assert imported & {"sagemaker", "smdebug", "matplotlib", "moto", "pandas", "sklearn", "xgboost"} == set()
