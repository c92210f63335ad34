"""Watcher as `deploy/` installs it, acting as a user with `deploy/policy.json` or a part of it."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.conftest import changed, issue
from tests.e2e.user import User
from tests.stacks import Stack, create_service
from tests.trials import CREATED_AT, upload
from watcher.config.settings import Config
from watcher.sandbox import cookbook
from watcher.sandbox.cookbook import PARAMETERS
from watcher.sandbox.process import Sandbox

BUCKET = "jobs"
TOPIC = "arn:aws:sns:us-east-1:123456789012:TOPIC"

Permission = tuple[str, str]
"""A statement's id and an action that it allows."""


def actions(statement: dict[str, Any]) -> list[str]:
    return [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]


@dataclass(frozen=True)
class Deployment:
    config: Config
    """A configuration that uses everything in the policy."""
    stack: Stack
    user: User

    def act(self, *without: Permission) -> None:
        """Make this process act as `user`, with the permissions of the task except these. The caller restores
        the environment variables that this sets."""
        allowed = [_less(statement, without) for statement in self.stack.statements("TaskRole")]
        self.user.may([statement for statement in allowed if statement["Action"]])
        os.environ.update(self.user.environment)


def deploy(sandbox: Sandbox, config: Config, trial: Path) -> Deployment:
    """Deploy the stack, and adapt `config` to it. The sandbox has a job with saved tensors."""
    stack = create_service(
        sandbox,
        AllowStopping="yes",
        AlertTopicArns=TOPIC,
        DebugOutputBuckets=f"{BUCKET},{cookbook.BUCKET}",
    )
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    upload(trial, s3, BUCKET, "churn")
    s3.close()
    sandbox.client("sns").create_topic(Name="TOPIC")
    sandbox.control.put_training_job(
        "churn",
        CreationTime=CREATED_AT,
        Tags=[{"Key": "team", "Value": "risk"}],
        DebugHookConfig={"S3OutputPath": f"s3://{BUCKET}/debug"},
        DebugRuleConfigurations=[
            {
                "RuleConfigurationName": "LossNotDecreasing",
                "RuleEvaluatorImage": "debugger-rules",
                "RuleParameters": {"rule_to_invoke": "LossNotDecreasing", **PARAMETERS},
            }
        ],
        DebugRuleEvaluationStatuses=[issue()],
    )
    sandbox.control.write_logs("churn", ["Loss is not decreasing"], rule="LossNotDecreasing")
    config = changed(
        config,
        watch={"queue_url": stack.outputs["QueueUrl"], "tags": {"team": "risk"}},
        store={"url": f"dynamodb://{stack.outputs['TableName']}"},
        rules={"local": "attach", "log_group": stack.ids["EvaluationLogGroup"]},
        route=[{"to": ["slack:#alerts", f"sns:{TOPIC}"], "stop": True}],
    )
    return Deployment(config, stack, User(sandbox))


def _less(statement: dict[str, Any], without: Collection[Permission]) -> dict[str, Any]:
    left = [action for action in actions(statement) if (statement["Sid"], action) not in without]
    return {**statement, "Action": left}
