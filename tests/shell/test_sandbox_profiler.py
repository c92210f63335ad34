"""Trainings in the sandbox leave what they used of the machine, as SageMaker's profiler does."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rules.profiler import PROFILER_RULES
from tests.doubles import containers
from tests.doubles.training_requests import RULES_IMAGE, training_request
from tests.waiting import eventually
from watcher.sandbox.jobs.system_metrics import Gpu, Gpus, Sampler
from watcher.sandbox.process import Sandbox

PROFILER = {"S3OutputPath": "s3://churn/profiles", "ProfilingIntervalInMilliseconds": 100}


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox.start(
        pace=0.02, trainers={"xgboost": containers.TRAINER}, rule_evaluator=containers.RULE
    ) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    running.control.reset()
    running.client("s3").create_bucket(Bucket="churn")
    for name, value in running.env.items():
        monkeypatch.setenv(name, value)
    return running


def train(sandbox: Sandbox, name: str, **members: Any) -> None:
    sagemaker = sandbox.client("sagemaker")
    lasts = {"seconds": "1"}  # long enough to be looked at on a busy machine
    sagemaker.create_training_job(**training_request(name, HyperParameters=lasts, **members))

    def ended() -> bool:
        status = sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
        assert status != "Failed"
        return bool(status == "Completed")

    eventually(ended, f"{name} has completed")


def keys(sandbox: Sandbox) -> list[str]:
    found = sandbox.client("s3").list_objects_v2(Bucket="churn", Prefix="profiles")
    return [item["Key"] for item in found.get("Contents", ())]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_smdebugs_own_reader_finds_the_metrics_of_a_training(sandbox: Sandbox):
    from smdebug.profiler.system_metrics_reader import S3SystemMetricsReader

    sandbox.control.set_gpus("profiled", [(30.0, 80.0), (5.0, 70.0)])
    train(sandbox, "profiled", ProfilerConfig=PROFILER)

    reader = S3SystemMetricsReader("s3://churn/profiles/profiled/profiler-output")
    events = reader.get_events(0, reader.get_timestamp_of_latest_available_file())

    found = {(event.type, event.name, event.dimension) for event in events}
    cores = [f"cpu{core}" for core in range(os.cpu_count() or 1)]
    assert {("cpu", core, "CPUUtilization") for core in cores} <= found
    assert {("memory", "MemoryUsedPercent", ""), ("i/o", "IOPS", "")} <= found
    assert {event.value for event in events if event.name == "gpu1"} == {5.0, 70.0}
    assert {event.node_id for event in events} == {"algo-1"}
    memory = [event.value for event in events if event.name == "MemoryUsedPercent"]
    assert all(0 < value < 100 for value in memory)


def test_each_training_has_instance_metrics_but_files_only_if_it_is_profiled(sandbox: Sandbox):
    train(sandbox, "plain", ProfilerConfig={"DisableProfiler": True})

    listed = sandbox.client("cloudwatch").list_metrics(
        Namespace="/aws/sagemaker/TrainingJobs", Dimensions=[{"Name": "Host", "Value": "plain/algo-1"}]
    )["Metrics"]

    assert {metric["MetricName"] for metric in listed} == {
        "CPUUtilization",
        "MemoryUtilization",
        "DiskUtilization",
    }
    assert keys(sandbox) == []


def test_the_profiler_of_a_training_is_switched_on_while_it_trains(sandbox: Sandbox):
    sagemaker = sandbox.client("sagemaker")
    lasts = {"seconds": "60"}
    off = {"DisableProfiler": True}
    sagemaker.create_training_job(**training_request("late", HyperParameters=lasts, ProfilerConfig=off))

    def job() -> dict[str, Any]:
        return dict(sagemaker.describe_training_job(TrainingJobName="late"))

    eventually(lambda: job()["SecondaryStatus"] == "Training", "it trains")
    assert job()["ProfilingStatus"] == "Disabled"
    rules = [profiler_rule("ProfilerReport")]
    on = {**PROFILER, "DisableProfiler": False}
    sagemaker.update_training_job(TrainingJobName="late", ProfilerConfig=on, ProfilerRuleConfigurations=rules)
    assert job()["ProfilingStatus"] == "Enabled"
    [rule] = eventually(
        lambda: [
            rule
            for rule in job()["ProfilerRuleEvaluationStatuses"]
            if rule.get("RuleEvaluationJobArn", "").startswith("arn:")
        ],
        "the rule's processing job has started",
    )
    with pytest.raises(ClientError, match=r"rule configuration with this name: ProfilerReport\.$"):
        sagemaker.update_training_job(TrainingJobName="late", ProfilerRuleConfigurations=rules)

    sagemaker.stop_training_job(TrainingJobName="late")
    eventually(lambda: job()["TrainingJobStatus"] == "Stopped", "it has stopped")
    assert any("/system/incremental/" in key for key in keys(sandbox))
    assert rule["RuleConfigurationName"] == "ProfilerReport"
    with pytest.raises(ClientError, match=r"the training job is in status Stopped\.$"):
        sagemaker.update_training_job(TrainingJobName="late", ProfilerConfig=off)


def test_a_training_goes_on_without_the_bucket_of_its_profile(sandbox: Sandbox):
    train(sandbox, "lost", ProfilerConfig={"S3OutputPath": "s3://nowhere/profiles"})


def test_a_process_that_computes_uses_a_core():
    sampler = Sampler(os.getpid())
    before = sampler.counters(0.0)

    def has_used_a_core() -> bool:
        sum(range(10**6))
        after = sampler.counters(1.0)
        return sum(after.cpu_s.values()) > sum(before.cpu_s.values()) and after.memory_bytes > 0

    eventually(has_used_a_core, "the kernel has counted the time of this process")


def test_the_state_of_gpus_is_what_the_driver_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f"#!{sys.executable}\nimport sys, time\n"
        "assert '--query-gpu=index,utilization.gpu,utilization.memory' in sys.argv\n"
        "print('0, 35, 12', '1, 90, [N/A]', '2, 5, 1', sep='\\n', flush=True)\ntime.sleep(60)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    gpus = Gpus(0.5)
    try:
        eventually(lambda: len(gpus.now()) == 2, "the driver has answered")
        assert gpus.now() == [Gpu(35.0, 12.0), Gpu(5.0, 1.0)]
    finally:
        gpus.close()


def test_a_machine_without_a_driver_has_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert Gpus(0.5).now() == []


# -- profiler rules -------------------------------------------------------------------------------


def profiler_rule(name: str, **parameters: str) -> dict[str, Any]:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": RULES_IMAGE,
        "RuleParameters": {"rule_to_invoke": name, **parameters},
    }


@pytest.fixture(scope="module")
def judged() -> Iterator[Sandbox]:
    """A sandbox with a training that hardly used its two GPUs, judged by two profiler rules."""
    few = {"patience": "2", "window": "2"}
    rules = [
        profiler_rule("LowGPUUtilization", **few),
        profiler_rule("ProfilerReport", **{f"LowGPUUtilization_{key}": text for key, text in few.items()}),
    ]
    with Sandbox.start(pace=0.02, trainers={"xgboost": containers.TRAINER}) as sandbox:
        sandbox.client("s3").create_bucket(Bucket="churn")
        sandbox.control.set_gpus("idle", [(30.0, 80.0), (5.0, 70.0)])
        train(sandbox, "idle", ProfilerConfig=PROFILER, ProfilerRuleConfigurations=rules)

        def final() -> bool:
            return all(status["RuleEvaluationStatus"] != "InProgress" for status in statuses(sandbox))

        eventually(final, "the profiler rules have ended")
        yield sandbox


def statuses(sandbox: Sandbox) -> list[dict[str, Any]]:
    job: Any = sandbox.client("sagemaker").describe_training_job(TrainingJobName="idle")
    found: list[dict[str, Any]] = job["ProfilerRuleEvaluationStatuses"]
    return found


def test_profiler_rules_judge_what_the_profiler_saved_and_say_why_in_their_logs(judged: Sandbox):
    found = {status["RuleConfigurationName"]: status for status in statuses(judged)}
    logs = judged.client("logs")
    group = "/aws/sagemaker/ProcessingJobs"

    assert {status["RuleEvaluationStatus"] for status in found.values()} == {"IssuesFound"}
    met = "Evaluation of the rule LowGPUUtilization resulted in the condition being met"
    assert found["LowGPUUtilization"]["StatusDetails"] == f"RuleEvaluationConditionMet: {met}"
    for status in found.values():
        name = status["RuleEvaluationJobArn"].rpartition("/")[2]
        job = judged.client("sagemaker").describe_processing_job(ProcessingJobName=name)
        assert job["ProcessingJobStatus"] == "Completed"
        streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
        [stream] = [each["logStreamName"] for each in streams if name[-8:] in each["logStreamName"]]
        events = logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]
        assert any("gpu1 of algo-1" in event["message"] for event in events)


def test_the_profiler_report_is_a_page_and_a_document_for_each_rule(judged: Sandbox):
    s3 = judged.client("s3")
    place = "out/idle/rule-output/ProfilerReport/profiler-output/"

    listed = s3.list_objects_v2(Bucket="churn", Prefix=place)["Contents"]
    names = {item["Key"].removeprefix(place) for item in listed}
    body = s3.get_object(Bucket="churn", Key=f"{place}profiler-reports/LowGPUUtilization.json")["Body"]
    page = s3.get_object(Bucket="churn", Key=f"{place}profiler-report.html")["Body"].read().decode()

    reports = PROFILER_RULES.keys() - {"ProfilerReport"}
    assert names == {"profiler-report.html", *(f"profiler-reports/{rule}.json" for rule in reports)}
    assert json.loads(body.read())["RuleTriggered"] == 1
    assert "LowGPUUtilization" in page


def test_a_profiler_rule_of_a_job_that_is_not_profiled_has_no_data(sandbox: Sandbox):
    train(sandbox, "blind", ProfilerRuleConfigurations=[profiler_rule("IOBottleneck")])

    def status() -> dict[str, Any] | None:
        job: Any = sandbox.client("sagemaker").describe_training_job(TrainingJobName="blind")
        [found] = job["ProfilerRuleEvaluationStatuses"]
        return found if found["RuleEvaluationStatus"] != "InProgress" else None

    found: Any = eventually(status, "the rule has ended")
    assert found["RuleEvaluationStatus"] == "Error"
