"""The image of Debugger's rules: `python -m watcher.sandbox.containers.rule JOB.json`.

It follows the tensors of a training job while that runs, and evaluates one rule on them until the rule
fires or the training ends. JOB.json:

    {"TrainingJobName", "TrainingJobArn", "RuleConfigurationName", "RuleParameters": {…},
     "S3OutputPath": "s3://…/JOB/debug-output", "TrainingJobEndedFile": "PATH"}

The file at TrainingJobEndedFile appears when the training has ended. The log goes to stderr, in the form
of Debugger's own; the last line of stdout is `{"status", "details", "step"}`, the first two as in
DebugRuleEvaluationStatuses.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import boto3

import rules
from rules import Mode, Rule, RuleError, Status, Step, Verdict
from watcher.aws.event_files import UnreadableStep
from watcher.aws.storage import S3Prefix
from watcher.aws.tensors import DebugOutput, Reader
from watcher.errors import WatcherError

ROUND = 0.5
"""Seconds between two looks at what was saved."""

NOTHING_SAVED = (
    "ClientError: No debugging data was saved by the training job. Check that the debugger hook was "
    "configured correctly before starting the training job. Exception: Training job has ended. "
    "All the collection files could not be loaded"
)
"""In AWS's words."""

log = logging.getLogger("rule")


@dataclass(frozen=True, slots=True)
class Result:
    status: str
    details: str = ""
    step: int | None = None


def main() -> None:
    logging.basicConfig(
        level=logging.WARNING,
        stream=sys.stderr,
        format=f"[%(asctime)s.%(msecs)03d ip-10-0-0-1:{os.getpid()} %(levelname)s %(filename)s:%(lineno)d]"
        " %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    log.setLevel(logging.INFO)
    job = json.loads(Path(sys.argv[1]).read_text())
    ended = Path(job["TrainingJobEndedFile"])
    try:
        output = DebugOutput(S3Prefix(boto3.client("s3"), job["S3OutputPath"]))
        result = evaluate(job, output, ended.exists)
    except (RuleError, WatcherError) as error:
        result = Result("Error", f"ClientError: {error}")
    if result.status == "Error":
        log.error("Exception during rule evaluation: %s", result.details)
    print(json.dumps(asdict(result)))  # noqa: T201 - the answer to the control plane


def evaluate(job: Mapping[str, Any], output: DebugOutput, ended: Callable[[], bool]) -> Result:
    configuration, parameters = job["RuleConfigurationName"], job["RuleParameters"]
    rule = rules.load(parameters.get("rule_to_invoke", configuration), parameters)
    log.info("Loading trial base_trial at path %s", output.uri)
    follower = Follower(rule, output)
    while True:
        last_look = ended()  # asked first, so that all that was saved before the end is still read
        if verdict := follower.look(ended=last_look) or rule.tick(time.time()):
            return fired(rule, configuration, verdict)
        if last_look:
            break
        time.sleep(ROUND)
    if not follower.started:
        return Result("Error", NOTHING_SAVED)
    verdict = rule.verdict(ended=True)
    log.info("Training job has ended. The rule %s has checked %d steps", rule.name, verdict.steps_checked)
    if verdict.status is Status.NOT_EVALUATED:  # Debugger has no such status, and says NoIssuesFound
        log.warning("The rule %s has evaluated nothing: %s", rule.name, verdict.explanation)
    return Result("NoIssuesFound", step=verdict.step)


class Follower:
    """Gives a rule what was saved since the last look, and nothing twice."""

    def __init__(self, rule: Rule, output: DebugOutput) -> None:
        self._rule, self._reader = rule, Reader(output)
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
        for saved in self._reader.read(wanted=self._rule.wants, ended=ended):
            if isinstance(saved, UnreadableStep):
                log.warning("Skipping a file that cannot be read: %s", saved.reason)
                continue
            if saved.step <= self._newest:
                continue  # the same step of another worker, of which a rule reads the first; or a late one
            if self._newest < 0:
                log.info("Started execution of rule %s at step %d", self._rule.name, saved.step)
            self._newest = saved.step
            step = Step(saved.step, Mode(saved.mode), saved.mode_step)
            if verdict := self._rule.observe(step, saved.tensors):
                return verdict
        return None


def fired(rule: Rule, configuration: str, verdict: Verdict) -> Result:
    log.warning("%s%s at step %s. %s", rule.complaint, _span(verdict), verdict.step, verdict.explanation)
    details = (
        f"RuleEvaluationConditionMet: Evaluation of the rule {configuration} at step {verdict.step}"
        " resulted in the condition being met\n"
    )
    log.error("Exception during rule evaluation: %s", details.rstrip())
    return Result("IssuesFound", details, verdict.step)


def _span(verdict: Verdict) -> str:
    """Over how many steps the deciding comparison went, where it was one between two steps."""
    decided = verdict.evidence[0] if verdict.evidence else None
    if decided is None or decided.previous_step is None:
        return ""
    return f" over the last {decided.step - decided.previous_step} steps"


if __name__ == "__main__":
    main()
