"""Each response of the sandbox, as raw JSON, fits botocore's own model of SageMaker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.model import Shape
from botocore.session import get_session

from tests.doubles.training_requests import training_request, with_rule
from watcher.sandbox.process import Sandbox

JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "structure": dict,
    "map": dict,
    "list": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float),
}


def misfits(shape: Shape, value: Any, at: str = "") -> Iterator[str]:
    """The places where a value does not fit its shape: types, required and unknown members, enumerations,
    lengths."""
    kind = shape.type_name
    if not isinstance(value, JSON_TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        yield f"{at}: {value!r} is no {kind}"
        return
    if shape.metadata.get("enum") and value not in shape.metadata["enum"]:
        yield f"{at}: {value!r} is not one of {shape.metadata['enum']}"
    if kind in {"string", "list", "map"} and len(value) > shape.metadata.get("max", len(value)):
        yield f"{at}: longer than {shape.metadata['max']}"
    if kind == "structure":
        yield from (f"{at}.{name}: missing" for name in shape.required_members if name not in value)
        for name, member in value.items():
            if name not in shape.members:
                yield f"{at}.{name}: unknown"
            else:
                yield from misfits(shape.members[name], member, f"{at}.{name}")
    elif kind == "list":
        for number, item in enumerate(value):
            yield from misfits(shape.member, item, f"{at}[{number}]")
    elif kind == "map":
        for key, item in value.items():
            yield from misfits(shape.value, item, f"{at}[{key}]")


Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(sandbox: Sandbox) -> Call:
    """Calls an operation, checks the JSON of the response against the model, and returns it."""
    client = sandbox.client("sagemaker")
    bodies: list[bytes] = []
    client.meta.events.register(
        "before-parse.sagemaker", lambda response_dict, **_: bodies.append(response_dict["body"])
    )
    model = get_session().get_service_model("sagemaker")

    def do(operation: str, **request: Any) -> dict[str, Any]:
        bodies.clear()
        client._make_api_call(operation, request)
        answer: dict[str, Any] = json.loads(bodies[-1] or b"{}")
        shape = model.operation_model(operation).output_shape
        if shape is None:
            assert answer == {}
        else:
            assert list(misfits(shape, answer)) == []
        return answer

    return do


@pytest.fixture
def job(sandbox: Sandbox) -> str:
    """A job with every field filled in, placed so that it does not change."""
    members = training_request("churn", **with_rule(num_steps="2"))
    members |= {
        "TrainingJobStatus": "Failed",
        "FailureReason": "AlgorithmError: it went wrong",
        "HyperParameters": {"eta": "0.1"},
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://churn/train"}},
                "ContentType": "text/csv",
            }
        ],
        "Tags": [{"Key": "team", "Value": "growth"}],
        "DebugRuleEvaluationStatuses": [
            {
                "RuleConfigurationName": "LossNotDecreasing",
                "RuleEvaluationStatus": "Error",
                "StatusDetails": "ClientError: No debugging data was saved by the training job.",
            }
        ],
        "ProfilerRuleEvaluationStatuses": [
            {"RuleConfigurationName": "ProfilerReport-1", "RuleEvaluationStatus": "InProgress"}
        ],
    }
    sandbox.control.put_training_job("churn", **members)
    sandbox.control.write_logs("churn", ["a line"], rule="LossNotDecreasing")
    return "churn"


def test_the_checker_finds_values_that_do_not_fit() -> None:
    shape = get_session().get_service_model("sagemaker").shape_for("ListTrainingJobsResponse")
    summary = {
        "TrainingJobName": 1,
        "TrainingJobArn": "arn",
        "CreationTime": "now",
        "TrainingJobStatus": "Off",
    }
    assert list(misfits(shape, {"TrainingJobSummaries": [summary | {"Extra": 1}], "NextToken": True})) == [
        ".TrainingJobSummaries[0].TrainingJobName: 1 is no string",
        ".TrainingJobSummaries[0].CreationTime: 'now' is no timestamp",
        ".TrainingJobSummaries[0].TrainingJobStatus: 'Off' is not one of "
        "['InProgress', 'Completed', 'Failed', 'Stopping', 'Stopped', 'Deleting']",
        ".TrainingJobSummaries[0].Extra: unknown",
        ".NextToken: True is no string",
    ]
    assert list(misfits(shape, {})) == [".TrainingJobSummaries: missing"]


def test_create_describe_and_stop_training_job_fit_the_model(call: Call) -> None:
    request = training_request("new", **with_rule(), ProfilerConfig={"S3OutputPath": "s3://churn/profile"})
    assert call("CreateTrainingJob", **request)["TrainingJobArn"].endswith(":training-job/new")
    answer = call("DescribeTrainingJob", TrainingJobName="new")
    assert answer["ProfilerRuleEvaluationStatuses"][0]["RuleEvaluationStatus"] == "InProgress"
    assert "Tags" not in answer
    call("StopTrainingJob", TrainingJobName="new")
    assert call("DescribeTrainingJob", TrainingJobName="new")["TrainingJobStatus"] in {"Stopping", "Stopped"}


def test_describe_of_a_failed_training_job_fits_the_model(call: Call, job: str) -> None:
    answer = call("DescribeTrainingJob", TrainingJobName=job)
    assert answer["FailureReason"] == "AlgorithmError: it went wrong"


def test_search(call: Call, job: str) -> None:
    (result,) = call("Search", Resource="TrainingJob")["Results"]
    assert result["TrainingJob"]["Tags"] == [{"Key": "team", "Value": "growth"}]


def test_search_in_pages_fits_the_model(call: Call, sandbox: Sandbox) -> None:
    sandbox.control.put_training_jobs({"TrainingJobName": f"job-{number}"} for number in range(25))
    names = []
    following: dict[str, str] = {}
    for size in (10, 10, 5):
        answer = call("Search", Resource="TrainingJob", **following)
        assert len(answer["Results"]) == size
        names += [result["TrainingJob"]["TrainingJobName"] for result in answer["Results"]]
        following = {"NextToken": answer.get("NextToken", "")}
    assert following == {"NextToken": ""}
    assert len(set(names)) == 25


def test_list_training_jobs_fits_the_model(call: Call, job: str) -> None:
    (summary,) = call("ListTrainingJobs", StatusEquals="Failed")["TrainingJobSummaries"]
    assert summary["TrainingJobName"] == job
    assert summary["SecondaryStatus"] == "Failed"


def test_describe_of_a_rules_processing_job_fits_the_model(call: Call, job: str) -> None:
    (summary,) = call("ListProcessingJobs", NameContains="lossnotdecreasing")["ProcessingJobSummaries"]
    answer = call("DescribeProcessingJob", ProcessingJobName=summary["ProcessingJobName"])
    assert answer["ProcessingJobStatus"] == "Failed"
    assert answer["FailureReason"].startswith("ClientError: No debugging data")
    assert answer["Environment"] == {"rule_to_invoke": "LossNotDecreasing", "num_steps": "2"}


def test_stopping_a_processing_job_fits_the_model(call: Call, sandbox: Sandbox, job: str) -> None:
    status = {"RuleConfigurationName": "LossNotDecreasing", "RuleEvaluationStatus": "InProgress"}
    sandbox.control.put_training_job(job, DebugRuleEvaluationStatuses=[status])
    sandbox.control.write_logs(job, ["a line"], rule="LossNotDecreasing")
    (summary,) = call("ListProcessingJobs")["ProcessingJobSummaries"]
    call("StopProcessingJob", ProcessingJobName=summary["ProcessingJobName"])
    answer = call("DescribeProcessingJob", ProcessingJobName=summary["ProcessingJobName"])
    assert answer["ProcessingJobStatus"] == "Stopped"


def test_list_tags_fits_the_model(call: Call, job: str) -> None:
    arn = call("DescribeTrainingJob", TrainingJobName=job)["TrainingJobArn"]
    call("AddTags", ResourceArn=arn, Tags=[{"Key": "stage", "Value": "test"}])
    call("DeleteTags", ResourceArn=arn, TagKeys=["team"])
    assert call("ListTags", ResourceArn=arn)["Tags"] == [{"Key": "stage", "Value": "test"}]
    (result,) = call("Search", Resource="TrainingJob")["Results"]
    assert result["TrainingJob"]["Tags"] == [{"Key": "stage", "Value": "test"}]


def test_experiments_fit_the_model(call: Call, job: str) -> None:
    call("CreateExperiment", ExperimentName="e", DisplayName="E", Description="d")
    call("CreateTrial", TrialName="t", ExperimentName="e")
    call("CreateTrialComponent", TrialComponentName="c", Parameters={"eta": {"NumberValue": 0.1}})
    for name in ("c", f"{job}-aws-training-job"):
        call("AssociateTrialComponent", TrialComponentName=name, TrialName="t")
    call("UpdateExperiment", ExperimentName="e", DisplayName="F")
    call("UpdateTrial", TrialName="t", DisplayName="T")
    call("UpdateTrialComponent", TrialComponentName="c", Status={"PrimaryStatus": "Completed"})
    assert call("DescribeExperiment", ExperimentName="e")["DisplayName"] == "F"
    assert call("DescribeTrial", TrialName="t")["ExperimentName"] == "e"
    component = call("DescribeTrialComponent", TrialComponentName=f"{job}-aws-training-job")
    assert component["Status"]["PrimaryStatus"] == "Failed"
    assert len(call("ListExperiments")["ExperimentSummaries"]) == 1
    assert len(call("ListTrials", ExperimentName="e")["TrialSummaries"]) == 1
    assert len(call("ListTrialComponents", TrialName="t")["TrialComponentSummaries"]) == 2
    for resource, count in (("Experiment", 1), ("ExperimentTrial", 1), ("ExperimentTrialComponent", 3)):
        assert len(call("Search", Resource=resource)["Results"]) == count
    for name in ("c", f"{job}-aws-training-job"):
        call("DisassociateTrialComponent", TrialComponentName=name, TrialName="t")
    call("DeleteTrialComponent", TrialComponentName="c")
    call("DeleteTrial", TrialName="t")
    call("DeleteExperiment", ExperimentName="e")


def test_lineages_fit_the_model(call: Call, job: str) -> None:
    source = {"SourceUri": "s3://code"}
    artifact = call("CreateArtifact", ArtifactName="code", Source=source, ArtifactType="Code")["ArtifactArn"]
    action = call("CreateAction", ActionName="a", Source=source, ActionType="Approval")["ActionArn"]
    call("CreateContext", ContextName="c", Source=source, ContextType="Project")
    call("AddAssociation", SourceArn=artifact, DestinationArn=action, AssociationType="ContributedTo")
    call("UpdateArtifact", ArtifactArn=artifact, Properties={"a": "b"})
    call("DescribeArtifact", ArtifactArn=artifact)
    call("DescribeAction", ActionName="a")
    call("DescribeContext", ContextName="c")
    assert len(call("ListArtifacts", SourceUri="s3://churn/train")["ArtifactSummaries"]) == 1
    assert len(call("ListActions")["ActionSummaries"]) == len(call("ListContexts")["ContextSummaries"]) == 1
    assert len(call("ListAssociations")["AssociationSummaries"]) == 3
    answer = call("QueryLineage", StartArns=[artifact], IncludeEdges=True)
    assert [len(answer["Vertices"]), len(answer["Edges"])] == [2, 1]
    call("DeleteAssociation", SourceArn=artifact, DestinationArn=action)
    call("DeleteArtifact", ArtifactArn=artifact)
    call("DeleteAction", ActionName="a")
    call("DeleteContext", ContextName="c")
