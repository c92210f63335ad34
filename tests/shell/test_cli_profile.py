"""`watcher profile`: on a folder, on a job with profiler output, and on one with instance metrics only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doubles.profiler_output import BEGIN, steps, write_framework, write_job
from tests.shell.conftest import CommandResult
from watcher.sandbox.process import Sandbox

Watcher = Callable[..., CommandResult]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten minutes of two nodes with busy cores and an idle GPU."""
    folder = tmp_path_factory.mktemp("jobs") / "bert"
    write_job(folder / "profiler-output", 10, nodes=("algo-1", "algo-2"))
    origin = BEGIN * 10**6
    write_framework(folder / "profiler-output", origin + 300 * 10**6, steps(origin + 10**6, [10**6] * 200))
    return folder


def test_a_folder_is_summed_up_and_judged(watcher: Watcher, job: Path) -> None:
    shown = watcher("profile", str(job))
    assert shown.code == 0
    assert "33,600" in shown.out
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert any(line.startswith("algo-1 CPUUtilization cpu0 90.") for line in lines)
    assert any(line.startswith("CPUBottleneck issues_found in 1,080 of 1,080 snapshots") for line in lines)
    assert any(line.startswith("IOBottleneck no_issues_found") for line in lines)
    assert "Means over time" in shown.out
    assert "How often each percentage occurred" in shown.out


def test_the_json_has_percentiles_and_verdicts_with_their_numbers(watcher: Watcher, job: Path) -> None:
    document = json.loads(watcher("profile", str(job), "--json").out)
    assert (document["source"], document["values"]) == ("profiler", 33_600)
    gpu = document["nodes"]["algo-2"]["GPUUtilization"]["gpu0"]
    assert gpu["values"] == 1200
    assert 0 <= gpu["p5"] <= gpu["p50"] <= gpu["p95"] <= gpu["max"] < 10
    rules = {one["rule"]: one for one in document["rules"]}
    low = rules["LowGPUUtilization"]
    assert (low["verdict"], low["node"], low["gpu"]) == ("issues_found", "algo-1", "gpu0")
    assert low["evidence"][0]["threshold"] == 70
    assert low["advice"]
    assert rules["Dataloader"]["reason"] == "no_loaders"
    assert rules["StepOutlier"]["verdict"] == "no_issues_found"


def test_one_node(watcher: Watcher, job: Path) -> None:
    document = json.loads(watcher("profile", str(job), "--node", "algo-2", "--json").out)
    assert list(document["nodes"]) == ["algo-2"]
    assert {one["node"] for one in document["rules"] if one["node"]} == {"algo-2"}
    refused = watcher("profile", str(job), "--node", "algo-3")
    assert refused.code == 2
    assert "has no node algo-3: it has algo-1, algo-2" in refused.err


def test_pictures_and_a_page_are_written(watcher: Watcher, job: Path, tmp_path: Path) -> None:
    assert watcher("profile", str(job), "--plot", str(tmp_path / "use.svg")).code == 0
    assert "<svg" in (tmp_path / "use.svg").read_text()
    assert watcher("profile", str(job), "--html", str(tmp_path / "use.html")).code == 0
    page = (tmp_path / "use.html").read_text()
    assert "CPUBottleneck" in page
    for outside in ("http://", "https://", "<script", "src=", "@import", "url("):
        assert outside not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--html", "use.txt"], "must end in .html"),
        (["--html", "nowhere/use.html"], "no such folder: nowhere"),
        (["--plot", "use.txt"], "must end in .png, .svg or .pdf"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_reading(
    watcher: Watcher, job: Path, options: list[str], message: str
) -> None:
    refused = watcher("profile", str(job), *options)
    assert refused.code == 2
    assert message in refused.err


def test_hostile_names_do_not_reach_the_terminal_or_the_page(watcher: Watcher, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    write_job(folder, 1)
    path = next(folder.rglob("*.json"))
    path.write_text(path.read_text().replace("cpu0", "\\u001b[31m<b>evil</b>"))
    shown = watcher("profile", str(folder), "--html", str(tmp_path / "page.html"))
    assert shown.code == 0
    assert "\x1b" not in shown.out
    assert "<b>evil" not in (tmp_path / "page.html").read_text()


def test_a_damaged_file_is_named_and_the_others_are_shown(watcher: Watcher, tmp_path: Path) -> None:
    write_job(tmp_path, 2)
    min(tmp_path.rglob("*.json")).write_text("no JSON\n{}\n")
    shown = watcher("profile", str(tmp_path))
    assert shown.code == 0
    assert f"{BEGIN + 60}.algo-1.json: line 1 of 2 is broken" in shown.out
    assert "1,440" not in shown.out


def test_an_empty_or_misspelt_folder_is_refused_with_what_may_be_meant(watcher: Watcher, job: Path) -> None:
    (job.parent / "bertt").mkdir(exist_ok=True)
    for place in (job.parent / "bertt", job.parent / "brt"):
        refused = watcher("profile", str(place))
        assert refused.code == 2
        assert f"no profiler output lies in {place}; did you mean {job}?" in refused.err


# -- on AWS ---------------------------------------------------------------------------------------


def test_a_place_on_s3(watcher: Watcher, job: Path, aws_environment: Sandbox) -> None:
    s3 = aws_environment.client("s3")
    s3.create_bucket(Bucket="profiles")
    for path in job.rglob("*.json"):
        s3.put_object(Bucket="profiles", Key=f"runs/bert/{path.relative_to(job)}", Body=path.read_bytes())
    document = json.loads(watcher("profile", "s3://profiles/runs/bert", "--json").out)
    assert document["values"] == 33_600
    refused = watcher("profile", "s3://profiles/runs/bart/profiler-output")
    assert refused.code == 2
    assert "no profiler output lies in s3://profiles/runs/bart/profiler-output" in refused.err
    refused = watcher("profile", "s3://profiles/runs/bart")
    assert "did you mean s3://profiles/runs/bert?" in refused.err


STARTED_AT = time.time() // 60 * 60 - 3 * 3600


def put_job(sandbox: Sandbox, name: str, instance_type: str, **metrics: float) -> None:
    """A job that trained for an hour, with these instance metrics all the time."""
    sandbox.control.put_training_job(
        name,
        TrainingJobStatus="Completed",
        TrainingStartTime=STARTED_AT,
        TrainingEndTime=STARTED_AT + 3600,
        ResourceConfig={"InstanceType": instance_type, "InstanceCount": 1, "VolumeSizeInGB": 1},
    )
    data = [
        {
            "MetricName": metric,
            "Dimensions": [{"Name": "Host", "Value": f"{name}/algo-1"}],
            "Timestamp": STARTED_AT + 60 * minute,
            "Value": value,
        }
        for metric, value in metrics.items()
        for minute in range(60)
    ]
    if data:
        sandbox.client("cloudwatch").put_metric_data(Namespace="/aws/sagemaker/TrainingJobs", MetricData=data)


def test_a_job_without_profiler_output_shows_cloudwatchs_instance_metrics_and_says_so(
    watcher: Watcher, aws_environment: Sandbox
) -> None:
    metrics = {"CPUUtilization": 2400.0, "GPUUtilization": 40.0, "MemoryUtilization": 12.0}
    put_job(aws_environment, "plain", "ml.g5.12xlarge", **metrics)
    document = json.loads(watcher("profile", "plain", "--json").out)
    assert document["source"] == "instance_metrics"
    assert "these are CloudWatch's instance metrics, one value a minute" in document["notes"][0]
    nodes = document["nodes"]["algo-1"]
    # An ml.g5.12xlarge has 48 cores and 4 GPUs.
    assert nodes["CPUUtilization"]["cpu"]["max"] == 50.0
    assert nodes["GPUUtilization"]["gpu"]["max"] == 10.0
    assert nodes["MemoryUsedPercent"]["MemoryUsedPercent"]["p50"] == 12.0
    verdicts = {one["rule"]: one["reason"] for one in document["rules"]}
    assert verdicts["LowGPUUtilization"] == "low_gpu_utilization"
    assert verdicts["StepOutlier"] == verdicts["IOBottleneck"] == "instance_metrics"


def test_metrics_of_an_unknown_type_of_instance_are_left_out_with_a_note(
    watcher: Watcher, aws_environment: Sandbox
) -> None:
    put_job(aws_environment, "odd", "ml.p5.12xlarge", GPUUtilization=50.0, MemoryUtilization=12.0)
    document = json.loads(watcher("profile", "odd", "--json").out)
    assert list(document["nodes"]["algo-1"]) == ["MemoryUsedPercent"]
    assert "how many GPUs ml.p5.12xlarge has is not known" in document["notes"][1]


def test_a_job_without_any_metrics_is_refused(watcher: Watcher, aws_environment: Sandbox) -> None:
    put_job(aws_environment, "silent", "ml.m5.large")
    refused = watcher("profile", "silent")
    assert refused.code == 2
    assert "silent has no profiler output, and CloudWatch has no metrics of its instances yet" in refused.err
