"""The control API, for tests and for the sandbox's page: plain JSON, on the same port as the AWS APIs.

    GET    /sandbox                                a page that shows the jobs, with buttons for these calls
    GET    /sandbox/environment                    the variables to export: {"AWS_ENDPOINT_URL": …, …}
    GET    /sandbox/training-jobs                  all jobs as `DescribeTrainingJob` shows them, with `Tags`
    PUT    /sandbox/training-jobs                  {"TrainingJobs": [{"TrainingJobName": …, …}, …]}
    PUT    /sandbox/training-jobs/NAME             {"TrainingJobStatus": …, "DebugRuleEvaluationStatuses": …}
                                                   ?account=… for an account other than the sandbox's own
    DELETE /sandbox/training-jobs/NAME
    POST   /sandbox/training-jobs/NAME/logs        {"lines": […], "rule": "LossNotDecreasing"}
    POST   /sandbox/training-jobs/NAME/metrics     {"train:loss": [[1795176000, 0.5], …]}
    PUT    /sandbox/training-jobs/NAME/gpus        {"gpus": [[30.0, 80.0], …]}
    POST   /sandbox/faults                         {"operation": "sagemaker:Search", "times": 3, …}
    GET    /sandbox/faults      DELETE /sandbox/faults
    GET    /sandbox/calls       DELETE /sandbox/calls
    POST   /sandbox/reset                          removes all jobs, queues, faults and counts, and
                                                   all buckets and roles but the ones that the SDKs use

PUT puts a job into a state without training. Members are those of `DescribeTrainingJob`, and `Tags`; any
status is accepted, even one that SageMaker does not have. A member that is left out keeps its value or, in a
new job, gets a default. Times are seconds since 1970. A job that is training here ends first, and then stays
in the given state.

Lines of a rule go to the log stream of its processing job, which is created if necessary. Without `rule`,
they go to the stream of the training job, and values that its MetricDefinitions find in them become metrics.
Metrics can also be given directly, with their times; the job needs no MetricDefinitions for these.

GPUs are pairs of utilization and memory in percent, which the profiler of the job's training records from
now on; the job need not exist yet. Without them it records those that the machine has.

The members of a fault are those of `fault_injection.Fault`. An invalid request is answered with 400 and
{"message": …}. Requests to the AWS APIs are signed, so a bucket named `sandbox` does not collide with these
paths. Requests of web pages other than the sandbox's own are refused with 403 (`browsers`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.sagemaker.models import sagemaker_backends
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from watcher.aws.links import PROCESSING_LOGS, TRAINING_LOGS
from watcher.sandbox import account
from watcher.sandbox.aws.metrics import Measured
from watcher.sandbox.fault_injection import Fault, Faults
from watcher.sandbox.jobs.rule_jobs import evaluation_job_arn, rule_jobs, training_log_stream
from watcher.sandbox.jobs.system_metrics import Gpu
from watcher.sandbox.publisher import Publisher
from watcher.sandbox.sagemaker.api import Backend
from watcher.sandbox.sagemaker.api_errors import ApiError, invalid
from watcher.sandbox.sagemaker.training_job import with_rule

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX = "/sandbox"


class ControlApi:
    def __init__(
        self, faults: Faults, publisher: Publisher, region: str, environment: Mapping[str, str]
    ) -> None:
        self._faults, self._publisher, self._region = faults, publisher, region
        self._environment = environment
        self._routes = Map(
            [
                Rule(PREFIX + path, methods=[method], endpoint=endpoint)
                for method, path, endpoint in (
                    ("GET", "", self.page),
                    ("GET", "/environment", self.environment),
                    ("GET", "/training-jobs", self.training_jobs),
                    ("PUT", "/training-jobs", self.place_many),
                    ("PUT", "/training-jobs/<name>", self.place),
                    ("DELETE", "/training-jobs/<name>", self.delete),
                    ("POST", "/training-jobs/<name>/logs", self.write_logs),
                    ("POST", "/training-jobs/<name>/metrics", self.put_metrics),
                    ("PUT", "/training-jobs/<name>/gpus", self.set_gpus),
                    ("POST", "/faults", self.inject_fault),
                    ("GET", "/faults", self.faults),
                    ("DELETE", "/faults", self.clear_faults),
                    ("GET", "/calls", self.calls),
                    ("DELETE", "/calls", self.forget_calls),
                    ("POST", "/reset", self.reset),
                )
            ],
            strict_slashes=False,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            endpoint, values = self._routes.bind_to_environ(environ).match()
            answer = endpoint(request, **values)
            response: WSGIApplication = answer if isinstance(answer, Response) else _json(answer)
        except ApiError as error:
            response = _json({"message": error.message}, status=400)
        except HTTPException as error:
            response = _json({"message": error.description}, status=error.code or 500)
        return response(environ, start_response)

    @property
    def _backend(self) -> Backend:
        return self._backend_of(DEFAULT_ACCOUNT_ID)

    def _backend_of(self, account: str) -> Backend:
        backend: Backend = sagemaker_backends[account][self._region]
        return backend

    def page(self, _: Request) -> Response:
        html = files("watcher.sandbox").joinpath("page.html").read_text()
        # Its buttons must not be pressed within the frame of another page.
        framed = {"Content-Security-Policy": "frame-ancestors 'none'", "X-Frame-Options": "DENY"}
        return Response(html, mimetype="text/html", headers=framed)

    def environment(self, _: Request) -> Any:
        return dict(self._environment)

    def training_jobs(self, _: Request) -> Any:
        return [{**job.record, "Tags": job.searchable["Tags"]} for job in self._backend.jobs.all()]

    def place_many(self, request: Request) -> Any:
        for members in _members(request)["TrainingJobs"]:
            self._place(self._backend, members["TrainingJobName"], members)
        return {}

    def place(self, request: Request, name: str) -> Any:
        account = request.args.get("account", DEFAULT_ACCOUNT_ID)
        return self._place(self._backend_of(account), name, _members(request))

    def _place(self, backend: Backend, name: str, members: dict[str, Any]) -> Any:
        backend.runners.close(name)
        new = backend.jobs.find(name) is None
        job = backend.jobs.place(name, members)
        if new:
            backend.experiments.adopt(job)
        if (
            job.status == "Stopping" and "TrainingJobStatus" not in members
        ):  # a stop that is under way goes on
            backend.runners.stop(name)
        return job.record

    def delete(self, _: Request, name: str) -> Any:
        self._backend.runners.close(name)
        self._backend.jobs.remove(name)
        return {}

    def write_logs(self, request: Request, name: str) -> Any:
        members = _members(request)
        job = self._backend.jobs.get(name)
        if "rule" not in members:
            self._backend.training_log.write(name, members["lines"])
            return {"logGroupName": TRAINING_LOGS, "logStreamName": training_log_stream(job)}
        stream = self._rule_log_stream(name, members["rule"])
        self._backend.logs.write(PROCESSING_LOGS, stream, members["lines"])
        return {"logGroupName": PROCESSING_LOGS, "logStreamName": stream}

    def put_metrics(self, request: Request, name: str) -> Any:
        values = [
            Measured(metric, value, at)
            for metric, points in _members(request).items()
            for at, value in points
        ]
        self._backend.training_log.measure(name, values)
        return {}

    def set_gpus(self, request: Request, name: str) -> Any:
        try:
            gpus = [Gpu(*map(float, each)) for each in _members(request)["gpus"]]
        except (KeyError, TypeError, ValueError) as error:
            raise invalid("gpus is a list of pairs: utilization and memory, in percent.") from error
        self._backend.gpus[name] = gpus
        return {}

    def _rule_log_stream(self, name: str, wanted: str) -> str:
        job = self._backend.jobs.get(name)
        rule = next((rule for rule in rule_jobs(job) if rule.rule == wanted), None)
        if rule is None:
            raise invalid(f"The training job {name} has no rule {wanted}.")
        if not rule.arn:
            arn = evaluation_job_arn(job, wanted)
            job = self._backend.jobs.change(
                name, lambda job, now: with_rule(job, rule.statuses, wanted, now, RuleEvaluationJobArn=arn)
            )
        return next(rule.log_stream for rule in rule_jobs(job) if rule.rule == wanted)

    def inject_fault(self, request: Request) -> Any:
        try:
            self._faults.inject(Fault(**_members(request)))
        except TypeError as error:
            raise invalid(f"Not a fault: {error}") from error
        return {}

    def faults(self, _: Request) -> Any:
        return [asdict(fault) for fault in self._faults.pending()]

    def clear_faults(self, _: Request) -> Any:
        self._faults.clear()
        return {}

    def calls(self, _: Request) -> Any:
        return self._faults.calls()

    def forget_calls(self, _: Request) -> Any:
        self._faults.forget_calls()
        return {}

    def reset(self, _: Request) -> Any:
        self._faults.clear()
        close_all_runners()
        self._publisher.flush()
        BackendDict.reset()
        reset_model_data()  # moto remembers every object that it ever made
        account.prepare(self._region)
        self._faults.forget_calls()
        return {}


def close_all_runners() -> None:
    for regions in list(sagemaker_backends.values()):
        for backend in list(regions.values()):
            backend.runners.close_all()


def refuse(sentence: str) -> Response:
    return _json({"message": sentence}, status=403)


def _members(request: Request) -> dict[str, Any]:
    try:
        members = json.loads(request.get_data())
    except ValueError as error:
        raise invalid(f"The body is not JSON: {error}") from error
    if not isinstance(members, dict):
        raise invalid("The body is not a JSON object.")
    return members


def _json(answer: Any, status: int = 200) -> Response:
    return Response(json.dumps(answer), status=status, mimetype="application/json")
