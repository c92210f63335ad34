"""Stands for the image of Debugger's rules: `python -m watcher.sandbox.containers.rule JOB.json`.

It reads the tensors of a training job while the job runs, and evaluates one rule on them until the rule
fires or the training ends. The rule is one of Debugger's, or a custom one whose source lies on S3. A
profiler rule reads the profiler's output instead. JOB.json:

    {"TrainingJobName", "TrainingJobArn", "RuleConfigurationName", "RuleParameters": {…},
     "S3OutputPath": "s3://…/JOB/debug-output" or "s3://…/JOB/profiler-output",
     "RuleOutputPath": "s3://…/JOB/rule-output/NAME", "TrainingJobEndedFile": "PATH"}

The file at TrainingJobEndedFile appears when the training has ended. The log goes to stderr, in the form
of Debugger's own (see `watcher.logs.rule_log`); the last line of stdout is `{"status", "details", "step"}`,
the first two as in DebugRuleEvaluationStatuses.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3

import rules
from rules import Rule, RuleError, Status, Verdict, profiler
from watcher.aws.session import translate
from watcher.debug_output.event_files import UnreadableStep
from watcher.debug_output.reader import DebugOutput, Reader
from watcher.debug_output.storage import S3Prefix
from watcher.errors import WatcherError
from watcher.evaluation import feed
from watcher.logs import rule_log

POLL_INTERVAL_S = 0.5
"""Between two reads of the saved tensors."""

NOTHING_SAVED = (
    "ClientError: No debugging data was saved by the training job. Check that the debugger hook was "
    "configured correctly before starting the training job. Exception: Training job has ended. "
    "All the collection files could not be loaded"
)
"""The text is AWS's."""

REPORT = "CreateXgboostReport"
"""The rule of Debugger that finds nothing, but writes a report."""

Say = Callable[[rule_log.Record], None]


@dataclass(frozen=True, slots=True)
class Result:
    status: str
    details: str = ""
    step: int | None = None


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    configuration, ended = job["RuleConfigurationName"], Path(job["TrainingJobEndedFile"])
    host = f"ip-10-0-0-1:{os.getpid()}"

    def say(line: rule_log.Record) -> None:
        print(rule_log.formatted(line, datetime.now(UTC), host, configuration), file=sys.stderr)  # noqa: T201

    parameters = job["RuleParameters"]
    try:
        if job["S3OutputPath"].endswith("/profiler-output"):
            result = profile(job, ended.exists, say)
        else:
            output = DebugOutput(S3Prefix(boto3.client("s3"), job["S3OutputPath"]))
            if parameters.get("rule_to_invoke", configuration) == REPORT:
                result = report(job, output, ended.exists, say)
            else:
                result = evaluate(configuration, parameters, output, ended.exists, say)
    except (RuleError, WatcherError) as error:
        result = Result("Error", f"ClientError: {error}")
    if result.status == "Error":
        say(rule_log.failed(result.details))
    print(json.dumps(asdict(result)))  # noqa: T201 - the answer to the control plane


def evaluate(
    configuration: str,
    parameters: Mapping[str, str],
    output: DebugOutput,
    ended: Callable[[], bool],
    say: Say,
) -> Result:
    name = parameters.get("rule_to_invoke", configuration)
    if "source_s3_uri" in parameters:
        return evaluate_custom(configuration, parameters, output, ended, say)
    rule = rules.load(name, parameters)
    say(rule_log.loading(output.uri))
    follower = Follower(rule, output, say)
    while True:
        last_look = ended()  # checked before reading, so that everything saved before the end is read
        verdict = follower.look(ended=last_look) or rule.tick(time.time())
        if verdict or last_look:
            break
        time.sleep(POLL_INTERVAL_S)
    if verdict is None:
        if not follower.started:
            return Result("Error", NOTHING_SAVED)
        verdict = rule.verdict(ended=True)
    for line in rule_log.concluded(rule, configuration, verdict):
        say(line)
    if verdict.status is Status.ISSUES_FOUND:
        return Result("IssuesFound", rule_log.condition_met(configuration, verdict.step), verdict.step)
    return Result("NoIssuesFound", step=verdict.step)


def report(job: Mapping[str, Any], output: DebugOutput, ended: Callable[[], bool], say: Say) -> Result:
    from watcher.sandbox.containers import xgboost_report

    say(rule_log.loading(output.uri))
    while not ended():
        time.sleep(POLL_INTERVAL_S)
    if output.collections() is None:
        return Result("Error", NOTHING_SAVED)
    xgboost_report.write(boto3.client("s3"), job["TrainingJobName"], output, job["RuleOutputPath"])
    say(rule_log.Record("INFO", f"The report is {job['RuleOutputPath']}/{xgboost_report.NAME}"))
    return Result("NoIssuesFound")


def evaluate_custom(
    configuration: str,
    parameters: Mapping[str, str],
    output: DebugOutput,
    ended: Callable[[], bool],
    say: Say,
) -> Result:
    from watcher.evaluation import custom_rule  # imports smdebug, which takes a second

    name = parameters.get("rule_to_invoke", configuration)
    with TemporaryDirectory() as directory:
        source = download(parameters["source_s3_uri"], Path(directory))
        rule = custom_rule.CustomRule(custom_rule.load(name, source), parameters, output)
        say(rule_log.loading(output.uri))
        while True:
            last_look = ended()
            if verdict := rule.look(ended=last_look):
                break
            time.sleep(POLL_INTERVAL_S)
    if verdict.reason == "nothing_saved":
        return Result("Error", NOTHING_SAVED)
    if verdict.status is Status.ERROR:
        return Result("Error", f"InternalServerError: {verdict.explanation}")
    if verdict.status is Status.ISSUES_FOUND:
        met = rule_log.condition_met(configuration, verdict.step)
        say(rule_log.failed(met))
        return Result("IssuesFound", met, verdict.step)
    checked = f"Training job has ended. The rule {name} has checked {verdict.steps_checked} steps"
    say(rule_log.Record("INFO", checked))
    return Result("NoIssuesFound", step=verdict.step)


def download(uri: str, directory: Path) -> Path:
    """The source of a custom rule, which is a file at this place on S3."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    file = directory / Path(key).name
    with translate(f"reading the source of the rule at {uri}"):
        file.write_bytes(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    return file


def profile(job: Mapping[str, Any], ended: Callable[[], bool], say: Say) -> Result:
    from watcher.sandbox.containers import profiler_rule

    s3, configuration = boto3.client("s3"), job["RuleConfigurationName"]
    output = profiler_rule.output_of(s3, job["S3OutputPath"])
    rule, verdict = profiler_rule.evaluate(configuration, job["RuleParameters"], output, ended, say)
    if isinstance(rule, profiler.ProfilerReport):
        profiler_rule.write_report(s3, rule, output.uri, job["RuleOutputPath"])
    fired = verdict.status is Status.ISSUES_FOUND
    status = "IssuesFound" if fired else "NoIssuesFound"
    return Result(status, profiler_rule.details(configuration, verdict))


class Follower:
    """Shows a rule what was saved since the last look, each step once."""

    def __init__(self, rule: Rule, output: DebugOutput, say: Say) -> None:
        self._rule, self._reader, self._say = rule, Reader(output), say
        self._newest = -1
        self.started = False
        """Whether there is debug output at all."""

    def look(self, *, ended: bool) -> Verdict | None:
        if not self.started:
            collections = self._reader.collections()
            if collections is None:
                return None
            self._rule.learn(collections.by_name)
            self.started = True
        steps = self._reader.read(wanted=self._rule.wants, ended=ended)
        for saved in feed.for_rules(steps, unreadable=self._skipped):
            if saved.step <= self._newest:
                continue  # the file of another worker, for a step that the rule has seen
            if self._newest < 0:
                self._say(rule_log.started(self._rule, saved.step))
            self._newest = saved.step
            if verdict := feed.observe(self._rule, saved):
                return verdict
        return None

    def _skipped(self, step: UnreadableStep) -> None:
        self._say(rule_log.skipped(step.reason))


if __name__ == "__main__":
    main()
