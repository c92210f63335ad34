"""`watcher check` names each missing action of `deploy/policy.json`, so every action there is needed.

The sandbox's IAM checks each request against the policies of the user who signed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import arn, changed, configured
from tests.e2e.deployment import Deployment, actions, deploy
from tests.e2e.user import enforced_permissions
from tests.stacks import POLICY
from watcher.aws.session import Aws, translate
from watcher.cli.check_result import Check, State
from watcher.cli.preflight import preflight
from watcher.config.settings import Config
from watcher.errors import AccessDenied
from watcher.sandbox.process import Sandbox

ELSEWHERE = {"sagemaker:StopTrainingJob", "sts:AssumeRole"}
"""Tested separately: the sandbox's IAM, unlike AWS's, cannot simulate whether a stop is allowed, and a role
is assumed only when there is a member account."""
GRANTED = [(statement["Sid"], action) for statement in POLICY["Statement"] for action in actions(statement)]


@pytest.fixture(scope="module")
def deployment(
    _shared_sandbox: Sandbox, trial: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """One deployment for all tests of this module, which do not change it."""
    sandbox = _shared_sandbox
    sandbox.control.reset()
    with SlackDouble() as slack, pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            environment.delenv(name, raising=False)
        for name, value in sandbox.env.items():
            environment.setenv(name, value)
        config = configured(slack, tmp_path_factory.mktemp("deployment"))
        deployment = deploy(sandbox, config, trial[0])
        with enforced_permissions(sandbox):
            yield deployment


def checked(config: Config) -> dict[str, Check]:
    return {check.name: check for check in preflight(config, "watcher.toml")}


def test_check_finds_nothing_missing(deployment: Deployment):
    deployment.act()

    found = checked(deployment.config)

    not_ok = {name for name, check in found.items() if check.state is not State.OK}
    assert not_ok - {"configuration"} == {"stopping jobs"}


@pytest.mark.parametrize(
    ("statement", "action"), [granted for granted in GRANTED if granted[1] not in ELSEWHERE]
)
def test_check_names_the_action_that_is_missing(deployment: Deployment, statement: str, action: str):
    deployment.act((statement, action))

    missed = [check for check in checked(deployment.config).values() if action in check.fix + check.found]

    assert missed
    assert all(check.state is not State.OK for check in missed)


def test_check_says_that_a_stop_cannot_be_simulated(deployment: Deployment):
    deployment.act()

    found = checked(deployment.config)["stopping jobs"]

    assert found.state is State.WARNING
    assert "not tried, because it would stop a job" in found.found
    assert "sagemaker:StopTrainingJob" in found.fix


def test_check_names_the_role_that_cannot_be_assumed(deployment: Deployment):
    deployment.act(("AssumeMemberRoles", "sts:AssumeRole"))
    role = "arn:aws:iam::444455556666:role/watcher"

    refused = checked(changed(deployment.config, account=[{"role_arn": role}]))[
        f"credentials (us-east-1 as {role})"
    ]

    assert refused.state is State.FAILED
    assert refused.fix == "allow sts:AssumeRole"


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        (
            "sagemaker:DeleteTags",
            lambda aws: aws.sagemaker.delete_tags(ResourceArn=arn("churn"), TagKeys=["team"]),
        ),
        ("s3:ListBucket", lambda aws: aws.s3.list_objects_v2(Bucket="somebody-elses")),
        ("logs:GetLogEvents", lambda aws: aws.logs.get_log_events(logGroupName="/app", logStreamName="1")),
        ("sqs:PurgeQueue", lambda aws: aws.sqs("us-east-1").purge_queue(QueueUrl="http://localhost/1/other")),
        (
            "sqs:ReceiveMessage",
            lambda aws: aws.sqs("us-east-1").receive_message(QueueUrl="http://localhost/1/o"),
        ),
        ("iam:ListUsers", lambda aws: aws.client("iam").list_users()),
    ],
)
def test_actions_outside_the_policy_are_denied(
    deployment: Deployment, operation: str, call: Callable[[Aws], Any]
):
    deployment.act()

    with pytest.raises(AccessDenied), translate(operation):
        call(Aws("us-east-1"))
