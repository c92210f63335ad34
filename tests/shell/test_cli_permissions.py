"""`watcher permissions`: what IAM's policy simulator says of a role, in the sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import code_blocks, read
from tests.docs.shapes import shape
from tests.shell.conftest import CommandResult
from tests.shell.test_cli_check import assume_role
from watcher.sandbox.process import Sandbox

Watcher = Callable[..., CommandResult]
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/teams/ml/watcher"
BUCKET = "team"
POLICY = json.loads(
    read("deploy/policy.json").replace("111122223333", ACCOUNT).replace("BUCKET-OF-YOUR-JOBS", BUCKET)
)
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    ],
}


def without(*statements: str) -> dict[str, Any]:
    kept = [each for each in POLICY["Statement"] if each["Sid"] not in statements]
    return {**POLICY, "Statement": kept}


def put_role(sandbox: Sandbox, policy: dict[str, Any]) -> None:
    with closing(sandbox.client("iam")) as iam:
        iam.create_role(RoleName="watcher", Path="/teams/ml/", AssumeRolePolicyDocument=json.dumps(TRUST))
        iam.put_role_policy(RoleName="watcher", PolicyName="watch", PolicyDocument=json.dumps(policy))


@pytest.fixture
def jobs(aws_environment: Sandbox) -> Sandbox:
    """A job that saves tensors in the bucket of the policy."""
    aws_environment.control.put_training_job(
        "churn", DebugHookConfig={"S3OutputPath": f"s3://{BUCKET}/debug"}
    )
    return aws_environment


def decisions(ran: CommandResult) -> dict[str, bool]:
    return {each["action"]: each["allowed"] for each in ran.json["verdicts"]}


def test_a_role_with_the_policy_may_do_all_that_the_settings_need(watcher: Watcher, jobs: Sandbox):
    put_role(jobs, POLICY)
    Path("watcher.toml").write_text(
        f"""
        [store]
        url = "dynamodb://TABLE"
        [rules]
        log_group = "LOG-GROUP"
        [[account]]
        role_arn = "arn:aws:iam::999999999999:role/watcher"
        [[route]]
        to = ["sns:arn:aws:sns:us-east-1:{ACCOUNT}:TOPIC"]
        stop = true
        """
    )

    ran = watcher("permissions", "--role", ROLE, "--json")

    assert (ran.code, ran.json["allowed"], ran.json["not_asked"]) == (0, True, [])
    asked = {each["statement"] for each in ran.json["verdicts"]}
    assert asked == {each["Sid"] for each in POLICY["Statement"]} - {"UseQueue", "CountDeadLetters"}
    assert {tuple(each["by"]) for each in ran.json["verdicts"]} != {()}


def test_the_queue_and_its_dead_letter_queue_are_asked_about(watcher: Watcher, jobs: Sandbox):
    put_role(jobs, POLICY)
    with closing(jobs.client("sqs")) as sqs:
        sqs.create_queue(QueueName="DEAD-LETTER-QUEUE")
        dead = f"arn:aws:sqs:us-east-1:{ACCOUNT}:DEAD-LETTER-QUEUE"
        redrive = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": 3})
        url = sqs.create_queue(QueueName="QUEUE", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    Path("watcher.toml").write_text(f'[watch]\nqueue_url = "{url}"')

    ran = watcher("permissions", "--role", ROLE, "--json")

    assert ran.code == 0
    of_queues = {
        each["resource"].rpartition(":")[2] for each in ran.json["verdicts"] if "sqs" in each["action"]
    }
    assert of_queues == {"QUEUE", "DEAD-LETTER-QUEUE"}


def test_the_role_of_the_session_is_judged_by_default(
    watcher: Watcher, jobs: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    put_role(jobs, POLICY)
    assume_role(jobs, monkeypatch, "teams/ml/watcher")

    ran = watcher("permissions", "--json")

    assert (ran.code, ran.json["principal"]) == (0, ROLE)


def test_what_is_missing_gives_exit_code_1_and_its_row(watcher: Watcher, jobs: Sandbox):
    put_role(jobs, without("ReadDebugOutput"))

    ran, printed = watcher("permissions", "--role", ROLE, "--json"), watcher("permissions", "--role", ROLE)

    assert (ran.code, printed.code) == (1, 1)
    assert [action for action, allowed in decisions(ran).items() if not allowed] == ["s3:GetObject"]
    [row] = [line for line in printed.out.splitlines() if "s3:GetObject" in line]
    key = f"arn:aws:s3:::{BUCKET}/debug/churn/debug-output/index/0"
    assert row.split() == ["no", "s3:GetObject", key, "no", "statement", "-"]


def test_a_statement_that_forbids_is_told_from_none_that_allows(watcher: Watcher, jobs: Sandbox):
    forbids = {"Sid": "No", "Effect": "Deny", "Action": "sagemaker:Search", "Resource": "*"}
    put_role(jobs, {**POLICY, "Statement": [*POLICY["Statement"], forbids]})

    ran = watcher("permissions", "--role", ROLE)

    assert ran.code == 1
    [row] = [line for line in ran.out.splitlines() if "sagemaker:Search" in line]
    assert row.split()[:2] == ["denied", "sagemaker:Search"]


def test_any_action_can_be_asked_about_on_any_resource(watcher: Watcher, jobs: Sandbox):
    put_role(jobs, POLICY)
    ask = ("permissions", "--role", ROLE, "--json", "--action", "s3:GetObject", "--action", "s3:PutObject")

    ran = watcher(*ask, "--resource", f"arn:aws:s3:::{BUCKET}/a", "--resource", "arn:aws:s3:::other/a")

    assert ran.code == 1
    assert {(each["action"], each["resource"]) for each in ran.json["verdicts"] if each["allowed"]} == {
        ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/a")
    }
    assert len(ran.json["verdicts"]) == 4


def test_without_a_job_that_saves_tensors_their_bucket_is_not_asked_about(
    watcher: Watcher, aws_environment: Sandbox
):
    put_role(aws_environment, POLICY)

    ran = watcher("permissions", "--role", ROLE, "--json")

    assert ran.code == 0
    [sentence] = ran.json["not_asked"]
    assert "name the bucket: --action s3:ListBucket --resource arn:aws:s3:::BUCKET" in sentence


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--role", "watcher"], "--role watcher: write the ARN, such as arn:aws:iam::"),
        (["--resource", "arn:aws:s3:::b"], "--resource needs --action"),
        (
            ["--role", f"arn:aws:iam::{ACCOUNT}:role/nobody"],
            "IAM has no arn:aws:iam::123456789012:role/nobody",
        ),
        (["--role", f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"], "is no role, user or group"),
        (["--role", f"arn:aws:iam::{ACCOUNT}:root"], "root is no role, user or group"),
        (
            ["--role", ROLE, "--action", "s3:*"],
            "Invalid Entity Action: s3:*): write an action without wildcards",
        ),
    ],
)
def test_what_iam_cannot_judge_is_a_usage_error_with_the_next_step(
    watcher: Watcher, jobs: Sandbox, arguments: list[str], said: str
):
    put_role(jobs, POLICY)

    ran = watcher("permissions", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_a_user_is_judged_by_its_own_policies(
    watcher: Watcher, jobs: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    with closing(jobs.client("iam")) as iam:
        iam.create_user(UserName="anna")
        iam.put_user_policy(UserName="anna", PolicyName="watch", PolicyDocument=json.dumps(POLICY))
        key = iam.create_access_key(UserName="anna")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])

    ran = watcher("permissions", "--json")

    assert (ran.code, ran.json["principal"]) == (0, f"arn:aws:iam::{ACCOUNT}:user/anna")


def test_without_the_permission_to_ask_the_error_says_what_to_do(watcher: Watcher, jobs: Sandbox):
    put_role(jobs, POLICY)
    jobs.control.inject_fault("iam:SimulatePrincipalPolicy", "AccessDenied", "not authorized", times=1)

    ran = watcher("permissions", "--role", ROLE)

    assert (ran.code, ran.out) == (1, "")
    assert "no permission for iam:SimulatePrincipalPolicy" in ran.err
    assert ran.err.endswith("or sign in as somebody who has it, and name the role with --role ARN\n")


def test_the_json_has_the_shape_on_the_page(watcher: Watcher, jobs: Sandbox):
    put_role(jobs, without("ReadDebugOutput"))
    [shown] = (
        json.loads(text) for text in code_blocks(read("docs/commands.md"), "json") if '"principal"' in text
    )

    real = watcher("permissions", "--role", ROLE, "--json").json

    real["verdicts"] = [each for each in real["verdicts"] if not each["allowed"]]
    assert shape(shown) == shape(real)
