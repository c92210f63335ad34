"""What an alert in Slack says about its job, taken from SageMaker's record."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

from tests.doubles.block_kit import problems
from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import issue, running
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox

MEMBERS = {
    "ResourceConfig": {"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 4, "VolumeSizeInGB": 30},
    "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
    "HyperParameters": {"optimizer": '"adam"', "learning-rate": "0.1", "hub_token": "hunter2"},
    "ExperimentConfig": {"ExperimentName": "churn", "TrialName": "deep-trees"},
    "Tags": [{"Key": "team", "Value": "growth"}, {"Key": "aws:createdBy", "Value": "root"}],
    "DebugHookConfig": {"S3OutputPath": "s3://ml-churn/debug"},
}


def alert(config: Config, sandbox: Sandbox, slack: SlackDouble) -> str:
    """The Slack message for a rule that fired on a job that has trained for two hours."""
    began = time.time() - 7200
    sandbox.control.put_training_job(
        "churn",
        CreationTime=began,
        TrainingStartTime=began,
        DebugRuleEvaluationStatuses=[issue()],
        **MEMBERS,
    )
    with running(App(config)):
        eventually(lambda: slack.messages, "an alert")
    [message] = slack.messages
    assert problems(message["blocks"]) == []
    assert "hunter2" not in json.dumps(message)
    return "\n".join("".join(texts(block)) for block in message["blocks"])


def texts(thing: Any) -> Iterator[str]:
    if isinstance(thing, str):
        yield thing
    elif isinstance(thing, list):
        for item in thing:
            yield from texts(item)
    elif isinstance(thing, dict):
        for key in ("text", "elements"):
            yield from texts(thing.get(key))


def test_the_alert_says_what_the_job_costs_and_what_stopping_saves(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    shown = alert(config.model_copy(update={"prices": {"ml.p4d.24xlarge": 25.0}}), sandbox, slack)
    assert "Running for: 2 h" in shown
    assert "Instances: 4 × ml.p4d.24xlarge" in shown
    assert re.search(r"Spend so far: \$20\d\.\d\d, at \$100\.00 an hour", shown)
    assert re.search(r"Stopping now saves: up to \$2,(200|1[89]\d) \(21 h 5\d min until Max", shown)


def test_without_prices_the_alert_shows_hours(config: Config, sandbox: Sandbox, slack: SlackDouble):
    assert re.search(r"Spend so far: 8\.\d\d instance-hours", alert(config, sandbox, slack))


def test_the_alert_identifies_the_run_and_links_to_the_console(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    shown = alert(config, sandbox, slack)
    assert "Hyperparameters: learning-rate = 0.1 · optimizer = adam\n" in shown
    assert "Experiment: churn, trial deep-trees\n" in shown
    assert "Tags: team = growth" in shown
    [posted] = slack.messages
    assert "/s3/buckets/ml-churn?" in json.dumps(posted["blocks"])


def test_missing_evidence_is_named_and_the_rest_is_shown(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    for operation in ("logs:*", "s3:*"):
        sandbox.control.inject_fault(operation, "AccessDeniedException", "not allowed", status=403)
    shown = alert(config, sandbox, slack)
    assert "Not available: " in shown
    assert "Spend so far: " in shown
