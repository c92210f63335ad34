"""`watcher evaluate` on jobs that saved no tensors uses their metrics in CloudWatch instead."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.shell.conftest import CommandResult
from watcher.sandbox.process import Sandbox

Watcher = Callable[..., CommandResult]

STARTED_AT = time.time() // 60 * 60 - 3 * 3600
DEFINITIONS = [{"Name": name, "Regex": f"{name}=(.*)"} for name in ("train:error", "validation:error")]
HOOK = {"S3OutputPath": "s3://team/debug"}


@pytest.fixture
def bare(aws_environment: Sandbox) -> Sandbox:
    """A job that ended two hours ago, whose training error did not fall after ten minutes."""
    put_job(aws_environment, "bare")
    return aws_environment


def put_job(sandbox: Sandbox, name: str, **members: object) -> None:
    sandbox.control.put_training_job(
        name,
        TrainingJobStatus="Completed",
        TrainingStartTime=STARTED_AT,
        TrainingEndTime=STARTED_AT + 3600,
        AlgorithmSpecification={"TrainingInputMode": "File", "MetricDefinitions": DEFINITIONS},
        **members,
    )
    error = [(STARTED_AT + 60 * minute, 1 / (min(minute, 10) + 1)) for minute in range(60)]
    sandbox.control.put_metrics(name, {"train:error": error})


def test_a_rule_runs_on_the_metrics_of_a_job_without_tensors(watcher: Watcher, bare: Sandbox):
    ran = watcher("evaluate", "bare", "--rule", "LossNotDecreasing", "--json")

    assert ran.code == 1
    assert (ran.json["verdict"], ran.json["step"], ran.json["tensors"]) == (
        "issues_found",
        20,
        ["train:error"],
    )
    assert bare.control.calls()["cloudwatch:GetMetricData"] == 1


def test_the_readable_output_explains_what_a_step_is(watcher: Watcher, bare: Sandbox):
    ran = watcher("evaluate", "bare", "--rule", "LossNotDecreasing")

    shown = " ".join(ran.out.split())
    assert "on bare (cloudwatch:/aws/sagemaker/TrainingJobs/bare)" in shown
    assert "a step is a minute of training, its value CloudWatch's average over 60 s" in shown


def test_sweeps_and_plots_also_work_on_metrics(watcher: Watcher, bare: Sandbox):
    swept = watcher(
        "evaluate", "bare", "--rule", "LossNotDecreasing", "--sweep", "num_steps=5,30,59", "--json"
    )
    drawn = watcher("evaluate", "bare", "--rule", "LossNotDecreasing", "--plot", "error.png")

    assert [row["step"] for row in swept.json] == [15, None, None]
    assert drawn.code == 1
    assert Path("error.png").read_bytes().startswith(b"\x89PNG")


def test_a_hook_that_saved_nothing_is_ignored(watcher: Watcher, bare: Sandbox):
    bare.client("s3").create_bucket(Bucket="team")
    put_job(bare, "hooked", DebugHookConfig=HOOK)

    assert watcher("evaluate", "hooked", "--rule", "LossNotDecreasing", "--json").json["step"] == 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("evaluate", "bare", "--rule", "VanishingGradient"),
            "VanishingGradient needs tensors, and bare saves none; on its metrics there are ExplodingTensor,",
        ),
        (("evaluate", "bare", "--rule", "Nonsense"), "there is no rule 'Nonsense'"),
        (("tensors", "bare"), "bare saves no tensors: it was started without a DebugHookConfig"),
    ],
)
def test_a_request_that_needs_tensors_is_a_usage_error(watcher: Watcher, bare: Sandbox, arguments, words):
    ran = watcher(*arguments)

    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err


def test_a_missing_permission_is_named(watcher: Watcher, bare: Sandbox):
    bare.control.inject_fault("cloudwatch:GetMetricData", "AccessDenied", "not you", status=403)

    ran = watcher("evaluate", "bare", "--rule", "LossNotDecreasing")

    assert ran.code == 1
    assert "no permission for cloudwatch:GetMetricData" in ran.err
