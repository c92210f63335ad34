"""`watcher lineage`: what a job was made of, what it made, and what was made from that, in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.shell.conftest import CommandResult
from watcher.aws import objects
from watcher.sandbox.process import Sandbox

Watcher = Callable[..., CommandResult]
BUCKET = "team"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
ROLE = "arn:aws:iam::123456789012:role/training"


def channel(name: str, uri: str, kind: str = "S3Prefix") -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri}}}


def put(sandbox: Sandbox, name: str, *channels: dict[str, Any], **members: Any) -> None:
    sandbox.control.put_training_job(
        name,
        **{
            "TrainingJobStatus": "Completed",
            "InputDataConfig": list(channels),
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out/"},
            "ModelArtifacts": {"S3ModelArtifacts": f"s3://{BUCKET}/out/{name}/output/model.tar.gz"},
            **members,
        },
    )


def put_object(sandbox: Sandbox, key: str, size: int = 1) -> None:
    with closing(sandbox.client("s3")) as s3:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x" * size)


@pytest.fixture
def family(aws_environment: Sandbox) -> Sandbox:
    """`parent`, whose model `churn` goes on from, whose model and checkpoints `child` goes on from."""
    with closing(aws_environment.client("s3")) as s3:
        s3.create_bucket(Bucket=BUCKET)
    for key, size in (
        ("data/train/1.csv", 1000),
        ("data/train/2.csv", 500),
        ("out/parent/output/model.tar.gz", 10),
        ("out/churn/output/model.tar.gz", 4000),
        ("out/churn/output/output.tar.gz", 300),
        ("checkpoints/churn/epoch-1", 70),
        ("code/sourcedir.tar.gz", 30),
    ):
        put_object(aws_environment, key, size)
    put(aws_environment, "parent", channel("train", f"s3://{BUCKET}/data/train"))
    put(
        aws_environment,
        "churn",
        channel("train", f"s3://{BUCKET}/data/train"),
        channel("validation", f"s3://{BUCKET}/data/validation/"),
        channel("model", f"s3://{BUCKET}/out/parent/output/model.tar.gz"),
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/checkpoints/churn"},
        ExperimentConfig={"ExperimentName": "trees", "TrialName": "deep"},
        HyperParameters={
            "max_depth": "5",
            "api_token": "hunter2",
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": f'"s3://{BUCKET}/code/sourcedir.tar.gz"',
        },
    )
    put(
        aws_environment,
        "child",
        channel("model", f"s3://{BUCKET}/out/churn/output/"),
        channel("start", f"s3://{BUCKET}/checkpoints/churn/epoch-1"),
    )
    put(aws_environment, "churn-2", channel("model", f"s3://{BUCKET}/out/churn-3/output/"))
    return aws_environment


def test_inputs_say_whether_they_exist_how_many_objects_and_how_large(watcher: Watcher, family: Sandbox):
    traced = watcher("lineage", "churn", "--json").json

    train, validation, model = traced["inputs"]
    assert (train["channel"], train["exists"], train["objects"], train["bytes"]) == ("train", True, 2, 1500)
    assert (validation["channel"], validation["exists"], validation["objects"]) == ("validation", False, 0)
    assert (model["objects"], model["bytes"], model["more"]) == (1, 10, False)


def test_the_source_the_model_and_the_checkpoints_are_found_on_s3(watcher: Watcher, family: Sandbox):
    traced = watcher("lineage", "churn", "--json").json

    assert (traced["program"], traced["source"]["bytes"]) == ("train.py", 30)
    assert (traced["image"], traced["role"]) == (IMAGE, ROLE)
    assert (traced["model"]["exists"], traced["model"]["bytes"]) == (True, 4000)
    assert (traced["output"]["objects"], traced["checkpoints"]["bytes"]) == (2, 70)
    assert traced["debug_output"] is None
    assert (traced["experiment"], traced["trial"]) == ("trees", "deep")
    assert traced["hyperparameters"]["max_depth"] == "5"
    assert traced["hidden_hyperparameters"] == ["api_token"]


def test_a_job_is_linked_to_what_it_was_trained_from_and_to_what_was_trained_from_it(
    watcher: Watcher, family: Sandbox
):
    traced = watcher("lineage", "churn", "--json").json
    of_parent = watcher("lineage", "parent", "--json").json

    assert [(each["channel"], each["job"]) for each in traced["trained_from"]] == [("model", "parent")]
    assert traced["trained_from"][0]["arn"].endswith(":training-job/parent")
    trained = [each for each in traced["used_by"] if each["kind"] == "TrainingJob"]
    assert [(each["name"], each["status"], each["how"]) for each in trained] == [
        ("child", "Completed", "channel model"),
        ("child", "Completed", "channel start"),
    ]
    assert [each["name"] for each in of_parent["used_by"]] == ["churn"]


def test_what_else_was_made_from_the_model_comes_from_lineage_tracking(watcher: Watcher, family: Sandbox):
    with closing(family.client("sagemaker")) as sagemaker:
        model = f"s3://{BUCKET}/out/churn/output/model.tar.gz"
        known = sagemaker.list_artifacts(SourceUri=model)["ArtifactSummaries"]
        made = known or [
            sagemaker.create_artifact(ArtifactName="model", ArtifactType="Model", Source={"SourceUri": model})
        ]
        package = sagemaker.create_artifact(
            ArtifactName="churn-package",
            ArtifactType="ModelPackage",
            Source={"SourceUri": "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1"},
        )
        sagemaker.add_association(
            SourceArn=made[0]["ArtifactArn"],
            DestinationArn=package["ArtifactArn"],
            AssociationType="ContributedTo",
        )

    traced = watcher("lineage", "churn", "--json").json

    assert traced["not_read"] == []
    [used] = [each for each in traced["used_by"] if each["kind"] == "ModelPackage"]
    assert (used["name"], used["arn"], used["how"]) == (
        "churn-package",
        package["ArtifactArn"],
        "ContributedTo",
    )
    assert "churn-package (ModelPackage, model as ContributedTo)" in watcher("lineage", "churn").out


def test_a_maker_that_is_gone_is_named_by_the_place(watcher: Watcher, family: Sandbox):
    family.control.delete_training_job("parent")

    [maker] = watcher("lineage", "churn", "--json").json["trained_from"]

    assert (maker["job"], maker["arn"]) == ("parent", None)
    assert "made by parent (SageMaker no longer has this job)" in watcher("lineage", "churn").out


def test_the_tree_has_a_branch_for_each_part(watcher: Watcher, family: Sandbox):
    ran = watcher("lineage", "churn")

    assert ran.code == 0
    lines = [re.sub(r"^[│├└─ ]+", "", line) for line in ran.out.splitlines()]
    for line in (
        "churn (Completed)",
        f"image  {IMAGE}",
        f"source train.py  s3://{BUCKET}/code/sourcedir.tar.gz (1 object, 30 bytes)",
        "max_depth = 5",
        "not shown, may be secrets: api_token",
        f"input train  s3://{BUCKET}/data/train (2 objects, 1.5 kB)",
        f"input validation  s3://{BUCKET}/data/validation/ (nothing there)",
        "made by parent",
        f"model  s3://{BUCKET}/out/churn/output/model.tar.gz (1 object, 4.0 kB)",
        "experiment  trees",
        "child (TrainingJob, Completed, output as channel model)",
    ):
        assert line in lines
    assert "hunter2" not in ran.out


def test_what_a_job_in_progress_has_not_made_yet_is_told_from_what_is_missing(
    watcher: Watcher, family: Sandbox
):
    put(family, "now", channel("train", f"s3://{BUCKET}/gone"), TrainingJobStatus="InProgress")

    out = watcher("lineage", "now").out

    assert f"input train  s3://{BUCKET}/gone (nothing there)\n" in out
    assert f"model  s3://{BUCKET}/out/now/output/model.tar.gz (nothing there yet)\n" in out


def test_what_is_refused_is_said_for_each_item_and_the_rest_is_shown(watcher: Watcher, family: Sandbox):
    for call in ("s3:GET", "sagemaker:Search"):
        family.control.inject_fault(call, "AccessDeniedException", "not authorized")

    traced = watcher("lineage", "churn", "--json").json
    family.control.clear_faults()

    assert {each["exists"] for each in traced["inputs"]} == {None}
    assert "no permission for s3:ListBucket" in traced["model"]["not_read"]
    assert any("what was trained from its output: no permission" in each for each in traced["not_read"])
    assert [maker["job"] for maker in traced["trained_from"]] == ["parent"]


def test_a_large_place_is_not_counted_to_its_end(
    watcher: Watcher, family: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(objects, "MAX_PAGES", 1)
    monkeypatch.setattr(objects, "PAGE_SIZE", 1)

    train, _, _ = watcher("lineage", "churn", "--json").json["inputs"]
    out = watcher("lineage", "churn").out

    assert (train["objects"], train["bytes"], train["more"]) == (1, 1000, True)
    assert "(more than 1 object, more than 1.0 kB)" in out


def test_a_bucket_that_does_not_exist_and_a_file_system_are_told_apart(
    watcher: Watcher, aws_environment: Sandbox
):
    files = {"FileSystemId": "fs-1", "FileSystemType": "EFS", "FileSystemAccessMode": "ro"}
    source = {"FileSystemDataSource": {**files, "DirectoryPath": "/data"}}
    put(
        aws_environment,
        "churn",
        channel("train", "s3://nowhere/data"),
        {"ChannelName": "files", "DataSource": source},
    )

    train, shared = watcher("lineage", "churn", "--json").json["inputs"]

    assert (train["exists"], train["not_read"]) == (False, "")
    assert (shared["uri"], shared["kind"], shared["exists"]) == ("fs-1:/data", "FileSystem", None)


def test_the_requests_are_as_many_as_the_page_says(watcher: Watcher, family: Sandbox):
    family.control.forget_calls()
    watcher("lineage", "churn", "--json")

    calls = family.control.calls()
    assert calls["s3:GET"] == 7  # three channels, source, output, model, checkpoints
    assert calls["sagemaker:DescribeTrainingJob"] == 2  # the job, and the one that made a channel
    assert calls["sagemaker:Search"] == 2


def test_a_job_that_nobody_has_is_a_usage_error(watcher: Watcher, aws_environment: Sandbox):
    ran = watcher("lineage", "churn")

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("watcher: there is no training job churn")
