"""Lineage on the sandbox, as boto3 and the SageMaker SDK see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.doubles.training_requests import training_request
from tests.waiting import WAIT_LIMIT_S
from watcher.sandbox.process import Sandbox

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.3-1"


def completed(sandbox: Sandbox, name: str, data: str, **members: Any) -> str:
    """A completed job on this data. Returns the ARN of its trial component."""
    channel = {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}},
    }
    model = {"S3ModelArtifacts": f"s3://churn/out/{name}/output/model.tar.gz"}
    request = training_request(name, InputDataConfig=[channel], **members)
    sandbox.control.put_training_job(name, **request, ModelArtifacts=model, TrainingJobStatus="Completed")
    component = sandbox.client("sagemaker").describe_trial_component(
        TrialComponentName=f"{name}-aws-training-job"
    )
    return str(component["TrialComponentArn"])


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_image_and_data_contribute_to_a_job_and_it_produces_its_model(sandbox: Sandbox) -> None:
    component = completed(sandbox, "first", "s3://churn/train", CheckpointConfig={"S3Uri": "s3://churn/ckpt"})
    sagemaker = sandbox.client("sagemaker")

    def ends(side: str, **request: str) -> set[tuple[str, str, str]]:
        found = sagemaker.list_associations(**request)["AssociationSummaries"]
        return {
            (
                each["AssociationType"],
                each[f"{side}Type"],
                sagemaker.describe_artifact(ArtifactArn=each[f"{side}Arn"])["Source"]["SourceUri"],
            )
            for each in found
        }

    assert ends("Source", DestinationArn=component) == {
        ("ContributedTo", "Image", IMAGE),
        ("ContributedTo", "DataSet", "s3://churn/train"),
        ("ContributedTo", "Checkpoint", "s3://churn/ckpt"),
    }
    model = ("Produced", "Model", "s3://churn/out/first/output/model.tar.gz")
    assert ends("Destination", SourceArn=component) == {model}


def test_jobs_on_the_same_data_share_its_artifact(sandbox: Sandbox) -> None:
    completed(sandbox, "first", "s3://churn/train")
    completed(sandbox, "second", "s3://churn/train")
    sagemaker = sandbox.client("sagemaker")
    (data,) = sagemaker.list_artifacts(ArtifactType="DataSet")["ArtifactSummaries"]
    assert data["Source"]["SourceUri"] == "s3://churn/train"
    users = sagemaker.list_associations(SourceArn=data["ArtifactArn"])["AssociationSummaries"]
    assert {each["DestinationType"] for each in users} == {"SageMakerTrainingJob"}
    assert {each["DestinationName"] for each in users} == {
        "first-aws-training-job",
        "second-aws-training-job",
    }
    (again,) = (sagemaker.list_artifacts(SourceUri=uri)["ArtifactSummaries"] for uri in ["s3://churn/train"])
    assert [each["ArtifactArn"] for each in again] == [data["ArtifactArn"]]


def test_a_job_in_progress_has_no_model_yet_and_a_deleted_one_leaves_its_lineage(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    sagemaker.create_training_job(**training_request("runs"))
    assert sagemaker.list_artifacts(ArtifactType="Model")["ArtifactSummaries"] == []
    component = completed(sandbox, "gone", "s3://churn/train")
    before = sagemaker.list_associations(DestinationArn=component)["AssociationSummaries"]
    sagemaker.delete_training_job(TrainingJobName="gone")
    assert sagemaker.list_associations(DestinationArn=component)["AssociationSummaries"] == before


def test_a_query_follows_the_lineage_up_and_down_as_far_as_it_is_asked(sandbox: Sandbox) -> None:
    completed(sandbox, "first", "s3://churn/train")
    completed(sandbox, "second", "s3://churn/out/first/output/model.tar.gz")
    sagemaker = sandbox.client("sagemaker")
    (data,) = sagemaker.list_artifacts(SourceUri="s3://churn/train")["ArtifactSummaries"]
    second = sagemaker.list_artifacts(SourceUri="s3://churn/out/second/output/model.tar.gz")
    model = second["ArtifactSummaries"][0]["ArtifactArn"]

    def query(start: str, **request: Any) -> list[str]:
        answer = sagemaker.query_lineage(StartArns=[start], IncludeEdges=False, **request)
        return [vertex.get("Type", "") for vertex in answer["Vertices"]]

    assert query(data["ArtifactArn"], Direction="Descendants", MaxDepth=1) == ["TrainingJob"]
    # The first model is also the data of the second job, but an artifact has one type: that of its origin.
    assert query(data["ArtifactArn"], Direction="Descendants") == [
        "TrainingJob",
        "Model",
        "TrainingJob",
        "Model",
    ]
    assert query(model, Direction="Ascendants", Filters={"Types": ["TrainingJob"]}) == ["TrainingJob"] * 2
    assert query(model, Direction="Descendants") == []
    answer = sagemaker.query_lineage(
        StartArns=[model],
        Direction="Ascendants",
        IncludeEdges=True,
        Filters={"LineageTypes": ["Artifact"], "Types": ["Image"]},
    )
    assert {edge["AssociationType"] for edge in answer["Edges"]} == {"ContributedTo", "Produced"}
    known = {vertex["Arn"] for vertex in answer["Vertices"]}
    assert all({edge["SourceArn"], edge["DestinationArn"]} <= known for edge in answer["Edges"])


def test_entities_are_created_changed_associated_and_deleted(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    source = {
        "SourceUri": "s3://churn/code",
        "SourceTypes": [{"SourceIdType": "S3ETag", "Value": "1"}],
    }
    code = sagemaker.create_artifact(
        ArtifactName="code.tar.gz",
        Source=source,
        ArtifactType="Code",
        Properties={"branch": "main", "old": "x"},
    )["ArtifactArn"]
    assert sagemaker.create_artifact(Source=source, ArtifactType="Code")["ArtifactArn"] == code
    sagemaker.update_artifact(ArtifactArn=code, Properties={"commit": "abc"}, PropertiesToRemove=["old"])
    assert sagemaker.describe_artifact(ArtifactArn=code)["Properties"] == {"branch": "main", "commit": "abc"}
    where = {"SourceUri": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/churn"}
    context = sagemaker.create_context(ContextName="churn", Source=where, ContextType="Endpoint")[
        "ContextArn"
    ]
    action = sagemaker.create_action(
        ActionName="deploy", Source=where, ActionType="ModelDeployment", Status="InProgress"
    )["ActionArn"]
    sagemaker.update_action(ActionName="deploy", Status="Completed")
    assert sagemaker.describe_action(ActionName="deploy")["Status"] == "Completed"
    assert (
        sagemaker.list_contexts(SourceUri=where["SourceUri"])["ContextSummaries"][0]["ContextArn"] == context
    )
    pair = {"SourceArn": code, "DestinationArn": action}
    sagemaker.add_association(**pair, AssociationType="ContributedTo")
    code_, message = refusal(lambda: sagemaker.add_association(**pair))
    assert (code_, "already exists" in message) == ("ValidationException", True)
    assert refusal(lambda: sagemaker.delete_artifact(ArtifactArn=code))[0] == "ValidationException"
    sagemaker.delete_association(**pair)
    sagemaker.delete_artifact(Source=source)
    sagemaker.delete_action(ActionName="deploy")
    sagemaker.delete_context(ContextName="churn")
    assert sagemaker.list_actions()["ActionSummaries"] == []
    for call in (
        lambda: sagemaker.describe_artifact(ArtifactArn=code),
        lambda: sagemaker.describe_context(ContextName="churn"),
        lambda: sagemaker.delete_association(**pair),
        lambda: sagemaker.list_associations(SourceArn=code),
        lambda: sagemaker.query_lineage(StartArns=[code]),
    ):
        with pytest.raises(sagemaker.exceptions.ResourceNotFound):
            call()


NOTEBOOK = """
import json
import jsonschema
# The SDK validates its own schema for each setting that it looks up, which takes eight seconds in total.
jsonschema.Draft202012Validator.check_schema = lambda *_, **__: None
import sagemaker
from sagemaker.analytics import ArtifactAnalytics
from sagemaker.lineage.action import Action
from sagemaker.lineage.artifact import Artifact, ModelArtifact
from sagemaker.lineage.association import Association
from sagemaker.lineage.context import Context
from sagemaker.lineage.lineage_trial_component import LineageTrialComponent
from sagemaker.lineage.query import LineageEntityEnum, LineageFilter, LineageQuery, LineageQueryDirectionEnum
from sagemaker.lineage.visualizer import LineageTableVisualizer

session = sagemaker.Session(default_bucket="notebook")
out = {}
table = LineageTableVisualizer(session).show(training_job_name="first")
out["columns"] = list(table.columns)
out["table"] = table.values.tolist()

(data,) = Artifact.list(artifact_type="DataSet", sagemaker_session=session)
out["used by"] = [
    each.destination_name
    for each in Association.list(source_arn=data.artifact_arn, sagemaker_session=session)
]
(model,) = Artifact.list(artifact_type="Model", sagemaker_session=session)
loaded = ModelArtifact.load(model.artifact_arn, sagemaker_session=session)
out["training jobs"] = [arn.split("/")[-1] for arn in loaded.training_job_arns()]
component = LineageTrialComponent.load("first-aws-training-job", sagemaker_session=session)
out["data sets"] = [each.source.source_uri for each in component.dataset_artifacts()]
out["models"] = [each.source.source_uri for each in component.models()]
answer = LineageQuery(session).query(
    start_arns=[model.artifact_arn],
    query_filter=LineageFilter(entities=[LineageEntityEnum.ARTIFACT]),
    direction=LineageQueryDirectionEnum.ASCENDANTS,
    include_edges=False,
)
out["artifacts"] = sorted(each.lineage_source for each in answer.vertices)
out["uris"] = ArtifactAnalytics(sagemaker_session=session).dataframe()["ArtifactSourceUri"].tolist()

context = Context.create(
    context_name="churn", source_uri="s3://churn", context_type="Project", sagemaker_session=session
)
action = Action.create(
    action_name="review", source_uri="s3://churn/review", action_type="Approval", status="Completed",
    sagemaker_session=session,
)
notes = Artifact.create(
    artifact_name="notes", source_uri="s3://churn/notes", artifact_type="Notes", sagemaker_session=session
)
Association.create(
    source_arn=notes.artifact_arn, destination_arn=action.action_arn, association_type="ContributedTo",
    sagemaker_session=session,
)
Association.create(
    source_arn=context.context_arn, destination_arn=notes.artifact_arn, sagemaker_session=session
)
shown = LineageTableVisualizer(session).show(artifact_arn=notes.artifact_arn)
out["notes"] = shown[["Name/Source", "Direction", "Association Type", "Lineage Type"]].values.tolist()
notes.properties = {"by": "me"}
notes.save()
out["saved"] = Artifact.load(notes.artifact_arn, sagemaker_session=session).properties
notes.delete(disassociate=True)
action.delete(disassociate=True)
context.delete(disassociate=True)
out["left"] = len(list(Artifact.list(artifact_type="Notes", sagemaker_session=session)))
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    """The output of the notebook, on one completed job."""
    with Sandbox.start(pace=0.02) as sandbox:
        completed(sandbox, "first", "s3://churn/train")
        done = subprocess.run(
            [sys.executable, "-c", NOTEBOOK],
            env={**os.environ, **sandbox.env},
            capture_output=True,
            text=True,
            timeout=WAIT_LIMIT_S,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_sdks_table_shows_inputs_and_outputs_of_a_job(notebook: dict[str, Any]) -> None:
    assert notebook["columns"] == ["Name/Source", "Direction", "Type", "Association Type", "Lineage Type"]
    assert sorted(notebook["table"]) == [
        ["68331..." + IMAGE[-40:], "Input", "Image", "ContributedTo", "artifact"],
        ["s3://churn/out/first/output/model.tar.gz", "Output", "Model", "Produced", "artifact"],
        ["s3://churn/train", "Input", "DataSet", "ContributedTo", "artifact"],
    ]


def test_the_sdk_walks_from_data_to_models_and_back(notebook: dict[str, Any]) -> None:
    assert notebook["used by"] == ["first-aws-training-job"]
    assert notebook["data sets"] == ["s3://churn/train"]
    assert notebook["models"] == ["s3://churn/out/first/output/model.tar.gz"]
    assert notebook["training jobs"] == ["first"]
    assert notebook["artifacts"] == ["DataSet", "Image"]
    assert len(notebook["uris"]) == 3


def test_the_sdk_creates_associates_and_deletes_entities(notebook: dict[str, Any]) -> None:
    assert sorted(notebook["notes"]) == [
        ["churn", "Input", "AssociatedWith", "context"],
        ["review", "Output", "ContributedTo", "action"],
    ]
    assert notebook["saved"] == {"by": "me"}
    assert notebook["left"] == 0
