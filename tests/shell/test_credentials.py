"""Trouble with credentials, in every form, is a refused call that says how to fix it."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.errors import CredentialsError
from watcher.sandbox.process import Sandbox

ROLE = "arn:aws:iam::123456789012:role/watcher"
SSO = """
[profile signed-out]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = watcher
[sso-session corp]
sso_region = us-east-1
sso_start_url = https://corp.awsapps.com/start
"""
LEGACY_SSO = """
[profile signed-out]
sso_start_url = https://corp.awsapps.com/start
sso_region = us-east-1
sso_account_id = 123456789012
sso_role_name = watcher
"""

FORMS: Mapping[str, tuple[dict[str, str], str]] = {
    "a helper that fails": ({}, "[default]\ncredential_process = false\n"),
    "a helper that is missing": ({}, "[default]\ncredential_process = /no/such/helper\n"),
    "a helper that is not executable": ({}, "[default]\ncredential_process = /etc/passwd\n"),
    "a helper that writes no JSON": ({}, "[default]\ncredential_process = echo signed out\n"),
    "a helper of another version": ({}, "[default]\ncredential_process = echo '{\"Version\": 7}'\n"),
    "a helper without a secret": ({}, "[default]\ncredential_process = echo '{\"Version\": 1}'\n"),
    "a missing token file": ({"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such/token"}, ""),
    "a profile with a typo": ({"AWS_PROFILE": "prdo"}, ""),
    "a profile without a source": (
        {"AWS_PROFILE": "a"},
        f"[profile a]\nrole_arn = {ROLE}\nsource_profile = b\n",
    ),
    "profiles in a circle": (
        {"AWS_PROFILE": "a"},
        f"[profile a]\nrole_arn = {ROLE}\nsource_profile = b\n[profile b]\nrole_arn = {ROLE}\n"
        "source_profile = a\n",
    ),
    "an unknown source": (
        {"AWS_PROFILE": "a"},
        f"[profile a]\nrole_arn = {ROLE}\ncredential_source = Nowhere\n",
    ),
    "a signed-out session": ({"AWS_PROFILE": "signed-out"}, SSO),
    "a signed-out legacy session": ({"AWS_PROFILE": "signed-out"}, LEGACY_SSO),
    "a container's host that is not allowed": (
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://198.51.100.1/credentials"},
        "",
    ),
    "a container's token file that is missing": (
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/no/such/token",
        },
        "",
    ),
    "a container's token with a line break": (
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "a\nb",
        },
        "",
    ),
    "an access key without a secret": ({"AWS_ACCESS_KEY_ID": "AKIA"}, ""),
    "a configuration that cannot be read": ({}, "[default\nregion"),
    "no credentials at all": ({}, ""),
}


@pytest.fixture
def signed_out(aws_environment: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without credentials. Returns the place of the configuration."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path / "config"


@pytest.mark.parametrize("form", FORMS)
def test_it_is_a_refused_call(form: str, signed_out: Path, monkeypatch: pytest.MonkeyPatch):
    environment, text = FORMS[form]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    signed_out.write_text(text)
    for region in ("us-east-1", ""):
        with pytest.raises(CredentialsError, match="no usable AWS credentials for") as error:
            TrainingJobs(Aws(region)).describe("churn")
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 800


def test_it_is_logged_once_and_over_when_the_helper_works_again(signed_out: Path):
    accounts = Accounts("us-east-1")
    refused = RefusedCalls(accounts)
    helper = signed_out.with_name("helper")
    helper.write_text("#!/bin/sh\nexit 3\n")
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    signed_out.write_text(f"[default]\ncredential_process = {helper}\n")

    with capture_logs() as logs:
        for _ in range(3):
            with refused.reported("tried again", accounts.home):
                list(TrainingJobs(accounts.home).in_progress({}))
        answer = {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "s"}
        helper.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
        with refused.reported("tried again", accounts.home) as errors:
            assert list(TrainingJobs(accounts.home).in_progress({})) == [[]]
            refused.resolved("sagemaker:Search", accounts.home)

    assert errors == []
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["aws_refused"]
