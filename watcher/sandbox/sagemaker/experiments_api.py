"""SageMaker's API for experiments, trials, trial components and their metrics, in place of moto's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from moto.sagemaker.models import sagemaker_backends
from moto.sagemakermetrics.responses import SageMakerMetricsResponse

from watcher.sandbox.sagemaker import metric_series, shapes
from watcher.sandbox.sagemaker.api_errors import ApiError, invalid
from watcher.sandbox.sagemaker.experiments import Experiments
from watcher.sandbox.sagemaker.listing import listed_entities
from watcher.sandbox.sagemaker.metric_series import Point
from watcher.sandbox.sagemaker.training_job import Record

Answer = str
_ONE_OF = ("ExperimentName", "TrialName", "SourceArn")


class _HasExperiments(Protocol):
    @property
    def experiments(self) -> Experiments: ...


class ExperimentsApi:
    """A part of the API; `sagemaker_api.Api` has what it asks for."""

    @property
    def _backend(self) -> _HasExperiments:
        raise NotImplementedError

    def _request(self, operation: str) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def _experiments(self) -> Experiments:
        return self._backend.experiments

    def create_experiment(self) -> Answer:
        return _arns(self._experiments.create_experiment(self._request("CreateExperiment")), "ExperimentArn")

    def describe_experiment(self) -> Answer:
        name = self._request("DescribeExperiment")["ExperimentName"]
        return json.dumps(self._experiments.experiment(name).record)

    def list_experiments(self) -> Answer:
        request = self._request("ListExperiments")
        records = (experiment.record for experiment in self._experiments.experiments())
        return _list("Experiment", request, records)

    def update_experiment(self) -> Answer:
        return _arns(self._experiments.update_experiment(self._request("UpdateExperiment")), "ExperimentArn")

    def delete_experiment(self) -> Answer:
        name = self._request("DeleteExperiment")["ExperimentName"]
        return _arns(self._experiments.delete_experiment(name), "ExperimentArn")

    def create_trial(self) -> Answer:
        return _arns(self._experiments.create_trial(self._request("CreateTrial")), "TrialArn")

    def describe_trial(self) -> Answer:
        return json.dumps(self._experiments.trial(self._request("DescribeTrial")["TrialName"]).record)

    def list_trials(self) -> Answer:
        request = self._request("ListTrials")
        trials = self._experiments.trials(
            experiment=request.get("ExperimentName"), component=request.get("TrialComponentName")
        )
        return _list("Trial", request, (trial.record for trial in trials))

    def update_trial(self) -> Answer:
        return _arns(self._experiments.update_trial(self._request("UpdateTrial")), "TrialArn")

    def delete_trial(self) -> Answer:
        return _arns(self._experiments.delete_trial(self._request("DeleteTrial")["TrialName"]), "TrialArn")

    def create_trial_component(self) -> Answer:
        record = self._experiments.create_component(self._request("CreateTrialComponent"))
        return _arns(record, "TrialComponentArn")

    def describe_trial_component(self) -> Answer:
        name = self._request("DescribeTrialComponent")["TrialComponentName"]
        return json.dumps(self._experiments.component(name).record)

    def list_trial_components(self) -> Answer:
        request = self._request("ListTrialComponents")
        if sum(member in request for member in _ONE_OF) > 1:
            raise invalid(f"Only one of {', '.join(_ONE_OF)} can be specified.")
        components = self._experiments.components(
            experiment=request.get("ExperimentName"),
            trial=request.get("TrialName"),
            source=request.get("SourceArn"),
        )
        return _list("TrialComponent", request, (component.record for component in components))

    def update_trial_component(self) -> Answer:
        record = self._experiments.update_component(self._request("UpdateTrialComponent"))
        return _arns(record, "TrialComponentArn")

    def delete_trial_component(self) -> Answer:
        name = self._request("DeleteTrialComponent")["TrialComponentName"]
        return _arns(self._experiments.delete_component(name), "TrialComponentArn")

    def associate_trial_component(self) -> Answer:
        request = self._request("AssociateTrialComponent")
        component, trial = self._experiments.associate(request["TrialComponentName"], request["TrialName"])
        return json.dumps({"TrialComponentArn": component, "TrialArn": trial})

    def disassociate_trial_component(self) -> Answer:
        request = self._request("DisassociateTrialComponent")
        component, trial = self._experiments.disassociate(request["TrialComponentName"], request["TrialName"])
        return json.dumps({"TrialComponentArn": component, "TrialArn": trial})


def _arns(record: Record, *members: str) -> Answer:
    return json.dumps({member: record[member] for member in members})


def _list(kind: str, request: Mapping[str, Any], records: Iterable[Record]) -> Answer:
    page, following = listed_entities(request, records, name=f"{kind}Name", unique=f"{kind}Arn")
    members = shapes.members(f"{kind}Summary")
    summaries = []
    for record in page:
        summary = {member: value for member, value in record.items() if member in members}
        if "Source" in record:
            summary[f"{kind}Source"] = record["Source"]
        summaries.append(summary)
    return json.dumps({f"{kind}Summaries": summaries, **following})


class MetricsApi(SageMakerMetricsResponse):  # type: ignore[misc]
    """The API `sagemaker-metrics`."""

    @property
    def _experiments(self) -> Experiments:
        backend: _HasExperiments = sagemaker_backends[self.current_account][self.region]
        return backend.experiments

    def batch_put_metrics(self) -> Answer:
        request = json.loads(self.body or "{}")
        data = request.get("MetricData", ())
        points = [
            (each["MetricName"], Point(float(each["Value"]), float(each["Timestamp"]), each.get("Step")))
            for each in data
        ]
        try:
            self._experiments.put_metrics(request["TrialComponentName"], points)
        except ApiError:
            errors = [{"Code": "VALIDATION_ERROR", "MetricIndex": index} for index in range(len(points))]
            return json.dumps({"Errors": errors})
        return "{}"

    def batch_get_metrics(self) -> Answer:
        queries = json.loads(self.body or "{}").get("MetricQueries", ())
        return json.dumps({"MetricQueryResults": [self._queried(query) for query in queries]})

    def _queried(self, query: Mapping[str, Any]) -> Record:
        try:
            points = self._experiments.series(query["ResourceArn"], query["MetricName"])
            return metric_series.queried(query, points)
        except ApiError as error:
            return {
                "Status": "ValidationError",
                "Message": error.message,
                "XAxisValues": [],
                "MetricValues": [],
            }
