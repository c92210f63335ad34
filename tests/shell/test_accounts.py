"""Several accounts and regions: each is reached with its own credentials, and a refusal names the role."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from watcher.aws.accounts import Accounts
from watcher.aws.session import translate
from watcher.config.settings import Account
from watcher.errors import AccessDenied
from watcher.sandbox.process import Sandbox

MEMBER = "444455556666"
ROLE = f"arn:aws:iam::{MEMBER}:role/watcher"
MEMBER_ACCOUNT = Account(role_arn=ROLE, external_id=SecretStr("s3cret"), regions=("eu-west-1", "us-east-1"))


def caller(accounts: Accounts, arn: str) -> str:
    return str(accounts.of(arn).sts.get_caller_identity()["Account"])


def job(account: str, region: str = "us-east-1") -> str:
    return f"arn:aws:sagemaker:{region}:{account}:training-job/churn"


def test_without_member_accounts_there_is_one_account_and_region(aws_environment: Sandbox):
    accounts = Accounts()

    assert accounts.places == [accounts.home]
    assert accounts.of(job("123456789012")) is accounts.home


def test_each_account_and_region_is_separate(aws_environment: Sandbox):
    more_at_home = Account(regions=("us-east-1", "eu-central-1"))
    accounts = Accounts("us-east-1", [more_at_home, MEMBER_ACCOUNT])

    assert [place.region for place in accounts.places] == [
        "us-east-1",
        "eu-central-1",
        "eu-west-1",
        "us-east-1",
    ]
    assert accounts.places == accounts.places


def test_a_member_accounts_jobs_are_reached_through_its_role(aws_environment: Sandbox):
    accounts = Accounts("us-east-1", [MEMBER_ACCOUNT])

    assert caller(accounts, job(MEMBER)) == MEMBER
    assert caller(accounts, job("123456789012")) != MEMBER
    assert accounts.of(job(MEMBER, "eu-west-1")).region == "eu-west-1"


def test_a_role_is_assumed_once_for_many_requests(aws_environment: Sandbox):
    accounts = Accounts("us-east-1", [MEMBER_ACCOUNT])
    for _ in range(5):
        caller(accounts, job(MEMBER))

    assert aws_environment.control.calls()["sts:AssumeRole"] == 1


def test_credentials_are_renewed_before_they_expire(aws_environment: Sandbox):
    accounts = Accounts("us-east-1", [MEMBER_ACCOUNT])
    caller(accounts, job(MEMBER))
    session = accounts.of(job(MEMBER))._botocore()
    credentials = session.get_credentials()
    assert credentials is not None
    first = credentials.get_frozen_credentials()

    credentials._expiry_time = datetime.now(UTC) + timedelta(seconds=60)  # type: ignore[attr-defined]
    caller(accounts, job(MEMBER))

    assert credentials.get_frozen_credentials().access_key != first.access_key


def test_a_refusing_role_is_named_and_the_home_account_continues(aws_environment: Sandbox):
    aws_environment.control.inject_fault(
        "sts:AssumeRole", code="AccessDenied", message=f"not authorized to perform sts:AssumeRole on {ROLE}"
    )
    accounts = Accounts("us-east-1", [MEMBER_ACCOUNT])

    with (
        pytest.raises(AccessDenied, match=rf"sts:AssumeRole.*{ROLE}") as refused,
        translate("sagemaker:Search"),
    ):
        accounts.of(job(MEMBER)).sagemaker.search(Resource="TrainingJob")
    assert refused.value.operation == "sts:AssumeRole"
    accounts.home.sagemaker.search(Resource="TrainingJob")


def test_a_place_is_covered_if_the_settings_name_its_account_and_region():
    more_at_home = Account(regions=("us-east-1", "eu-central-1"))
    accounts = Accounts("us-east-1", [more_at_home, MEMBER_ACCOUNT])
    covered = [(MEMBER, "eu-west-1"), ("123456789012", "us-east-1"), ("123456789012", "eu-central-1")]

    assert all(accounts.covers(job(*place)) for place in covered)
    assert not accounts.covers(job(MEMBER, "eu-central-1"))
    assert not accounts.covers(job("123456789012", "eu-west-1"))


def test_another_account_is_not_covered_once_an_answer_has_named_the_own_one():
    accounts = Accounts("us-east-1", [MEMBER_ACCOUNT])
    accounts.learn(job(MEMBER))  # a member's answer does not say which account is home
    accounts.learn(job("123456789012"))
    accounts.learn(job("999999999999"))

    assert accounts.covers(job("123456789012"))
    assert not accounts.covers(job("999999999999"))
