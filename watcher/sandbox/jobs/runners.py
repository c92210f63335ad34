"""Runs training jobs and their rules, each in a thread whose `work` takes it from its start to its end."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import Any

from watcher.aws.links import PROCESSING_LOGS
from watcher.logs.rule_log import condition_met
from watcher.sandbox.jobs import profiler_output
from watcher.sandbox.jobs.container import Container, Exit
from watcher.sandbox.jobs.profiling import Profiling
from watcher.sandbox.jobs.rule_jobs import RuleJob, evaluation_job_arn, rule_jobs
from watcher.sandbox.sagemaker.api_errors import ApiError
from watcher.sandbox.sagemaker.training_job import (
    PROFILER_RULES,
    TrainingJob,
    debug_output,
    entered,
    with_rule,
)
from watcher.sandbox.sagemaker.training_jobs import TrainingJobs
from watcher.sandbox.settings import Settings

NO_DATA = "ClientError: No debugging data was saved by the training job."

_POLL_S = 0.05
_MAX_REASON_LENGTH = 1024
"""Characters of a FailureReason or StatusDetails, as at SageMaker."""


@dataclass(frozen=True)
class RunnerContext:
    """What all runners of an account and region need."""

    jobs: TrainingJobs
    settings: Settings
    directory: Path
    """For the documents that containers read."""
    environment: Mapping[str, str]
    """Environment variables of the containers."""
    write_log: Callable[[str, str, Sequence[str]], None]
    """Group, stream, lines."""
    write_training_log: Callable[[str, Sequence[str]], None]
    """Job, lines."""
    profile: Callable[[str, int], Profiling]
    """The profiler of the job with this name, whose container is this process."""


class _Closed(Exception):
    """The runner was closed, and must change nothing more."""


class Runner(threading.Thread):
    """Runs one job, or one rule of a job, from its start to its end."""

    def __init__(self, context: RunnerContext, job: str, directory: Path, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.context, self.job, self.directory = context, job, directory
        self._stop_asked = threading.Event()
        self._closed = threading.Event()
        self._container: Container | None = None

    def run(self) -> None:
        # ApiError: the job was deleted while it runs, so there is nothing left to do.
        with contextlib.suppress(ApiError, _Closed):
            self.work()

    def work(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """Stop as the API does: the container gets a signal, and the status changes when it has ended."""
        self._stop_asked.set()

    def close(self) -> None:
        """End at once and change nothing more, because the control API sets the job's state now."""
        self._closed.set()
        self._stop_asked.set()
        if self._container is not None:
            self._container.kill()

    def change(self, how: Callable[[TrainingJob, float], TrainingJob]) -> TrainingJob:
        if self._closed.is_set():
            raise _Closed
        return self.context.jobs.change(self.job, how)

    def pause(self) -> bool:
        """Wait for the duration of one step. False if a stop came first."""
        return not self._stop_asked.wait(self.context.settings.pace)

    def start_container(
        self,
        command: Sequence[str],
        document: Mapping[str, Any],
        *,
        out: Callable[[str], None],
        err: Callable[[str], None],
        **exports: str,
    ) -> Container:
        with NamedTemporaryFile("w", dir=self.directory, suffix=".json", delete=False) as file:
            json.dump(document, file)
        environment = {**os.environ, **self.context.environment, **exports}
        self._container = Container(command, Path(file.name), environment, out=out, err=err)
        if self._closed.is_set():  # `close` ran before there was a container to kill
            self._container.kill()
        return self._container

    def watch(self, container: Container, timeout: float = math.inf) -> bool:
        """Wait until the container ends. False if a stop came first, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not container.wait(_POLL_S):
            if self._stop_asked.is_set() or time.monotonic() >= deadline:
                return False
        return True


class TrainingRunner(Runner):
    def __init__(self, context: RunnerContext, job: str) -> None:
        # The directory is unique, because a new job may have the name of a deleted one.
        super().__init__(context, job, Path(mkdtemp(dir=context.directory)), name=f"training {job}")
        self.ended = threading.Event()
        self.ended_file = self.directory / "ended"
        """Created when the training job has ended; rule containers check for it."""

    def work(self) -> None:
        try:
            stopped_as = "Stopped"
            if self.pause() and self._enter("Downloading") and self.pause() and self._enter("Training"):
                stopped_as = self._train(self.context.jobs.get(self.job))
            self._finish_stop(stopped_as)
        finally:
            self.ended_file.touch()
            self.ended.set()

    def _train(self, job: TrainingJob) -> str:
        """Returns the secondary status with which the job ends if it is stopping now."""
        image = job.record.get("AlgorithmSpecification", {}).get("TrainingImage", "")
        command = self.context.settings.trainer(image)
        if command is None:
            names = ", ".join(self.context.settings.trainers)
            self._fail(f"ClientError: The sandbox cannot train {image}: it only has images named *{names}*.")
            return "Stopped"

        def log(line: str) -> None:
            self.context.write_training_log(self.job, [line])

        container = self.start_container(command, job.record, out=log, err=log, TRAINING_JOB_NAME=self.job)
        profiling = self.context.profile(self.job, container.pid)
        profiling.start()
        try:
            if not self.watch(container, job.max_runtime):
                overrun = not self._stop_asked.is_set()
                overrun = overrun and self._enter("Stopping", TrainingJobStatus="Stopping")
                container.end(self.context.settings.stop_timeout)
                container.exit()
                return "MaxRuntimeExceeded" if overrun else "Stopped"
            result = container.exit()
        finally:
            profiling.finish()
        if result.code != 0:
            self._fail(_failure_reason(result))
        elif self._enter("Uploading") and self.pause():
            self._enter("Completed", TrainingJobStatus="Completed")
        return "Stopped"

    def _enter(self, secondary_status: str, **members: Any) -> bool:
        """Enter the next secondary status if the job is in progress. Returns whether it is in it now."""

        def move(job: TrainingJob, now: float) -> TrainingJob:
            return entered(job, secondary_status, now, **members) if job.status == "InProgress" else job

        return bool(self.change(move).record["SecondaryStatus"] == secondary_status)

    def _fail(self, reason: str) -> None:
        self._enter("Failed", TrainingJobStatus="Failed", FailureReason=reason)

    def _finish_stop(self, secondary_status: str) -> None:
        if self.context.jobs.get(self.job).status == "Stopping":
            self._closed.wait(self.context.settings.pace)
            self.change(lambda job, now: entered(job, secondary_status, now, TrainingJobStatus="Stopped"))


class RuleRunner(Runner):
    """Runs a rule. As at AWS, it is not stopped with its training job: it reads what was saved, and ends."""

    def __init__(self, context: RunnerContext, training: TrainingRunner, statuses: str, rule: str) -> None:
        super().__init__(context, training.job, training.directory, name=f"rule {rule} of {training.job}")
        self.training, self.statuses, self.rule = training, statuses, rule

    def work(self) -> None:
        if self.pause():
            self._start_processing_job()
            self._evaluate()
        if self._stop_asked.is_set():
            self._set(RuleEvaluationStatus="Stopped")

    def _start_processing_job(self) -> None:
        self._set(RuleEvaluationJobArn=evaluation_job_arn(self.context.jobs.get(self.job), self.rule))

    def _evaluate(self) -> None:
        rule = self._rule_job()
        record = rule.training_job.record
        if self.statuses == PROFILER_RULES:
            output = profiler_output.place(record)
        else:
            output = debug_output(record) if record.get("DebugHookConfig") else ""
        if not output:
            self._set(RuleEvaluationStatus="Error", StatusDetails=NO_DATA)
            return

        def log(line: str) -> None:
            self.context.write_log(PROCESSING_LOGS, rule.log_stream, [line])

        parameters = rule.configuration.get("RuleParameters", {})
        document = {
            "TrainingJobName": self.job,
            "TrainingJobArn": rule.training_job.arn,
            "RuleConfigurationName": self.rule,
            "RuleParameters": parameters,
            "S3OutputPath": output,
            "RuleOutputPath": rule.output,
            "TrainingJobEndedFile": str(self.training.ended_file),
        }
        # stdout carries the verdict; only stderr is the rule's log.
        container = self.start_container(self.context.settings.rule_evaluator, document, out=_ignore, err=log)
        if self.watch(container):
            found = container.exit()
            if self.statuses == PROFILER_RULES:
                self._set(**_verdict(found, lambda verdict: verdict["details"]))
            else:
                name = parameters.get("rule_to_invoke", self.rule)
                self._set(**_verdict(found, lambda verdict: condition_met(name, verdict["step"])))
        else:
            container.end(self.context.settings.stop_timeout)
            container.exit()

    def _rule_job(self) -> RuleJob:
        job = self.context.jobs.get(self.job)
        return next(r for r in rule_jobs(job) if (r.statuses, r.rule) == (self.statuses, self.rule))

    def _set(self, **members: Any) -> None:
        self.change(lambda job, now: with_rule(job, self.statuses, self.rule, now, **members))


def _failure_reason(result: Exit) -> str:
    """A ClientError if the last line of stderr says so, and an AlgorithmError otherwise."""
    last_line = result.last_errors.rpartition("\n")[2]
    if last_line.startswith("ClientError: "):
        return last_line[:_MAX_REASON_LENGTH]
    cause = "AlgorithmError: "
    errors = result.last_errors or f"exit code {result.code}"
    return cause + errors[-(_MAX_REASON_LENGTH - len(cause)) :]


def _ignore(_: str) -> None:
    pass


def _verdict(result: Exit, of_issue: Callable[[dict[str, Any]], str]) -> dict[str, str]:
    """The members of the evaluation status, from the output of a rule's container. `of_issue`: the details of
    a rule that has fired, from the same output."""
    try:
        verdict = json.loads(result.last_output)
        status = verdict["status"]
        details = of_issue(verdict) if status == "IssuesFound" else verdict.get("details") or ""
    except (ValueError, TypeError, KeyError):
        reason = f"InternalServerError: The rule ended with exit code {result.code}. {result.last_errors}"
        return {"RuleEvaluationStatus": "Error", "StatusDetails": reason[:_MAX_REASON_LENGTH]}
    members = {"RuleEvaluationStatus": status}
    return members | {"StatusDetails": details[:_MAX_REASON_LENGTH]} if details else members


class Runners:
    """The runners of all jobs of an account and region."""

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._runners: dict[str, list[Runner]] = {}
        self._lock = threading.Lock()

    def begin(self, job: TrainingJob) -> None:
        training = TrainingRunner(self._context, job.name)
        rules = [RuleRunner(self._context, training, rule.statuses, rule.rule) for rule in rule_jobs(job)]
        self._start(job.name, [training, *rules])

    def add_rules(self, job: TrainingJob) -> None:
        """Run those of the job's rules that do not run yet, if the sandbox runs the job."""
        with self._lock:
            runners = self._runners.get(job.name, [])
            running = {(each.statuses, each.rule) for each in runners if isinstance(each, RuleRunner)}
            added = [
                RuleRunner(self._context, training, rule.statuses, rule.rule)
                for training in runners
                if isinstance(training, TrainingRunner)
                for rule in rule_jobs(job)
                if (rule.statuses, rule.rule) not in running
            ]
            runners.extend(added)
        for runner in added:
            runner.start()

    def stop(self, job: str) -> None:
        """Called when the job's status is Stopping. If nothing runs the job, a runner is started to end
        it."""
        with self._lock:
            training = next(
                (runner for runner in self._runners.get(job, ()) if isinstance(runner, TrainingRunner)), None
            )
        if training is None:
            training = TrainingRunner(self._context, job)
            self._start(job, [training])
        training.stop()

    def stop_rule(self, rule: RuleJob) -> None:
        """A rule that no runner runs is stopped at once."""
        with self._lock:
            runners = [
                runner
                for runner in self._runners.get(rule.training_job.name, ())
                if isinstance(runner, RuleRunner)
                and (runner.statuses, runner.rule) == (rule.statuses, rule.rule)
            ]
        for runner in runners:
            runner.stop()
        status = "Stopping" if runners else "Stopped"
        self._context.jobs.change(
            rule.training_job.name,
            lambda job, now: with_rule(job, rule.statuses, rule.rule, now, RuleEvaluationStatus=status),
        )

    def close(self, job: str) -> None:
        """End the runners of this job, if any, and wait for them."""
        with self._lock:
            runners = self._runners.pop(job, [])
        for runner in runners:
            runner.close()
        for runner in runners:
            runner.join()

    def close_all(self) -> None:
        with self._lock:
            jobs = list(self._runners)
        for job in jobs:
            self.close(job)

    def _start(self, job: str, runners: list[Runner]) -> None:
        with self._lock:
            self._runners[job] = runners
        for runner in runners:
            runner.start()
