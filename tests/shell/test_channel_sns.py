from __future__ import annotations

import json
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3
import pytest
from botocore.config import Config as BotoConfig

from tests.alerts import EVIDENCE, FINDING, NOW, STOPPED, a_case, alert, an_alert, told, update
from watcher.alerts.message import plain_text
from watcher.delivery.channels.base import Probe
from watcher.delivery.channels.sns import SnsChannel, subject
from watcher.errors import CannotTell, DeliveryError, Retry, Undeliverable
from watcher.sandbox.process import Sandbox

REGION = "eu-west-1"
TOPIC = f"arn:aws:sns:{REGION}:123456789012:training-alerts"


def client(service: str, endpoint: str, **keys: str) -> Any:
    keys = keys or {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    config = BotoConfig(retries={"total_max_attempts": 1}, read_timeout=60, connect_timeout=60)
    return boto3.client(service, region_name=REGION, endpoint_url=endpoint, config=config, **keys)


@pytest.fixture
def aws(sandbox: Sandbox) -> str:
    """The endpoint of an SNS and SQS on loopback."""
    return sandbox.endpoint


def topic_with_queue(aws: str, name: str) -> tuple[str, str]:
    """A topic's ARN, and the URL of a queue that subscribes to it."""
    fifo = {"FifoTopic": "true"} if name.endswith(".fifo") else {}
    topic = client("sns", aws).create_topic(Name=name, Attributes=fifo)["TopicArn"]
    sqs = client("sqs", aws)
    queue = sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"} if fifo else {})["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    client("sns", aws).subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["QueueArn"])
    return topic, queue


def received(aws: str, queue: str) -> list[dict[str, Any]]:
    answer = client("sqs", aws).receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


# -- delivery -----------------------------------------------------------------------------------------


def test_subscribers_get_the_message_as_text_with_attributes_to_filter_by(aws: str) -> None:
    topic, queue = topic_with_queue(aws, "training-alerts")
    receipt = SnsChannel(topic, client("sns", aws)).send(alert())
    [message] = received(aws, queue)
    assert message["MessageId"] == receipt
    assert message["Subject"] == f"LossNotDecreasing found an issue in {FINDING.job}"
    assert message["Message"] == plain_text(alert())
    assert {name: value["Value"] for name, value in message["MessageAttributes"].items()} == {
        "kind": "rule_issue",
        "job": FINDING.job,
        "rule": "LossNotDecreasing",
    }


def test_a_finding_about_the_job_itself_has_no_attribute_for_a_rule(aws: str) -> None:
    topic, queue = topic_with_queue(aws, "about-jobs")
    SnsChannel(topic, client("sns", aws)).send(alert(rule=None))
    assert received(aws, queue)[0]["MessageAttributes"].keys() == {"kind", "job"}


def test_a_fifo_topic_drops_a_repeat(aws: str) -> None:
    topic, queue = topic_with_queue(aws, "training-alerts.fifo")
    channel = SnsChannel(topic, client("sns", aws))
    channel.send(alert())
    channel.send(replace(alert(), repeat=True))
    assert len(received(aws, queue)) == 1


def test_an_update_is_a_separate_message(aws: str) -> None:
    topic, queue = topic_with_queue(aws, "updates")
    channel = SnsChannel(topic, client("sns", aws))
    channel.send(update())
    channel.send(told(a_case(), an_alert(told=1, trying=2)))
    ended, still_open = received(aws, queue)
    assert ended["Subject"].startswith("Stopped: LossNotDecreasing")
    assert STOPPED.reason in ended["Message"]
    assert still_open["Subject"].startswith("Update: LossNotDecreasing")


def test_a_message_that_is_too_long_is_cut_at_its_end(aws: str) -> None:
    topic, queue = topic_with_queue(aws, "long")
    evidence = replace(EVIDENCE, log_lines=("é" * 200_000,))
    SnsChannel(topic, client("sns", aws)).send(told(a_case(), evidence=evidence))
    [message] = received(aws, queue)
    assert 249_000 < len(message["Message"].encode()) <= 250_000


def test_a_subject_is_one_short_line_of_ascii() -> None:
    assert subject(alert(rule="Überfit\n")) == f"?berfit found an issue in {FINDING.job}"
    assert len(subject(alert(rule="R" * 256))) == 100


def test_a_topic_cannot_look_up_messages(aws: str) -> None:
    channel = SnsChannel(TOPIC, client("sns", aws))
    with pytest.raises(CannotTell):
        channel.find(alert())


# -- probing ------------------------------------------------------------------------------------------


def test_a_probe_finds_a_topic_and_publishes_nothing(aws: str) -> None:
    topic, queue = topic_with_queue(aws, "probed")
    assert SnsChannel(topic, client("sns", aws)).probe() == Probe("accepts messages")
    assert received(aws, queue) == []


def test_a_probe_of_a_missing_topic_says_how_to_fix_it(aws: str) -> None:
    with pytest.raises(Undeliverable, match=r"NotFound.*check its ARN in the route, or create it"):
        SnsChannel(TOPIC + "-that-is-not-there", client("sns", aws)).probe()


@pytest.mark.parametrize("name", ["tested", "tested.fifo"])
def test_a_test_message_is_marked_so_that_subscriptions_can_filter_it(aws: str, name: str) -> None:
    topic, queue = topic_with_queue(aws, name)
    done = SnsChannel(topic, client("sns", aws)).send_test("alerts arrive here", NOW)
    [message] = received(aws, queue)
    assert (message["Subject"], message["Message"]) == ("Test of Watcher", "alerts arrive here")
    assert {key: value["Value"] for key, value in message["MessageAttributes"].items()} == {"kind": "test"}
    assert done == f"accepted for the topic's subscribers as {message['MessageId']}"


# -- errors -------------------------------------------------------------------------------------------


class Refusing(ThreadingHTTPServer):
    """Answers every request with one error in SNS's format; with status 0 it closes the connection."""

    daemon_threads = True

    def __init__(self, code: str, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Refuse)
        self.code, self.status = code, status
        self.requests = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Refuse(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Refusing)
        self.rfile.read(int(self.headers["Content-Length"]))
        server.requests += 1
        if server.status:
            error = f"<Error><Code>{server.code}</Code><Message>what AWS says</Message></Error>"
            body = f'<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">{error}</ErrorResponse>'
            self.send_response(server.status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.mark.parametrize(
    ("code", "status", "fix"),
    [
        ("AuthorizationError", 403, "allow sns:Publish"),
        ("InternalError", 500, ""),
        ("ExpiredToken", 403, "renew Watcher's AWS credentials"),
    ],
)
def test_a_probe_that_aws_refuses_fails_as_publishing_would(code: str, status: int, fix: str) -> None:
    with Refusing(code, status) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(DeliveryError, match=f"training-alerts refused: {code}.*{fix}"):
            SnsChannel(TOPIC, client("sns", server.endpoint)).probe()
        server.shutdown()


def refusal(code: str, status: int) -> DeliveryError:
    with Refusing(code, status) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            with pytest.raises(DeliveryError) as raised:
                SnsChannel(TOPIC, client("sns", server.endpoint)).send(alert())
        finally:
            server.shutdown()
        assert server.requests == 1
    return raised.value


@pytest.mark.parametrize(
    ("code", "status", "uncertain"),
    [
        ("Throttling", 400, False),
        ("ThrottledException", 429, False),
        ("KMSThrottling", 400, False),
        ("InternalError", 500, True),
        ("ServiceUnavailable", 503, True),
        ("", 0, True),
    ],
)
def test_a_temporary_error_is_retried(code: str, status: int, uncertain: bool) -> None:
    error = refusal(code, status)
    assert isinstance(error, Retry)
    assert error.uncertain == uncertain


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId"])
def test_expired_credentials_are_retried(code: str) -> None:
    error = refusal(code, 403)
    assert isinstance(error, Retry)
    assert "renew Watcher's AWS credentials" in str(error)


@pytest.mark.parametrize(
    ("code", "status", "fix"),
    [
        ("AuthorizationError", 403, "sns:Publish"),
        ("AccessDenied", 403, "sns:Publish"),
        ("NotFound", 404, "create it"),
        ("InvalidParameter", 400, "check its ARN"),
        ("KMSAccessDenied", 400, "kms:GenerateDataKey"),
        ("SomethingOfALaterApi", 400, "what AWS says"),
    ],
)
def test_a_permanent_error_is_a_refusal_with_the_fix(code: str, status: int, fix: str) -> None:
    error = refusal(code, status)
    assert isinstance(error, Undeliverable)
    assert f"the SNS topic training-alerts refused: {code}: what AWS says" in str(error)
    assert fix in str(error)


def test_a_topic_that_does_not_exist_is_a_refusal(aws: str) -> None:
    with pytest.raises(Undeliverable, match="NotFound"):
        SnsChannel(TOPIC + "-that-is-not-there", client("sns", aws)).send(alert())


def test_after_a_refused_connection_the_message_certainly_did_not_arrive() -> None:
    with Refusing("", 0) as server:
        endpoint = server.endpoint
    with pytest.raises(Retry) as refused:
        SnsChannel(TOPIC, client("sns", endpoint)).send(alert())
    assert not refused.value.uncertain


def test_missing_credentials_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    anonymous = boto3.session.Session().client("sns", region_name=REGION, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(Retry, match="credentials"):
        SnsChannel(TOPIC, anonymous).send(alert())
