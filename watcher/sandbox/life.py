"""The lives of training jobs and of their rules: a thread each, and a life reads from top to bottom."""

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

from watcher.logs.rule_log import condition_met
from watcher.sandbox.api_errors import ApiError
from watcher.sandbox.container import Container, Exit
from watcher.sandbox.rule_jobs import PROCESSING_LOGS, RuleJob, evaluation_job_arn, rule_jobs
from watcher.sandbox.settings import Settings
from watcher.sandbox.training_job import DEBUG_RULES, TrainingJob, entered, with_rule
from watcher.sandbox.training_jobs import TrainingJobs

NO_DATA = "ClientError: No debugging data was saved by the training job."

_TICK = 0.05
_LONGEST_REASON = 1024


@dataclass(frozen=True)
class Site:
    """Where lives take place."""

    jobs: TrainingJobs
    settings: Settings
    directory: Path
    """For what containers read."""
    environment: Mapping[str, str]
    """What containers export."""
    write_log: Callable[[str, str, Sequence[str]], None]
    """Group, stream, lines."""
    write_training_log: Callable[[str, Sequence[str]], None]
    """Job, lines."""


class _Closed(Exception):
    pass


class Life(threading.Thread):
    """One job, or one rule of a job, from its start to its end."""

    def __init__(self, site: Site, job: str, directory: Path, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.site, self.job, self.directory = site, job, directory
        self._stop_asked = threading.Event()
        self._closed = threading.Event()
        self._container: Container | None = None

    def run(self) -> None:
        # ApiError: the job has been deleted under its own life, which then has nothing left to do.
        with contextlib.suppress(ApiError, _Closed):
            self.live()

    def live(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """Stop as the API's Stop… would: the container is told, the status follows."""
        self._stop_asked.set()

    def close(self) -> None:
        """End at once and write nothing down any more: somebody else decides about the job now."""
        self._closed.set()
        self._stop_asked.set()
        if self._container is not None:
            self._container.kill()

    def change(self, how: Callable[[TrainingJob, float], TrainingJob]) -> TrainingJob:
        if self._closed.is_set():
            raise _Closed
        return self.site.jobs.change(self.job, how)

    def pause(self) -> bool:
        """Let the time of one step pass; False where a stop came first."""
        return not self._stop_asked.wait(self.site.settings.pace)

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
        environment = {**os.environ, **self.site.environment, **exports}
        self._container = Container(command, Path(file.name), environment, out=out, err=err)
        if self._closed.is_set():  # it came between the last look and the start
            self._container.kill()
        return self._container

    def watch(self, container: Container, timeout: float = math.inf) -> bool:
        """Wait until it ends by itself; False where a stop came first, or `timeout` seconds went by."""
        deadline = time.monotonic() + timeout
        while not container.wait(_TICK):
            if self._stop_asked.is_set() or time.monotonic() >= deadline:
                return False
        return True


class TrainingLife(Life):
    def __init__(self, site: Site, job: str) -> None:
        # A directory of its own: a deleted job's successor may have the same name.
        super().__init__(site, job, Path(mkdtemp(dir=site.directory)), name=f"training {job}")
        self.ended = threading.Event()
        self.ended_file = self.directory / "ended"
        """There as soon as the training job has ended: rule containers look for it."""

    def live(self) -> None:
        try:
            stopped_as = "Stopped"
            if self.pause() and self._enter("Downloading") and self.pause() and self._enter("Training"):
                stopped_as = self._train(self.site.jobs.get(self.job))
            self._finish_stop(stopped_as)
        finally:
            self.ended_file.touch()
            self.ended.set()

    def _train(self, job: TrainingJob) -> str:
        """Returns the secondary status in which the job ends, should it be stopping now."""
        image = job.record.get("AlgorithmSpecification", {}).get("TrainingImage", "")
        command = self.site.settings.trainer(image)
        if command is None:
            names = ", ".join(self.site.settings.trainers)
            self._fail(f"ClientError: The sandbox cannot train {image}: it has only images named *{names}*.")
            return "Stopped"

        def log(line: str) -> None:
            self.site.write_training_log(self.job, [line])

        container = self.start_container(command, job.record, out=log, err=log, TRAINING_JOB_NAME=self.job)
        if not self.watch(container, job.max_runtime):
            overrun = not self._stop_asked.is_set() and self._enter("Stopping", TrainingJobStatus="Stopping")
            container.end(self.site.settings.stop_timeout)
            container.exit()
            return "MaxRuntimeExceeded" if overrun else "Stopped"
        result = container.exit()
        if result.code != 0:
            self._fail(_failure_reason(result))
        elif self._enter("Uploading") and self.pause():
            self._enter("Completed", TrainingJobStatus="Completed")
        return "Stopped"

    def _enter(self, secondary_status: str, **members: Any) -> bool:
        """Move on, unless the job is no longer in progress; says whether it moved."""

        def move(job: TrainingJob, now: float) -> TrainingJob:
            return entered(job, secondary_status, now, **members) if job.status == "InProgress" else job

        return bool(self.change(move).record["SecondaryStatus"] == secondary_status)

    def _fail(self, reason: str) -> None:
        self._enter("Failed", TrainingJobStatus="Failed", FailureReason=reason)

    def _finish_stop(self, secondary_status: str) -> None:
        if self.site.jobs.get(self.job).status == "Stopping":
            self._closed.wait(self.site.settings.pace)
            self.change(lambda job, now: entered(job, secondary_status, now, TrainingJobStatus="Stopped"))


class RuleLife(Life):
    """Not stopped with its training job: as at AWS it looks at what was saved, and ends by itself."""

    def __init__(self, site: Site, training: TrainingLife, statuses: str, rule: str) -> None:
        super().__init__(site, training.job, training.directory, name=f"rule {rule} of {training.job}")
        self.training, self.statuses, self.rule = training, statuses, rule

    def live(self) -> None:
        if self.pause():
            self._start_processing_job()
            if self.statuses == DEBUG_RULES:
                self._evaluate()
            else:
                self._accompany()
        if self._stop_asked.is_set():
            self._set(RuleEvaluationStatus="Stopped")

    def _start_processing_job(self) -> None:
        self._set(RuleEvaluationJobArn=evaluation_job_arn(self.site.jobs.get(self.job), self.rule))

    def _evaluate(self) -> None:
        rule = self._rule_job()
        hook = rule.training_job.record.get("DebugHookConfig")
        if hook is None:
            self._set(RuleEvaluationStatus="Error", StatusDetails=NO_DATA)
            return

        def log(line: str) -> None:
            self.site.write_log(PROCESSING_LOGS, rule.log_stream, [line])

        document = {
            "TrainingJobName": self.job,
            "TrainingJobArn": rule.training_job.arn,
            "RuleConfigurationName": self.rule,
            "RuleParameters": rule.configuration.get("RuleParameters", {}),
            "S3OutputPath": f"{hook['S3OutputPath'].rstrip('/')}/{self.job}/debug-output",
            "TrainingJobEndedFile": str(self.training.ended_file),
        }
        # stdout carries the verdict, and belongs to us; the rule's own log is its stderr.
        container = self.start_container(self.site.settings.rule_evaluator, document, out=_unread, err=log)
        if self.watch(container):
            rule_name = document["RuleParameters"].get("rule_to_invoke", self.rule)
            self._set(**_verdict(rule_name, container.exit()))
        else:
            container.end(self.site.settings.stop_timeout)
            container.exit()

    def _accompany(self) -> None:
        """Profiler rules are shown and end well: the sandbox saves no profile that they could judge."""
        while not self.training.ended.wait(_TICK):
            if self._stop_asked.is_set():
                return
        if self.pause():
            self._set(RuleEvaluationStatus="NoIssuesFound")

    def _rule_job(self) -> RuleJob:
        job = self.site.jobs.get(self.job)
        return next(r for r in rule_jobs(job) if (r.statuses, r.rule) == (self.statuses, self.rule))

    def _set(self, **members: Any) -> None:
        self.change(lambda job, now: with_rule(job, self.statuses, self.rule, now, **members))


def _failure_reason(result: Exit) -> str:
    """A trainer may blame the job's owner itself, in its last line; all else is the algorithm's error."""
    last_line = result.last_errors.rpartition("\n")[2]
    if last_line.startswith("ClientError: "):
        return last_line[:_LONGEST_REASON]
    cause = "AlgorithmError: "
    errors = result.last_errors or f"exit code {result.code}"
    return cause + errors[-(_LONGEST_REASON - len(cause)) :]


def _unread(_: str) -> None:
    pass


def _verdict(rule: str, result: Exit) -> dict[str, str]:
    """The members of the evaluation status that follow from how a rule's container ended."""
    try:
        verdict = json.loads(result.last_output)
        status = verdict["status"]
    except (ValueError, TypeError, KeyError):
        reason = f"InternalServerError: The rule ended with exit code {result.code}. {result.last_errors}"
        return {"RuleEvaluationStatus": "Error", "StatusDetails": reason[:_LONGEST_REASON]}
    if status == "IssuesFound":
        details = condition_met(rule, verdict["step"])
    else:
        details = verdict.get("details") or ""
    members = {"RuleEvaluationStatus": status}
    return members | {"StatusDetails": details[:_LONGEST_REASON]} if details else members


class Lives:
    """All that lives on one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lives: dict[str, list[Life]] = {}
        self._lock = threading.Lock()

    def begin(self, job: TrainingJob) -> None:
        training = TrainingLife(self._site, job.name)
        rules = [RuleLife(self._site, training, rule.statuses, rule.rule) for rule in rule_jobs(job)]
        self._start(job.name, [training, *rules])

    def stop(self, job: str) -> None:
        """Its status is Stopping already. A job without a life has one from here to its end."""
        with self._lock:
            training = next(
                (life for life in self._lives.get(job, ()) if isinstance(life, TrainingLife)), None
            )
        if training is None:
            training = TrainingLife(self._site, job)
            self._start(job, [training])
        training.stop()

    def stop_rule(self, rule: RuleJob) -> None:
        """A rule without a life is simply stopped."""
        with self._lock:
            lives = [
                life
                for life in self._lives.get(rule.training_job.name, ())
                if isinstance(life, RuleLife) and (life.statuses, life.rule) == (rule.statuses, rule.rule)
            ]
        for life in lives:
            life.stop()
        status = "Stopping" if lives else "Stopped"
        self._site.jobs.change(
            rule.training_job.name,
            lambda job, now: with_rule(job, rule.statuses, rule.rule, now, RuleEvaluationStatus=status),
        )

    def close(self, job: str) -> None:
        """End whatever lives for this job, and wait for it. Without a life, this does nothing."""
        with self._lock:
            lives = self._lives.pop(job, [])
        for life in lives:
            life.close()
        for life in lives:
            life.join()

    def close_all(self) -> None:
        with self._lock:
            jobs = list(self._lives)
        for job in jobs:
            self.close(job)

    def _start(self, job: str, lives: list[Life]) -> None:
        with self._lock:
            self._lives[job] = lives
        for life in lives:
            life.start()
