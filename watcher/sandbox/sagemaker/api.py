"""SageMaker's API for training jobs, their rules, tags and `Search`, installed in place of moto's.

moto finds the URLs of a backend, and keeps its models, by the `__module__` of a class. So `install` sets that
of both classes here to moto's module, and must run before the first request reaches the server.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from moto.sagemaker import urls
from moto.sagemaker.models import SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakermetrics import urls as metrics_urls

from watcher.arn import job_name
from watcher.sandbox import environment
from watcher.sandbox.aws import metrics
from watcher.sandbox.aws.logs import LogWriter
from watcher.sandbox.aws.objects import ObjectWriter
from watcher.sandbox.jobs.profiling import Profiling
from watcher.sandbox.jobs.runners import RunnerContext, Runners
from watcher.sandbox.jobs.system_metrics import Gpu
from watcher.sandbox.jobs.training_log import TrainingLog
from watcher.sandbox.publisher import Publisher
from watcher.sandbox.sagemaker import shapes
from watcher.sandbox.sagemaker.api_errors import ApiError, invalid, not_found
from watcher.sandbox.sagemaker.experiments import Experiments, tag_list
from watcher.sandbox.sagemaker.experiments_api import ExperimentsApi, MetricsApi
from watcher.sandbox.sagemaker.lineage import Lineage
from watcher.sandbox.sagemaker.lineage_api import LineageApi
from watcher.sandbox.sagemaker.listing import listed
from watcher.sandbox.sagemaker.properties import RESOURCES
from watcher.sandbox.sagemaker.search import Searchable, search
from watcher.sandbox.sagemaker.training_job import FINAL_RULE_STATUSES, check_deletable, stopping, updated
from watcher.sandbox.sagemaker.training_jobs import TrainingJobs
from watcher.sandbox.settings import Settings

Answer = str
"""A response as JSON text. moto would serialize a dict by the API's model, ten times slower."""


@dataclass(frozen=True)
class BackendContext:
    """What all backends of this process need."""

    settings: Settings
    endpoint: str
    directory: Path
    publisher: Publisher


class Backend(SageMakerModelBackend):  # type: ignore[misc]
    """moto creates one for each account and region, and new ones at each reset."""

    context: BackendContext

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        context = self.context
        self.jobs = TrainingJobs(
            account_id, region_name, publish=context.publisher.to(account_id, region_name), clock=time.time
        )
        self.experiments = Experiments(self.jobs, clock=time.time)
        self.lineage = Lineage(self.jobs, self.experiments, clock=time.time)
        self.logs = LogWriter(account_id, region_name)
        self.training_log = TrainingLog(self.jobs, self.logs, self.experiments.measured)
        self.runners = Runners(
            RunnerContext(
                jobs=self.jobs,
                settings=context.settings,
                directory=Path(tempfile.mkdtemp(prefix=f"{region_name}-", dir=context.directory)),
                environment=environment.variables(context.endpoint, region_name, context.directory),
                write_log=self.logs.write,
                write_training_log=self.training_log.write,
                profile=self._profile,
            )
        )
        self.gpus: dict[str, list[Gpu]] = {}
        """What a test says of the GPUs of a job, by its name."""

    def _profile(self, job: str, pid: int) -> Profiling:
        return Profiling(
            job,
            pid,
            record=lambda: self.jobs.get(job).record,
            put_object=ObjectWriter(self.account_id).put,
            put_metrics=partial(metrics.put_of_instance, self.account_id, self.region_name),
            gpus=lambda: self.gpus.get(job),
        )

    def reset(self) -> None:
        self.runners.close_all()
        super().reset()


class Api(ExperimentsApi, LineageApi, SageMakerResponse):  # type: ignore[misc]
    @property
    def _backend(self) -> Backend:
        backend: Backend = self.sagemaker_backend
        return backend

    def _request(self, operation: str) -> dict[str, Any]:
        request: dict[str, Any] = json.loads(self.body or "{}")
        shapes.validate(operation, request)
        return request

    def create_training_job(self) -> Answer:
        request = self._request("CreateTrainingJob")
        self._backend.experiments.check(request.get("ExperimentConfig", {}))
        job = self._backend.jobs.create(request)
        self._backend.experiments.adopt(job)
        self._backend.runners.begin(job)
        return json.dumps({"TrainingJobArn": job.arn})

    def describe_training_job(self) -> Answer:
        request = self._request("DescribeTrainingJob")
        return self._backend.jobs.get(request["TrainingJobName"]).description

    def list_training_jobs(self) -> Answer:
        request = self._request("ListTrainingJobs")
        records = (job.record for job in self._backend.jobs.all())
        return json.dumps(listed("TrainingJob", request, records))

    def search(self) -> Any:
        request = self._request("Search")
        experiments = self._backend.experiments
        token: str | None
        match resource := request["Resource"]:
            case "TrainingJob":
                jobs, token = search(request, self._backend.jobs.all())
                return _found((job.search_result for job in jobs), token)
            case "Experiment":
                entities, token = search(request, experiments.experiments())
            case "ExperimentTrial":
                entities, token = search(request, experiments.searchable_trials())
            case "ExperimentTrialComponent":
                components, token = search(request, experiments.components())
                return _found(_results(resource, components), token)
            case _:
                return super().search()
        return _found(_results(resource, entities), token)

    def stop_training_job(self) -> Answer:
        name = self._request("StopTrainingJob")["TrainingJobName"]
        self._backend.jobs.change(name, stopping)
        self._backend.runners.stop(name)
        return "{}"

    def update_training_job(self) -> Answer:
        request = self._request("UpdateTrainingJob")
        job = self._backend.jobs.change(
            request["TrainingJobName"], lambda job, now: updated(job, request, now)
        )
        self._backend.runners.add_rules(job)
        return json.dumps({"TrainingJobArn": job.arn})

    def delete_training_job(self) -> Answer:
        """Logs, metrics and what is on S3 stay, as at AWS; evaluations of rules that still run end."""
        name = self._request("DeleteTrainingJob")["TrainingJobName"]
        check_deletable(job := self._backend.jobs.get(name))
        self._backend.runners.close(name)
        self._backend.lineage.keep(job)
        self._backend.experiments.keep(job)
        self._backend.jobs.remove(name)
        return "{}"

    def describe_processing_job(self) -> Any:
        """The job of a rule, or one of moto's own."""
        name = self._request("DescribeProcessingJob")["ProcessingJobName"]
        if rule := self._backend.jobs.rule_job(name):
            return json.dumps(rule.processing_job())
        if name in self._backend.processing_jobs:
            return super().describe_processing_job()
        raise not_found()

    def list_processing_jobs(self) -> Answer:
        """Lists only the jobs of rules."""
        request = self._request("ListProcessingJobs")
        records = (rule.processing_job() for rule in self._backend.jobs.rule_jobs())
        return json.dumps(listed("ProcessingJob", request, records))

    def stop_processing_job(self) -> Any:
        name = self._request("StopProcessingJob")["ProcessingJobName"]
        rule = self._backend.jobs.rule_job(name)
        if rule is None:
            return super().stop_processing_job()
        if rule.status["RuleEvaluationStatus"] in FINAL_RULE_STATUSES | {"Stopping"}:
            status = rule.processing_job()["ProcessingJobStatus"]
            raise invalid(f"The request was rejected because the processing job is in status {status}.")
        self._backend.runners.stop_rule(rule)
        return "{}"

    def list_tags(self) -> Any:
        tags = self._tags(self._request("ListTags")["ResourceArn"])
        return super().list_tags() if tags is None else json.dumps({"Tags": tag_list(tags)})

    def add_tags(self) -> Any:
        request = self._request("AddTags")
        if self._tags(request["ResourceArn"]) is None:
            return super().add_tags()
        added = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        self._change_tags(request["ResourceArn"], lambda tags: {**tags, **added})
        return json.dumps({"Tags": tag_list(self._tags(request["ResourceArn"]) or {})})

    def delete_tags(self) -> Any:
        request = self._request("DeleteTags")
        if self._tags(request["ResourceArn"]) is None:
            return super().delete_tags()
        gone = set(request["TagKeys"])
        self._change_tags(
            request["ResourceArn"],
            lambda tags: {key: value for key, value in tags.items() if key not in gone},
        )
        return "{}"

    def _tags(self, arn: str) -> Mapping[str, str] | None:
        """None if the ARN is that of something that only moto has."""
        if ":training-job/" in arn:
            return self._backend.jobs.get(job_name(arn)).tags
        tags = self._backend.experiments.tags(arn)
        return self._backend.lineage.tags(arn) if tags is None else tags

    def _change_tags(self, arn: str, how: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        if ":training-job/" in arn:
            self._backend.jobs.change(job_name(arn), lambda job, _: replace(job, tags=how(job.tags)))
        elif ":experiment" in arn:
            self._backend.experiments.change_tags(arn, how)
        else:
            self._backend.lineage.change_tags(arn, how)

    def call_action(self) -> Any:
        try:
            return super().call_action()
        except ApiError as error:
            body = json.dumps({"__type": error.code, "message": error.message})
            return 400, {**self.response_headers, "Content-Type": CONTENT_TYPE}, body


CONTENT_TYPE = "application/x-amz-json-1.1"


def _results(resource: str, items: Iterable[Searchable]) -> Iterator[str]:
    member = RESOURCES[resource].structure
    return (json.dumps({member: item.searchable}) for item in items)


def _found(results: Iterable[str], token: str | None) -> Answer:
    following = f', "NextToken": {json.dumps(token)}' if token else ""
    return f'{{"Results": [{",".join(results)}]{following}}}'


def install(context: BackendContext) -> None:
    Backend.context = context
    Backend.__module__ = Api.__module__ = "moto.sagemaker.models"
    sagemaker_backends.backend = Backend
    urls.url_paths["{0}/$"] = Api.dispatch
    MetricsApi.__module__ = "moto.sagemakermetrics.responses"
    metrics_urls.url_paths["{0}/BatchPutMetrics$"] = MetricsApi.dispatch
    urls.url_paths["{0}/BatchGetMetrics$"] = MetricsApi.dispatch  # moto's server sends it there
