"""`watcher evaluate` with a profiler rule."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.profiler_files import system_file
from tests.shell.conftest import CommandResult
from watcher.sandbox.process import Sandbox

Watcher = Callable[..., CommandResult]

BEGAN = datetime.fromtimestamp(time.time() // 3600 * 3600 - 3 * 3600, UTC)
RULE = ("--rule", "LowGPUUtilization", "--param", "patience=100", "--param", "window=100")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Ten minutes of a GPU that idles."""
    for minute in range(10):
        key, text = system_file(BEGAN + timedelta(minutes=minute), gpu=12.0)
        file = tmp_path / "profiler-output" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "profiler-output"


def test_a_profiler_rule_runs_on_a_folder(watcher: Watcher, saved: Path):
    ran = watcher("evaluate", str(saved), *RULE, "--json")
    assert ran.code == 1
    assert ran.json.keys() == {
        "rule",
        "parameters",
        "verdict",
        "reason",
        "step",
        "steps_checked",
        "tensors",
        "evidence",
    }
    assert (ran.json["rule"], ran.json["verdict"], ran.json["step"]) == (
        "LowGPUUtilization",
        "issues_found",
        None,
    )
    assert ran.json["parameters"] == {"patience": "100", "window": "100"}
    [evidence] = ran.json["evidence"]
    assert (evidence["value"], evidence["threshold"]) == (12.0, 70.0)
    assert (evidence["node"], evidence["gpu"]) == ("algo-1", "gpu0")
    assert ran.json["tensors"] == [evidence["tensor"]]


def test_the_readable_output_says_what_decided(watcher: Watcher, saved: Path):
    ran = watcher("evaluate", str(saved), *RULE)
    shown = " ".join(ran.out.split())
    assert "verdict issues_found" in shown
    assert "12 %" in shown
    assert "gpu0" in shown


def test_a_sweep_reads_the_metrics_once_for_all_settings(watcher: Watcher, saved: Path):
    ran = watcher("evaluate", str(saved), *RULE, "--sweep", "threshold_p95=10,50", "--json")
    assert [row["verdict"] for row in ran.json] == ["no_issues_found", "issues_found"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--param", "treshold=1"), "treshold"),
        (("--plot", "gpu.png"), "watcher profile"),
    ],
)
def test_what_a_profiler_rule_does_not_take_is_refused(watcher: Watcher, saved: Path, options, said):
    ran = watcher("evaluate", str(saved), "--rule", "LowGPUUtilization", *options)
    assert ran.code == 2
    assert said in ran.err


def test_a_place_without_profiler_output_is_named(watcher: Watcher, tmp_path: Path):
    ran = watcher("evaluate", f"{tmp_path}/nowhere", *RULE)
    assert ran.code == 2
    assert "nowhere" in ran.err


def test_a_job_without_profiler_output_is_judged_on_its_instances(watcher: Watcher, aws_environment: Sandbox):
    resources = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    aws_environment.control.put_training_job(
        "bare",
        TrainingJobStatus="Completed",
        TrainingStartTime=BEGAN.timestamp(),
        TrainingEndTime=BEGAN.timestamp() + 1800,
        ResourceConfig=resources,
    )
    aws_environment.client("cloudwatch").put_metric_data(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricData=[
            {
                "MetricName": "GPUUtilization",
                "Value": 9.0,
                "Timestamp": BEGAN + timedelta(minutes=minute),
                "Dimensions": [{"Name": "Host", "Value": "bare/algo-1"}],
            }
            for minute in range(30)
        ],
    )
    ran = watcher("evaluate", "bare", "--rule", "LowGPUUtilization", "--json")
    assert (ran.code, ran.json["verdict"]) == (1, "issues_found")
    assert ran.json["evidence"][0]["value"] == 9.0
