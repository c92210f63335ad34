"""Several accounts are watched with their own credentials, and a refusal of one does not block the others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import changed, issue, running, texts
from tests.e2e.user import User, enforced_permissions
from tests.stacks import create
from tests.waiting import eventually
from watcher.cli.preflight import State, preflight
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox

MEMBER, REFUSING = "444455556666", "777788889999"
EXTERNAL_ID = "a-secret-of-both"
HOME: list[Mapping[str, Any]] = [{"Effect": "Allow", "Action": ["sagemaker:*", "logs:*"], "Resource": "*"}]
"""Watcher's permissions in its own account."""


def role(account: str) -> str:
    return f"arn:aws:iam::{account}:role/watcher"


@dataclass(frozen=True)
class Member:
    """Another account, with its administrator's permissions."""

    sandbox: Sandbox
    account: str

    def client(self, service: str) -> Any:
        sts = self.sandbox.client("sts")
        given = sts.assume_role(RoleArn=f"arn:aws:iam::{self.account}:role/admin", RoleSessionName="admin")
        return self.sandbox.client(
            service,
            aws_access_key_id=given["Credentials"]["AccessKeyId"],
            aws_secret_access_key=given["Credentials"]["SecretAccessKey"],
            aws_session_token=given["Credentials"]["SessionToken"],
        )


@pytest.fixture
def member(sandbox: Sandbox) -> Member:
    """An account with the resources of member-account.yaml."""
    bus = sandbox.client("events").create_event_bus(Name="members")["EventBusArn"]
    member = Member(sandbox, MEMBER)
    create(
        member,  # type: ignore[arg-type]
        "member-account.yaml",
        WatcherRoleArn="arn:aws:iam::123456789012:role/TaskRole",
        BusArn=bus,
        ExternalId=EXTERNAL_ID,
        AllowStopping="yes",
    )
    return member


@pytest.fixture
def user(aws_environment: Sandbox, member: Member, monkeypatch: pytest.MonkeyPatch) -> User:
    """Watcher's user, which one account accepts and another does not."""
    allowed = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role(MEMBER)}
    user = User(aws_environment)
    user.may([*HOME, allowed])
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)
    return user


@pytest.fixture
def permissions_enforced(user: User, sandbox: Sandbox) -> Iterator[None]:
    with enforced_permissions(sandbox):
        yield


@pytest.fixture
def several(config: Config) -> Config:
    members = [{"role_arn": role(REFUSING)}, {"role_arn": role(MEMBER), "external_id": EXTERNAL_ID}]
    return changed(config, account=members)


@pytest.mark.usefixtures("permissions_enforced")
def test_an_account_that_refuses_the_role_is_logged_once_and_the_others_continue(
    several: Config, sandbox: Sandbox, slack: SlackDouble
):
    for name, account in {"at-home": "", "churn": MEMBER, "hidden": REFUSING}.items():
        sandbox.control.put_training_job(name, account=account, DebugRuleEvaluationStatuses=[issue()])

    with capture_logs() as logged, running(App(several)) as app:
        eventually(lambda: len(slack.messages) == 2, "an alert of each account that lets Watcher in")
        passes = app.instruments.registry.get_sample_value
        searched = {"service": "sagemaker", "operation": "Search", "result": "ok"}
        eventually(lambda: (passes("watcher_aws_requests_total", searched) or 0) >= 6, "three passes")

    alerts = " ".join(texts(slack))
    assert [name for name in ("at-home", "churn", "hidden") if name in alerts] == ["at-home", "churn"]
    [refusal] = [line for line in logged if line["event"] == "aws_refused"]
    assert refusal["operation"] == "sts:AssumeRole"
    assert refusal["at"] == f"us-east-1 as {role(REFUSING)}"


@pytest.mark.usefixtures("user")
def test_a_job_of_another_account_is_reported_with_its_account_and_stopped_through_its_role(
    several: Config, sandbox: Sandbox, slack: SlackDouble, member: Member
):
    sandbox.control.put_training_job("churn", account=MEMBER, DebugRuleEvaluationStatuses=[issue()])
    stops = changed(several, route=[{"to": ["slack:#alerts"], "stop": True}])

    with enforced_permissions(sandbox), running(App(stops)):
        eventually(lambda: "Stopped by Watcher" in json.dumps(slack.messages), "the stop, verified")

    job = member.client("sagemaker").describe_training_job(TrainingJobName="churn")
    assert job["TrainingJobStatus"] == "Stopped"
    assert f"us-east-1 (account {MEMBER})" in json.dumps(slack.messages[0]["blocks"], ensure_ascii=False)


@pytest.mark.usefixtures("permissions_enforced")
def test_check_says_which_account_refuses(several: Config):
    found = {check.name: check for check in preflight(several, "watcher.toml")}

    assert found[f"credentials (us-east-1 as {role(MEMBER)})"].state is State.OK
    assert found[f"jobs in progress (us-east-1 as {role(MEMBER)})"].state is State.OK
    refused = found[f"credentials (us-east-1 as {role(REFUSING)})"]
    assert (refused.state, refused.fix) == (State.FAILED, "allow sts:AssumeRole")


@pytest.fixture
def credentials_file(user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with this process's credentials, used instead of the environment."""
    for name in user.environment:
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    return file


@pytest.mark.usefixtures("permissions_enforced")
def test_revoked_credentials_are_logged_once_and_new_ones_are_used(
    config: Config, user: User, sandbox: Sandbox, slack: SlackDouble, credentials_file: Path
):
    credentials_file.write_text(profile(user))
    sandbox.control.put_training_job("before", DebugRuleEvaluationStatuses=[issue()])

    with capture_logs() as logged, running(App(config)):
        eventually(lambda: slack.messages, "an alert")
        user.renew_key()
        eventually(lambda: [line for line in logged if line["event"] == "aws_refused"], "a refusal")
        sandbox.control.put_training_job("meanwhile", DebugRuleEvaluationStatuses=[issue()])
        credentials_file.write_text(profile(user))
        eventually(lambda: len(slack.messages) == 2, "the alert of what happened meanwhile")

    refused = [line["operation"] for line in logged if line["event"] == "aws_refused"]
    assert len(refused) == len(set(refused))
    assert "meanwhile" in slack.messages[1]["text"]


def profile(user: User) -> str:
    lines = [f"{name.lower()} = {value}" for name, value in user.environment.items()]
    return "\n".join(["[default]", *lines])
