from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import boto3
import pytest
import structlog
from botocore.config import Config as ClientConfig
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk import WebClient

from watcher import log
from watcher.redaction import MASK, Redactor

BOT_TOKEN = "xoxb-1234567890-abcdefghij"
ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SESSION_TOKEN = "FwoGZXIvYXdzEBY//////////wEaDK4exampletoken=="
UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture
def stream(restored_logging: None) -> io.StringIO:
    """The stream that gets the lines of one test."""
    stream = io.StringIO()
    log.configure(stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# -- format of a line -----------------------------------------------------------------------------


def test_a_line_is_json_with_level_logger_and_the_time_in_utc(stream):
    structlog.get_logger("watcher.delivery.outbox").info("delivered", to="slack:#ml", attempts=2)

    [line] = lines(stream)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "delivered",
        "level": "info",
        "logger": "watcher.delivery.outbox",
        "to": "slack:#ml",
        "attempts": 2,
    }


def test_on_a_terminal_a_line_is_readable(stream, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    log.configure(terminal)

    structlog.get_logger("watcher.delivery.outbox").info("delivered", to="slack:#ml")

    assert "delivered" in terminal.getvalue()
    assert "to=slack:#ml" in terminal.getvalue()
    assert "{" not in terminal.getvalue()


def test_configuring_again_replaces_the_stream_and_repeats_no_line(stream):
    second = io.StringIO()
    log.configure(second)

    structlog.get_logger("watcher.daemon.app").warning("once")

    assert stream.getvalue() == ""
    assert len(lines(second)) == 1


def test_bound_job_and_rule_are_in_every_line_even_of_other_libraries(stream):
    with structlog.contextvars.bound_contextvars(job="churn-xgb", rule="Overfit"):
        structlog.get_logger("watcher.jobs.pipeline").info("looked")
        logging.getLogger("botocore.retries").warning("slow")
    structlog.get_logger("watcher.jobs.pipeline").info("after")

    first, second, after = lines(stream)
    assert (first["job"], first["rule"]) == (second["job"], second["rule"]) == ("churn-xgb", "Overfit")
    assert "job" not in after


def test_debug_lines_of_watcher_are_shown_on_request_and_those_of_other_libraries_never(stream):
    for level in (logging.INFO, logging.DEBUG):
        log.configure(stream, level=level)
        structlog.get_logger("watcher.jobs.pipeline").debug("nothing_new", asked=level)
        logging.getLogger("botocore.endpoint").info("sending")

    assert [line["asked"] for line in lines(stream)] == [logging.DEBUG]


def test_an_exception_is_one_json_line(stream):
    structlog.get_logger("watcher.daemon.app").error("loop_ended", exc_info=ValueError("bad shape"))

    [line] = lines(stream)
    assert "ValueError: bad shape" in str(line["exception"])


# -- secrets --------------------------------------------------------------------------------------


def test_a_known_secret_is_masked_everywhere(stream):
    secret = 'pa"ss\\wörd'
    log.configure(stream, secrets=[secret])
    logger = structlog.get_logger("watcher.daemon.app")

    logger.info(
        f"using {secret}", plain=secret, nested={"a": [secret, (secret,)]}, anything=Exception(secret)
    )
    logger.error("failed", exc_info=RuntimeError(f"could not sign with {secret!r}"))
    logging.getLogger("other").warning("it was %s", secret)

    text = stream.getvalue()
    assert text.count(MASK) >= 6
    for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], "wörd", "w\\u00f6rd"):
        assert form not in text


@pytest.mark.parametrize(
    "text",
    [
        f"token {BOT_TOKEN} refused",
        "xapp-1-A012345-67890-abcdef",
        "xoxe.xoxp-1-Mi0yLTEyMzQ",
        "https://hooks.slack.com/services/T000/B000/abcdefghij",
        f"Credential={ACCESS_KEY}/20261120/us-east-1",
        f"{{'aws_secret_access_key': '{SECRET_KEY}'}}",
        f'{{"SecretAccessKey": "{SECRET_KEY}", "SessionToken": "{SESSION_TOKEN}"}}',
        json.dumps({"body": json.dumps({"SecretAccessKey": SECRET_KEY})}),
        f"<SecretAccessKey>{SECRET_KEY}</SecretAccessKey><SessionToken>{SESSION_TOKEN}</SessionToken>",
        f"AWS_SECRET_ACCESS_KEY={SECRET_KEY!r}",
        f"x-amz-security-token:{SESSION_TOKEN}",
        f"{{'X-Amz-Security-Token': b'{SESSION_TOKEN}'}}",
        "https://b.s3.amazonaws.com/k?X-Amz-Signature=abcdefghij&X-Amz-Security-Token=abcdefghij%2F&a=b",
        "Authorization: Basic abcdefghij",
        "authorization = Bearer abcdefghij",
        "{'Authorization': 'Bearer abcdefghij'}",
        "curl -H 'Bearer abcdefghij'",
        "https://user:abcdefghij@example.com/hook",
    ],
)
def test_text_that_looks_like_a_secret_is_masked(text):
    masked = Redactor().text(text)

    assert MASK in masked
    for secret in (BOT_TOKEN, ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, "abcdef", "Mi0yLTEyMzQ"):
        assert secret not in masked


@pytest.mark.parametrize(
    "text",
    [
        "LossNotDecreasing found an issue in churn-xgb-2026-11-20",
        "arn:aws:sagemaker:us-east-1:123456789012:training-job/churn-xgb",
        "s3://bucket/path/churn-xgb/debug-output",
        "no permission for sagemaker:Search (AccessDeniedException: not authorized to perform). Allow it",
        '{"NextToken": "abc", "tokens": 5}',
        "https://sqs.us-east-1.amazonaws.com/123456789012/queue",
    ],
)
def test_ordinary_text_is_not_masked(text):
    assert Redactor().text(text) == text


def test_a_field_with_a_secret_sounding_name_is_masked_for_any_value(stream):
    structlog.get_logger("watcher.daemon.app").info(
        "sent", headers={"Authorization": b"anything"}, password="hunter2"
    )

    [line] = lines(stream)
    assert line["headers"] == {"Authorization": MASK}
    assert line["password"] == MASK


@given(secret=st.text(min_size=8, max_size=40), around=st.text(max_size=20))
def test_no_known_secret_survives_in_any_text(secret, around):
    masked = Redactor([secret]).text(f"{around}{secret}{around}")

    assert secret not in masked.replace(MASK, "\0")


def test_slack_sdk_at_debug_leaks_no_token(stream):
    log.configure(stream, secrets=[BOT_TOKEN])
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("slack_sdk").setLevel(logging.DEBUG)

    with pytest.raises(OSError, match="refused"):
        WebClient(token=BOT_TOKEN, base_url=f"{UNREACHABLE}/api/", retry_handlers=[]).auth_test(
            token=BOT_TOKEN
        )

    assert "Sending a request" in stream.getvalue()
    assert BOT_TOKEN not in stream.getvalue()


def test_botocore_at_debug_leaks_no_credential_even_when_it_is_not_configured(stream):
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("botocore").setLevel(logging.DEBUG)
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=UNREACHABLE,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        aws_session_token=SESSION_TOKEN,
        config=ClientConfig(retries={"max_attempts": 0}),
    )

    presigned = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    logging.getLogger("botocore").debug("presigned %s", presigned)
    with pytest.raises(Exception, match="Could not connect"):
        client.list_buckets()

    text = stream.getvalue()
    assert "Sending http request" in text
    assert "x-amz-security-token" in text.lower()
    for secret in (
        ACCESS_KEY,
        SECRET_KEY,
        SESSION_TOKEN,
        SESSION_TOKEN.replace("/", "%2F").replace("=", "%3D"),
    ):
        assert secret not in text


def test_credentials_read_from_a_file_do_not_leak(stream, tmp_path: Path, monkeypatch):
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("botocore").setLevel(logging.DEBUG)
    file = tmp_path / "credentials"
    file.write_text(
        f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        f"aws_session_token = {SESSION_TOKEN}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    client = boto3.Session().client(
        "sts",
        region_name="us-east-1",
        endpoint_url=UNREACHABLE,
        config=ClientConfig(retries={"max_attempts": 0}),
    )

    with pytest.raises(Exception, match="Could not connect"):
        client.get_caller_identity()

    assert "Sending http request" in stream.getvalue()
    for secret in (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN):
        assert secret not in stream.getvalue()
