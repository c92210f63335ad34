"""The real daemon evaluates profiler rules itself, beside the rules on what a job trains."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import blocks, changed
from tests.profiler_files import system_file
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.model import Judge, Reads, RuleFamily
from watcher.sandbox.process import Sandbox

ATTACH = {"local": "attach", "attach": [{"rule": "LowGPUUtilization"}, {"rule": "LossNotDecreasing"}]}
DEFINITIONS = [{"Name": "train:loss", "Regex": "loss=([0-9.]+)"}]


@pytest.fixture
def attaching(config: Config) -> Config:
    return changed(config, rules=ATTACH, route=[{"rule": "LowGPU*", "stop": True}])


def place(sandbox: Sandbox, name: str, gpu: list[float], **members: Any) -> None:
    """Place a job without Debugger on an instance with one GPU, of which there is a value a minute until
    now."""
    began = time.time() // 60 * 60 - 60 * (len(gpu) + 2)
    resources = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    sandbox.control.put_training_job(
        name, **{"TrainingStartTime": began, "ResourceConfig": resources, **members}
    )
    sandbox.client("cloudwatch").put_metric_data(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricData=[
            {
                "MetricName": "GPUUtilization",
                "Value": value,
                "Timestamp": began + 60 * minute,
                "Dimensions": [{"Name": "Host", "Value": f"{name}/algo-1"}],
            }
            for minute, value in enumerate(gpu)
        ],
    )


def test_a_gpu_that_idles_is_told_with_its_curve_and_no_route_stops_the_job(
    attaching: Config, sandbox: Sandbox, slack: SlackDouble
):
    place(sandbox, "idles", [8.0] * 30)
    app = App(attaching)
    app.run_once()
    [finding] = app.store.findings()
    app.close()
    assert (finding.family, finding.judge, finding.source) == (RuleFamily.PROFILER, Judge.WATCHER, "local")
    assert (finding.severity, finding.kind) == ("warning", "rule_issue")
    assert "sagemaker:StopTrainingJob" not in sandbox.control.calls()
    [message] = slack.messages
    assert message["text"].startswith("LowGPUUtilization found an issue in idles")
    assert "8 %; the rule wants at least 70 %" in blocks(slack)
    assert "GPUUtilization of algo-1" in blocks(slack)
    assert "profiler rules never stop a job" in blocks(slack)
    assert "Not available" not in blocks(slack)


def test_a_job_has_an_evaluation_of_its_training_and_one_of_its_instances(
    attaching: Config, sandbox: Sandbox
):
    algorithm = {"TrainingInputMode": "File", "MetricDefinitions": DEFINITIONS}
    place(sandbox, "busy", [95.0] * 30, AlgorithmSpecification=algorithm)
    began = time.time() // 60 * 60 - 60 * 32
    rows = [(began + 60 * minute + 20, 1 / (minute + 1)) for minute in range(30)]
    sandbox.control.put_metrics("busy", {"train:loss": rows})
    first = App(attaching)
    first.run_once()
    first.close()
    second = App(attaching)
    [record] = second.store.jobs("busy")
    second.close()
    assert [each.reads for each in record.evaluations] == [Reads.METRICS, Reads.INSTANCE_METRICS]
    assert all(each.due_at and each.cursor for each in record.evaluations)
    assert {(outcome.rule, outcome.status) for outcome in record.snapshot.outcomes} == {
        ("LossNotDecreasing", "InProgress"),
        ("LowGPUUtilization", "InProgress"),
    }
    assert sandbox.control.calls()["cloudwatch:GetMetricData"] == 1


# -- a job's own profiler rules --------------------------------------------------------------------

RULE = "idle-gpus"
PARAMETERS = {"rule_to_invoke": "LowGPUUtilization", "patience": "100", "window": "100"}


def place_profiled(sandbox: Sandbox, status: str) -> None:
    """Place a job whose profiler saved ten minutes of a GPU that idles."""
    sandbox.control.put_training_job(
        "deep",
        TrainingStartTime=time.time() - 900,
        ResourceConfig={"InstanceType": "ml.p3.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
        ProfilerConfig={"S3OutputPath": "s3://team/profile"},
        ProfilerRuleConfigurations=[
            {"RuleConfigurationName": RULE, "RuleEvaluatorImage": "image", "RuleParameters": PARAMETERS}
        ],
        ProfilerRuleEvaluationStatuses=[
            {
                "RuleConfigurationName": RULE,
                "RuleEvaluationStatus": status,
                "LastModifiedTime": time.time(),
            }
        ],
    )


def test_what_sagemakers_profiler_and_watcher_find_is_one_finding_that_stops_nothing(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket="team")
    for minute in range(10):
        key, text = system_file(datetime.now(UTC) + timedelta(minutes=minute - 15), gpu=12.0)
        s3.put_object(Bucket="team", Key=f"profile/deep/profiler-output/{key}", Body=text)
    stopping = changed(config, route=[{"rule": "*", "stop": True}])
    place_profiled(sandbox, "InProgress")
    first = App(stopping)
    first.run_once()
    [own] = first.store.findings()
    first.close()
    place_profiled(sandbox, "IssuesFound")
    second = App(stopping)
    second.pipeline.look_again(own.job_arn)  # otherwise only after ten minutes
    second.run_once()
    [both] = second.store.findings()
    [record] = second.store.jobs("deep")
    second.close()
    assert (own.id, own.rule, own.source) == (both.id, RULE, "local")
    assert [says.judge for says in both.says] == [Judge.WATCHER, Judge.DEBUGGER]
    assert [each.reads for each in record.evaluations] == [Reads.PROFILER_OUTPUT]
    assert len(slack.messages) == 1
    assert "sagemaker:StopTrainingJob" not in sandbox.control.calls()
    assert "profiler rules never stop a job" in blocks(slack)


def test_a_profiler_rule_that_can_never_fire_is_told_once(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job(
        "deep",
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
        ProfilerConfig={"S3OutputPath": "s3://team/profile"},
        ProfilerRuleConfigurations=[
            {"RuleConfigurationName": RULE, "RuleEvaluatorImage": "image", "RuleParameters": PARAMETERS}
        ],
    )
    sandbox.client("s3").create_bucket(Bucket="team")
    for _ in range(2):
        app = App(config)
        app.run_once()
        [finding] = app.store.findings()
        app.close()
    assert (finding.kind, finding.family) == ("rule_defect", RuleFamily.PROFILER)
    assert "ml.m5.xlarge has none" in finding.reason
    assert len(slack.messages) == 1
