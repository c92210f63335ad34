"""A refusal is logged once, and refused credentials are renewed where they were refused."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import TRIED_AGAIN, RefusedCalls
from watcher.aws.session import Aws
from watcher.config.settings import Account
from watcher.errors import AccessDenied, AwsError, CredentialsError

SEARCH, PUT = "sagemaker:Search", "logs:PutLogEvents"
ROLES = [Account(role_arn=f"arn:aws:iam::{account * 12}:role/watcher") for account in ("4", "7")]


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Accounts:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return Accounts("us-east-1", ROLES)


@pytest.fixture
def refused(accounts: Accounts) -> RefusedCalls:
    return RefusedCalls(accounts)


def renewed(accounts: Accounts, refused: RefusedCalls, error: AwsError, place: Aws | None) -> list[bool]:
    """Which accounts have their credentials renewed: home, and the two members."""
    before = [place.logs for place in accounts.places]
    refused.report(error, TRIED_AGAIN, place)
    return [place.logs is not client for place, client in zip(accounts.places, before, strict=True)]


def test_credentials_refused_at_home_are_renewed_only_there(accounts: Accounts, refused: RefusedCalls):
    expired = CredentialsError("expired", operation=SEARCH)

    assert renewed(accounts, refused, expired, accounts.home) == [True, False, False]


def test_a_role_whose_credentials_are_refused_is_assumed_again_with_renewed_credentials(
    accounts: Accounts, refused: RefusedCalls
):
    expired = CredentialsError("expired", operation="sts:AssumeRole")

    assert renewed(accounts, refused, expired, accounts.places[1]) == [True, True, False]


def test_all_credentials_are_renewed_when_the_refusing_account_is_unknown(
    accounts: Accounts, refused: RefusedCalls
):
    expired = CredentialsError("expired", operation=SEARCH)

    assert renewed(accounts, refused, expired, None) == [True, True, True]


def test_a_missing_permission_renews_no_credentials(accounts: Accounts, refused: RefusedCalls):
    denied = AccessDenied("not allowed", operation=SEARCH)

    assert renewed(accounts, refused, denied, accounts.home) == [False, False, False]


def test_a_refusal_is_logged_when_it_starts_and_when_it_ends(accounts: Accounts, refused: RefusedCalls):
    with capture_logs() as logged:
        for _ in range(3):
            with refused.reported(TRIED_AGAIN, accounts.home) as errors:
                raise AccessDenied("not allowed", operation=SEARCH)
            assert [error.operation for error in errors] == [SEARCH]
        refused.resolved(PUT, accounts.home)
        for _ in range(2):
            refused.resolved(SEARCH, accounts.home)

    lines = [(line["event"], line["at"]) for line in logged if line["log_level"] != "debug"]
    assert lines == [("aws_refused", "us-east-1"), ("aws_answers_again", "us-east-1")]


def test_the_same_refusal_of_another_account_is_logged_separately(accounts: Accounts, refused: RefusedCalls):
    with capture_logs() as logged:
        for place in accounts.places:
            refused.report(AccessDenied("not allowed", operation=SEARCH), TRIED_AGAIN, place)
        refused.resolved(SEARCH, accounts.home)

    assert [line["at"] for line in logged] == [*(place.name for place in accounts.places), "us-east-1"]


def test_a_response_of_another_account_ends_the_refusal_of_its_role(
    accounts: Accounts, refused: RefusedCalls
):
    member = accounts.places[1]
    refused.report(AccessDenied("not allowed", operation="sts:AssumeRole"), TRIED_AGAIN, member)

    with capture_logs() as logged:
        refused.resolved(SEARCH, member)

    assert [line["operation"] for line in logged] == ["sts:AssumeRole"]


def test_an_error_of_another_kind_is_raised(refused: RefusedCalls):
    with pytest.raises(KeyError), refused.reported(TRIED_AGAIN):
        raise KeyError("a fault of ours")
