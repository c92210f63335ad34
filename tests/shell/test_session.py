"""Every kind of AWS refusal becomes an error that names the operation and the fix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from botocore.exceptions import ClientError

from watcher.aws.queue import Queue
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws, translate
from watcher.errors import (
    AccessDenied,
    AwsError,
    ConfigError,
    CredentialsError,
    NotFound,
    Unavailable,
    WatcherError,
)
from watcher.sandbox.process import Sandbox


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("AccessDeniedException", 400, AccessDenied),
        ("ExpiredTokenException", 400, CredentialsError),
        ("UnrecognizedClientException", 400, CredentialsError),
        ("InvalidSignatureException", 403, CredentialsError),
        ("InternalFailure", 500, Unavailable),
        ("ServiceUnavailable", 503, Unavailable),
        ("ResourceInUse", 400, AwsError),
    ],
)
def test_a_refusal_names_the_operation(
    aws_environment: Sandbox, code: str, status: int, error: type[AwsError]
):
    aws_environment.control.inject_fault("sagemaker:StopTrainingJob", code, "because", status=status)
    with pytest.raises(error, match="sagemaker:StopTrainingJob") as refused:
        TrainingJobs(Aws()).stop("churn")
    assert type(refused.value) is error
    assert refused.value.operation == "sagemaker:StopTrainingJob"


def test_throttling_that_outlasts_the_retries_is_unavailable():
    answer = {"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}
    with pytest.raises(Unavailable, match="Rate exceeded"), translate("sagemaker:Search"):
        raise ClientError(answer, "Search")  # type: ignore[arg-type]


def test_a_missing_job_is_not_found(aws_environment: Sandbox):
    with pytest.raises(NotFound):
        TrainingJobs(Aws()).describe("nobody")


def test_times_are_understood_as_numbers_and_as_text(
    aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    record = {
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/churn",
        "TrainingJobName": "churn",
        "TrainingJobStatus": "InProgress",
        "CreationTime": 1795168900.25,
        "LastModifiedTime": "2026-11-20T12:01:40Z",
    }
    with answering(200, json.dumps(record).encode()) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        job = TrainingJobs(Aws()).describe("churn")

    assert job.created_at == datetime(2026, 11, 20, 10, 1, 40, 250000, UTC)
    assert job.modified_at == datetime(2026, 11, 20, 12, 1, 40, tzinfo=UTC)


def test_a_response_that_is_not_from_aws_is_unavailable(
    aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    with answering(200, b"<html>Sign in to the hotel's network</html>") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(Unavailable):
            TrainingJobs(Aws()).describe("churn")


def test_the_page_of_a_proxy_is_not_in_the_error(aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch):
    with answering(200, b"<!doctype html>\n<p>Sign in") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with (
            pytest.raises(Unavailable, match=r"is a proxy in between\?") as raised,
            translate("iam:ListRoles"),
        ):
            Aws().client("iam").list_roles()
    assert "doctype" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unreachable_endpoint_is_unavailable(aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Unavailable, match="DescribeTrainingJob"):
        TrainingJobs(Aws()).describe("churn")


def test_an_invalid_endpoint_is_a_configuration_error(
    aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "garbage")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL='garbage'"):
        TrainingJobs(Aws()).describe("churn")


def test_a_missing_region_is_a_configuration_error(aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigError, match="region"):
        TrainingJobs(Aws()).describe("churn")


def test_a_missing_profile_is_reported_without_a_traceback(
    aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(WatcherError, match="nobody"):
        TrainingJobs(Aws()).describe("churn")


def test_the_region_is_that_of_aws_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profile = tmp_path / "config"
    profile.write_text("[default]\nregion = eu-west-4\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    found = [Aws("eu-west-1").region, Aws().region]
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
        found.append(Aws().region)

    assert found == ["eu-west-1", "eu-west-2", "eu-west-3", "eu-west-4"]


def test_a_region_of_another_partition_is_reached_at_its_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)

    client = Aws("eusc-de-east-1").sagemaker

    assert client.meta.endpoint_url == "https://api.sagemaker.eusc-de-east-1.amazonaws.eu"


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eusc-de-east-1.amazonaws.eu/111122223333/watcher", "eusc-de-east-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/111122223333/watcher", "cn-north-1"),
        ("https://queue.example/111122223333/watcher", "us-east-1"),
    ],
)
def test_a_queue_is_reached_in_the_region_of_its_url(url: str, region: str) -> None:
    assert Queue(Aws("us-east-1"), url)._sqs.meta.region_name == region
