"""Experiments on the sandbox, as boto3, the SageMaker SDK and smexperiments see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.doubles.training_requests import training_request, with_rule
from tests.waiting import WAIT_LIMIT_S
from watcher.sandbox.process import Sandbox

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def finished(sandbox: Sandbox, name: str, auc: list[float], **members: Any) -> None:
    """A completed job whose validation:auc had these values, one a minute."""
    request = training_request(name, **members)
    model = {"S3ModelArtifacts": f"s3://churn/out/{name}/output/model.tar.gz"}
    sandbox.control.put_training_job(name, **request, ModelArtifacts=model, TrainingJobStatus="Completed")
    now = time.time()
    sandbox.control.put_metrics(
        name, {"validation:auc": [(now - 60 * (len(auc) - n), value) for n, value in enumerate(auc)]}
    )


def component(sandbox: Sandbox, job: str) -> dict[str, Any]:
    answer: dict[str, Any] = sandbox.client("sagemaker").describe_trial_component(
        TrialComponentName=f"{job}-aws-training-job"
    )
    return answer


def in_trial(trial: str, **more: str) -> dict[str, Any]:
    return {"ExperimentConfig": {"ExperimentName": "churn", "TrialName": trial, **more}}


# -- the components of jobs ---------------------------------------------------------------------------


def test_a_training_job_has_a_trial_component_as_soon_as_it_is_created(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    channel = {
        "ChannelName": "train",
        "ContentType": "text/csv",
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://churn/train"}},
    }
    sagemaker.create_training_job(
        **training_request(
            "Fresh",
            HyperParameters={"eta": "0.1", "objective": "binary:logistic"},
            InputDataConfig=[channel],
            **with_rule(),
        )
    )
    record = component(sandbox, "Fresh")
    assert record["DisplayName"] == "Fresh-aws-training-job"
    assert record["Source"] == {
        "SourceArn": f"{PREFIX}:training-job/Fresh",
        "SourceType": "SageMakerTrainingJob",
    }
    assert record["Status"]["PrimaryStatus"] == "InProgress"
    assert record["Parameters"] == {
        "eta": {"NumberValue": 0.1},
        "objective": {"StringValue": "binary:logistic"},
        "SageMaker.ImageUri": {
            "StringValue": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.3-1"
        },
        "SageMaker.InstanceCount": {"NumberValue": 1.0},
        "SageMaker.InstanceType": {"StringValue": "ml.m5.xlarge"},
        "SageMaker.VolumeSizeInGB": {"NumberValue": 30.0},
    }
    assert record["InputArtifacts"] == {"train": {"MediaType": "text/csv", "Value": "s3://churn/train"}}
    assert record["OutputArtifacts"] == {"SageMaker.DebugHookOutput": {"Value": "s3://churn/debug"}}


def test_a_component_follows_its_job_to_the_end(sandbox: Sandbox) -> None:
    finished(sandbox, "done", [0.5, 1.0, 0.75])
    record = component(sandbox, "done")
    assert record["Status"] == {
        "PrimaryStatus": "Completed",
        "Message": "Status: Completed, secondary status: Completed, failure reason: .",
    }
    assert record["EndTime"] >= record["CreationTime"]
    assert record["OutputArtifacts"] == {
        "SageMaker.ModelArtifact": {"Value": "s3://churn/out/done/output/model.tar.gz"}
    }
    (metric,) = record["Metrics"]
    assert metric.pop("TimeStamp")
    assert metric == {
        "MetricName": "validation:auc",
        "SourceArn": f"{PREFIX}:training-job/done",
        "Min": 0.5,
        "Max": 1.0,
        "Avg": 0.75,
        "StdDev": pytest.approx(0.2041, abs=1e-4),
        "Last": 0.75,
        "Count": 3,
    }


def test_the_processing_job_of_a_rule_has_a_component_too(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("ruled", **with_rule())
    status = {"RuleConfigurationName": "LossNotDecreasing", "RuleEvaluationStatus": "NoIssuesFound"}
    sandbox.control.put_training_job("ruled", DebugRuleEvaluationStatuses=[status])
    sandbox.control.write_logs("ruled", ["a line"], rule="LossNotDecreasing")
    sagemaker = sandbox.client("sagemaker")
    (job,) = sagemaker.list_processing_jobs()["ProcessingJobSummaries"]
    (found,) = sagemaker.list_trial_components(SourceArn=job["ProcessingJobArn"])["TrialComponentSummaries"]
    assert found["TrialComponentName"] == f"{job['ProcessingJobName']}-aws-processing-job"
    assert found["TrialComponentSource"]["SourceType"] == "SageMakerProcessingJob"
    assert found["Status"]["PrimaryStatus"] == "Completed"


def test_a_job_joins_the_trial_of_its_experiment_config(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    sagemaker.create_experiment(ExperimentName="churn")
    sagemaker.create_trial(TrialName="deep", ExperimentName="churn")
    config = in_trial("deep", TrialComponentDisplayName="Training")
    sagemaker.create_training_job(**training_request("joins", **config))
    (found,) = sagemaker.list_trial_components(ExperimentName="churn")["TrialComponentSummaries"]
    assert (found["TrialComponentName"], found["DisplayName"]) == ("joins-aws-training-job", "Training")


def test_a_job_of_an_experiment_that_does_not_exist_is_refused(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    request = training_request("lost", **in_trial("deep"))
    missing = ("ResourceNotFound", "Experiment 'churn' does not exist.")
    assert refusal(lambda: sagemaker.create_training_job(**request)) == missing
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_a_deleted_job_leaves_its_component_and_a_new_one_of_its_name_starts_afresh(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    finished(sandbox, "again", [0.5, 0.75], **in_trial("deep"))
    before = component(sandbox, "again")
    sagemaker.delete_training_job(TrainingJobName="again")
    after = component(sandbox, "again")
    assert {**before, "ResponseMetadata": 0} == {**after, "ResponseMetadata": 0}
    sagemaker.create_training_job(**training_request("again"))
    assert component(sandbox, "again")["Metrics"] == []
    assert sagemaker.list_trial_components(TrialName="deep")["TrialComponentSummaries"] == []


# -- experiments, trials and components ---------------------------------------------------------------


def test_names_are_unique_and_what_does_not_exist_is_a_resource_not_found(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    sagemaker.create_experiment(ExperimentName="churn", DisplayName="Churn", Description="who leaves")
    code, message = refusal(lambda: sagemaker.create_experiment(ExperimentName="churn"))
    assert code == "ValidationException"
    assert "already exists" in message
    for call in (
        lambda: sagemaker.describe_experiment(ExperimentName="none"),
        lambda: sagemaker.delete_experiment(ExperimentName="none"),
        lambda: sagemaker.update_experiment(ExperimentName="none", DisplayName="x"),
        lambda: sagemaker.create_trial(TrialName="deep", ExperimentName="none"),
        lambda: sagemaker.describe_trial(TrialName="none"),
        lambda: sagemaker.list_trials(ExperimentName="none"),
        lambda: sagemaker.describe_trial_component(TrialComponentName="none"),
        lambda: sagemaker.associate_trial_component(TrialComponentName="none", TrialName="none"),
        lambda: sagemaker.list_trial_components(TrialName="none"),
    ):
        with pytest.raises(sagemaker.exceptions.ResourceNotFound, match="'none' does not exist"):
            call()


def test_whole_records_come_back_and_updates_change_them(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    sagemaker.create_experiment(ExperimentName="churn", Description="who leaves")
    sagemaker.update_experiment(ExperimentName="churn", DisplayName="Churn")
    experiment = sagemaker.describe_experiment(ExperimentName="churn")
    assert (experiment["DisplayName"], experiment["Description"]) == ("Churn", "who leaves")
    sagemaker.create_trial(TrialName="deep", ExperimentName="churn", DisplayName="Deep")
    sagemaker.update_trial(TrialName="deep", DisplayName="Deeper")
    assert sagemaker.describe_trial(TrialName="deep")["DisplayName"] == "Deeper"
    parameters = {"eta": {"NumberValue": 0.1}, "depth": {"NumberValue": 3}}
    sagemaker.create_trial_component(TrialComponentName="prepare", Parameters=parameters)
    sagemaker.update_trial_component(
        TrialComponentName="prepare",
        Status={"PrimaryStatus": "Completed"},
        Parameters={"eta": {"NumberValue": 0.2}},
        ParametersToRemove=["depth"],
        OutputArtifacts={"data": {"Value": "s3://churn/data"}},
    )
    record = sagemaker.describe_trial_component(TrialComponentName="prepare")
    assert record["Parameters"] == {"eta": {"NumberValue": 0.2}}
    assert record["OutputArtifacts"] == {"data": {"Value": "s3://churn/data"}}
    assert record["Status"] == {"PrimaryStatus": "Completed"}


def test_what_is_added_to_the_component_of_a_job_stays_beside_what_the_job_gives(sandbox: Sandbox) -> None:
    finished(sandbox, "done", [0.5], HyperParameters={"eta": "0.1", "depth": "3"})
    sandbox.client("sagemaker").update_trial_component(
        TrialComponentName="done-aws-training-job",
        DisplayName="Best",
        Status={"PrimaryStatus": "InProgress"},
        Parameters={"seed": {"NumberValue": 7}},
        ParametersToRemove=["depth"],
    )
    record = component(sandbox, "done")
    assert record["DisplayName"] == "Best"
    assert record["Status"]["PrimaryStatus"] == "Completed"
    assert record["Parameters"]["seed"] == {"NumberValue": 7}
    assert record["Parameters"]["eta"] == {"NumberValue": 0.1}
    assert "depth" not in record["Parameters"]


def test_a_component_can_belong_to_several_trials(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    finished(sandbox, "done", [0.5], **in_trial("deep"))
    sagemaker.create_trial(TrialName="wide", ExperimentName="churn")
    name = "done-aws-training-job"
    sagemaker.associate_trial_component(TrialComponentName=name, TrialName="wide")
    trials = sagemaker.list_trials(TrialComponentName=name)["TrialSummaries"]
    assert [trial["TrialName"] for trial in trials] == ["wide", "deep"]
    (found,) = sagemaker.search(Resource="ExperimentTrialComponent")["Results"]
    assert found["TrialComponent"]["Parents"] == [
        {"TrialName": "deep", "ExperimentName": "churn"},
        {"TrialName": "wide", "ExperimentName": "churn"},
    ]


def test_what_is_linked_cannot_be_deleted_and_a_clean_up_works_from_the_inside_out(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    finished(sandbox, "done", [0.5], **in_trial("deep"))
    name = "done-aws-training-job"
    for call in (
        lambda: sagemaker.delete_experiment(ExperimentName="churn"),
        lambda: sagemaker.delete_trial(TrialName="deep"),
        lambda: sagemaker.delete_trial_component(TrialComponentName=name),
    ):
        code, message = refusal(call)
        assert (code, "is linked to 1 or more" in message) == ("ValidationException", True)
    sagemaker.disassociate_trial_component(TrialComponentName=name, TrialName="deep")
    sagemaker.delete_trial_component(TrialComponentName=name)
    sagemaker.delete_trial(TrialName="deep")
    sagemaker.delete_experiment(ExperimentName="churn")
    assert sagemaker.list_trial_components()["TrialComponentSummaries"] == []
    assert sagemaker.list_experiments()["ExperimentSummaries"] == []


def test_lists_show_the_newest_first_and_pages_skip_nothing_when_something_is_deleted(
    sandbox: Sandbox,
) -> None:
    sagemaker = sandbox.client("sagemaker")
    for number in range(5):
        sagemaker.create_experiment(ExperimentName=f"e{number}")
    first = sagemaker.list_experiments(MaxResults=2)
    sagemaker.delete_experiment(ExperimentName="e4")
    second = sagemaker.list_experiments(MaxResults=10, NextToken=first["NextToken"])
    names = [each["ExperimentName"] for page in (first, second) for each in page["ExperimentSummaries"]]
    assert names == ["e4", "e3", "e2", "e1", "e0"]


def test_tags_of_an_experiment_can_be_listed_changed_and_searched(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    arn = sagemaker.create_experiment(ExperimentName="churn", Tags=[{"Key": "team", "Value": "growth"}])[
        "ExperimentArn"
    ]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "stage", "Value": "test"}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "stage", "Value": "test"}]
    filters = [{"Name": "Tags.stage", "Operator": "Equals", "Value": "test"}]
    (found,) = sagemaker.search(Resource="Experiment", SearchExpression={"Filters": filters})["Results"]
    assert found["Experiment"]["ExperimentName"] == "churn"


# -- search and metrics -------------------------------------------------------------------------------


def test_components_and_jobs_are_found_and_ordered_by_their_metrics(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    for name, auc in (("a", [0.9, 0.7]), ("b", [0.8, 0.8]), ("c", [0.6, 0.5])):
        finished(sandbox, name, auc, HyperParameters={"depth": str(len(name))}, **in_trial(f"trial-{name}"))
    sandbox.control.put_training_job("apart", TrainingJobStatus="Completed")

    def components(*filters: tuple[str, str, str], **request: str) -> list[str]:
        conditions = [{"Name": name, "Operator": how, "Value": value} for name, how, value in filters]
        answer = sagemaker.search(
            Resource="ExperimentTrialComponent", SearchExpression={"Filters": conditions}, **request
        )
        return [found["TrialComponent"]["TrialComponentName"][0] for found in answer["Results"]]

    inside = ("Parents.ExperimentName", "Equals", "churn")
    assert components(inside, SortBy="metrics.validation:auc.max") == ["a", "b", "c"]
    assert components(inside, SortBy="Metrics.validation:auc.Last") == ["b", "a", "c"]
    assert components(("Metrics.validation:auc.Min", "GreaterThan", "0.65"), SortBy="DisplayName") == [
        "b",
        "a",
    ]
    assert components(("Parents.TrialName", "Equals", "trial-c")) == ["c"]
    assert sorted(components(("Parameters.depth", "LessThan", "2"))) == ["a", "b", "c"]
    assert components(("Parameters.SageMaker.InstanceType", "Equals", "ml.m5.xlarge"), inside) != []
    filters = [{"Name": "Metrics.validation:auc", "Operator": "GreaterThan", "Value": "0.6"}]
    jobs = sagemaker.search(
        Resource="TrainingJob", SearchExpression={"Filters": filters}, SortBy="Metrics.validation:auc"
    )["Results"]
    assert [found["TrainingJob"]["TrainingJobName"] for found in jobs] == ["b", "a"]


def test_metrics_that_a_client_puts_are_summed_up_and_come_back_as_series(sandbox: Sandbox) -> None:
    sagemaker, metrics = sandbox.client("sagemaker"), sandbox.client("sagemaker-metrics")
    arn = sagemaker.create_trial_component(TrialComponentName="mine")["TrialComponentArn"]
    data: list[dict[str, Any]] = [
        {"MetricName": "loss", "Timestamp": 1_800_000_000 + 30 * n, "Value": float(n)} for n in range(4)
    ]
    assert "Errors" not in metrics.batch_put_metrics(TrialComponentName="mine", MetricData=data)
    metrics.batch_put_metrics(TrialComponentName="mine", MetricData=[{**data[0], "Value": 9.0, "Step": 3}])
    (summary,) = sagemaker.describe_trial_component(TrialComponentName="mine")["Metrics"]
    assert (summary["Count"], summary["Max"], summary["Min"], summary["Last"]) == (5, 9.0, 0.0, 3.0)
    query = {"MetricName": "loss", "ResourceArn": arn, "MetricStat": "Max"}
    by_minute, by_step, missing = metrics.batch_get_metrics(
        MetricQueries=[
            {**query, "Period": "OneMinute", "XAxisType": "Timestamp"},
            {**query, "Period": "IterationNumber", "XAxisType": "IterationNumber"},
            {**query, "ResourceArn": "none", "Period": "OneMinute", "XAxisType": "Timestamp"},
        ]
    )["MetricQueryResults"]
    assert by_minute["XAxisValues"] == [1_800_000_000, 1_800_000_060]
    assert by_minute["MetricValues"] == [9.0, 3.0]
    assert (by_step["XAxisValues"], by_step["MetricValues"]) == ([3], [9.0])
    assert missing["Status"] == "ValidationError"
    refused = metrics.batch_put_metrics(TrialComponentName="none", MetricData=data[:1])
    assert refused["Errors"] == [{"Code": "VALIDATION_ERROR", "MetricIndex": 0}]


# -- the SDKs -----------------------------------------------------------------------------------------

NOTEBOOK = """
import json, os, sys, tempfile, time
import boto3, jsonschema
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.02))  # the SDKs pause between deletions
# The SDK validates its own schema for each setting that it looks up, which takes eight seconds in total.
jsonschema.Draft202012Validator.check_schema = lambda *_, **__: None
import sagemaker
from sagemaker.analytics import ExperimentAnalytics
from sagemaker.experiments import Run, load_run, list_runs

boto3.client("s3").create_bucket(Bucket="notebook")
session = sagemaker.Session(default_bucket="notebook")
out = {}

frame = ExperimentAnalytics(
    experiment_name="churn", sagemaker_session=session, sort_by="metrics.validation:auc.max",
    sort_order="Descending", metric_names=["validation:auc"], parameter_names=["depth"],
).dataframe()
out["columns"] = list(frame.columns)
out["best first"] = frame["validation:auc - Max"].tolist()
out["depths"] = frame["depth"].tolist()
some = ExperimentAnalytics(
    sagemaker_session=session,
    search_expression={"Filters": [{"Name": "Parents.TrialName", "Operator": "Equals", "Value": "trial-2"}]},
).dataframe()
out["one trial"] = some["TrialComponentName"].tolist()

with Run(experiment_name="by-hand", run_name="first", sagemaker_session=session) as run:
    run.log_parameter("eta", 0.1)
    run.log_parameters({"objective": "reg:squarederror", "depth": 3})
    for step in range(3):
        run.log_metric("loss", 1.0 / (step + 1), step=step)
    run.log_metric("score", 0.5)
    run.log_artifact("data", "s3://notebook/data", is_output=False)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("notes"), file.flush()
        run.log_file(file.name, name="notes")
    run.log_confusion_matrix([0, 1, 1], [0, 1, 0], title="confusion")
with load_run(experiment_name="by-hand", run_name="first", sagemaker_session=session) as run:
    run.log_metric("loss", 0.25, step=3)
runs = list_runs(experiment_name="by-hand", sagemaker_session=session)
component = boto3.client("sagemaker").describe_trial_component(TrialComponentName="by-hand-first")
out["runs"] = [each.run_name for each in runs]
out["run"] = {
    "parameters": sorted(component["Parameters"]),
    "status": component["Status"]["PrimaryStatus"],
    "inputs": component["InputArtifacts"],
    "outputs": sorted(component["OutputArtifacts"]),
    "loss": [each["Count"] for each in component["Metrics"] if each["MetricName"] == "loss"],
}

from smexperiments.experiment import Experiment
from smexperiments.search_expression import Filter, Operator, SearchExpression
from smexperiments.tracker import Tracker
from smexperiments.trial import Trial
from smexperiments.trial_component import TrialComponent

experiment = Experiment.create(experiment_name="classic", description="as before")
trial = Trial.create(trial_name="classic-1", experiment_name="classic")
with Tracker.create(display_name="Preprocessing", artifact_bucket="notebook") as tracker:
    tracker.log_parameters({"mean": 0.13, "split": "random"})
    tracker.log_input(name="raw", media_type="s3/uri", value="s3://notebook/raw")
    tracker.log_output(name="clean", value="s3://notebook/clean")
trial.add_trial_component(tracker.trial_component)
trial.add_trial_component("run-1-aws-training-job")
out["classic"] = [each.display_name for each in trial.list_trial_components()]
expression = SearchExpression(filters=[Filter("Parameters.mean", Operator.GREATER_THAN, "0.1")])
out["found"] = [each.display_name for each in TrialComponent.search(search_expression=expression)]
loaded = Tracker.load(tracker.trial_component.trial_component_name)
out["loaded"] = loaded.trial_component.parameters
experiment.delete_all(action="--force")
out["left"] = [each.experiment_name for each in Experiment.list()]
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    """The output of the notebook, on an experiment of three finished jobs."""
    with Sandbox.start(pace=0.02) as sandbox:
        for number, auc in enumerate(([0.7, 0.6], [0.9, 0.8], [0.8, 0.75])):
            members = {"HyperParameters": {"depth": str(number)}, **in_trial(f"trial-{number}")}
            finished(sandbox, f"run-{number}", auc, **members)
        done = subprocess.run(
            [sys.executable, "-c", NOTEBOOK],
            env={**os.environ, **sandbox.env},
            capture_output=True,
            text=True,
            timeout=WAIT_LIMIT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_experiment_analytics_gives_the_best_first(notebook: dict[str, Any]) -> None:
    assert notebook["best first"] == [0.9, 0.8, 0.7]
    assert notebook["depths"] == [1.0, 2.0, 0.0]
    assert notebook["columns"][:9] == [
        "TrialComponentName",
        "DisplayName",
        "SourceArn",
        "depth",
        *(f"validation:auc - {each}" for each in ("Min", "Max", "Avg", "StdDev", "Last")),
    ]
    assert notebook["one trial"] == ["run-2-aws-training-job"]


def test_a_run_of_the_sdk_logs_parameters_metrics_and_artifacts(notebook: dict[str, Any]) -> None:
    assert notebook["runs"] == ["first"]
    run = notebook["run"]
    assert run["parameters"] == ["depth", "eta", "objective"]
    assert run["status"] == "Completed"
    assert run["inputs"]["data"]["Value"] == "s3://notebook/data"
    assert "notes" in run["outputs"]
    assert run["loss"] == [4]


def test_smexperiments_tracks_searches_and_cleans_up(notebook: dict[str, Any]) -> None:
    assert sorted(notebook["classic"]) == ["Preprocessing", "run-1-aws-training-job"]
    assert notebook["found"] == ["Preprocessing"]
    assert notebook["loaded"] == {"mean": 0.13, "split": "random"}
    assert "classic" not in notebook["left"]
