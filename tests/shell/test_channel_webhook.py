from __future__ import annotations

import json
import logging
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.alerts import (
    EVIDENCE,
    FINDING,
    JOB_ARN,
    NOW,
    ROUTE,
    RUN,
    SNAPSHOT,
    STOPPED,
    a_case,
    alert,
    an_alert,
    told,
    update,
)
from tests.doubles.webhook import WebhookDouble
from watcher.alerts.message import compose
from watcher.delivery.channels.base import Probe
from watcher.delivery.channels.webhook import WebhookChannel
from watcher.errors import CannotTell, DeliveryError, FormRefused, Retry, Undeliverable
from watcher.model import Reading

SECRET = "a shared secret"


@pytest.fixture
def receiver() -> Iterator[WebhookDouble]:
    with WebhookDouble(SECRET, clock=lambda: NOW) as double:
        yield double


def channel(receiver: WebhookDouble, timeout: float = 60.0) -> WebhookChannel:
    return WebhookChannel(receiver.url, SECRET, timeout)


def refusal(receiver: WebhookDouble, timeout: float = 60.0) -> DeliveryError:
    with pytest.raises(DeliveryError) as raised:
        channel(receiver, timeout).send(alert())
    return raised.value


def test_the_whole_message_arrives_as_data(receiver: WebhookDouble) -> None:
    channel(receiver).send(alert())
    [body] = receiver.bodies
    assert body["version"] == 2
    assert (body["id"], body["delivery"]) == ("delivery-1-1", "delivery-1")
    assert (body["kind"], body["at"]) == ("alert", "2026-11-20T10:00:05+00:00")
    assert body["finding"] == {
        "id": "finding-1",
        "kind": "rule_issue",
        "severity": "critical",
        "job": FINDING.job,
        "job_arn": JOB_ARN,
        "rule": "LossNotDecreasing",
        "source": "debugger",
        "sources": [
            {
                "source": "debugger",
                "status": "IssuesFound",
                "step": 24,
                "at": "2026-11-20T10:00:03+00:00",
                "reason": "",
            }
        ],
        "status": "IssuesFound",
        "step": 24,
        "reason": FINDING.reason.strip(),
        "opened_at": "2026-11-20T10:00:03+00:00",
        "episode": 1,
        "closed_at": None,
        "closing": None,
        "closing_reason": "",
    }
    assert body["findings"] == [body["finding"]]
    assert body["evidence"]["deciding"][0] == {"tensor": "train-error", "step": 22, "value": 0.1182}
    assert body["evidence"]["log"] == {"stream": EVIDENCE.log_stream, "lines": list(EVIDENCE.log_lines)}
    assert body["links"][0]["label"] == "Training job"


def test_the_incident_and_its_stop_arrive_as_data(receiver: WebhookDouble) -> None:
    channel(receiver).send(update())
    [body] = receiver.bodies
    assert body["incident"] == {
        "id": "incident-1",
        "run": RUN,
        "state": "resolved",
        "severity": "critical",
        "revision": 2,
        "opened_at": "2026-11-20T10:00:03+00:00",
        "resolved_at": "2026-11-20T10:00:05+00:00",
        "acknowledged_by": None,
        "acknowledged_at": None,
        "snoozed_until": None,
        "snoozed_by": None,
        "stop": {
            "phase": "stopped",
            "actor": ROUTE,
            "at": "2026-11-20T10:00:17+00:00",
            "due_at": None,
            "reason": STOPPED.reason,
        },
    }
    assert [(change["revision"], change["kind"], change["text"]) for change in body["changes"]] == [
        (2, "stopped", STOPPED.reason)
    ]
    assert body["news"] == [STOPPED.reason]


VERSION_1 = {
    "": {"version", "id", "kind", "at", "title", "text", "advice", "stop", "repeat", "links"},
    "finding": {
        *("id", "kind", "job", "job_arn", "rule", "source", "status", "step", "reason", "opened_at"),
    },
    "job": {
        *("status", "secondary_status", "runtime_seconds", "max_runtime_seconds", "instances", "spot"),
        *("spend", "hyperparameters", "experiment", "trial", "tags", "debug_output"),
    },
    "evidence": {"explanation", "deciding", "needed", "curve", "curve_from", "log", "missing"},
}


def test_a_program_that_reads_version_1_finds_all_its_keys(receiver: WebhookDouble) -> None:
    channel(receiver).send(alert())
    [body] = receiver.bodies
    for part, keys in VERSION_1.items():
        assert keys <= (body[part] if part else body).keys()


def test_job_and_cost_arrive_as_data_without_secrets(receiver: WebhookDouble) -> None:
    channel(receiver).send(alert())
    [body] = receiver.bodies
    assert body["job"] == {
        "status": "InProgress",
        "secondary_status": "Training",
        "runtime_seconds": 450,
        "max_runtime_seconds": 86_400,
        "instances": [{"type": "ml.m5.xlarge", "count": 2}],
        "spot": False,
        "spend": {
            "so_far": 0.0575,
            "an_hour": 0.46,
            "saved_by_stopping": 10.9825,
            "currency": "USD",
            "basis": "2 × ml.m5.xlarge at $0.23 an hour each",
            "at_most": False,
        },
        "hyperparameters": {
            "eta": "0.1",
            "num_round": "10000",
            "objective": "binary:logistic",
            "max_depth": "16",
        },
        "experiment": "churn",
        "trial": "deep-trees",
        "tags": {"team": "growth"},
        "debug_output": f"s3://bucket/debug/{FINDING.job}/debug-output",
    }


def test_without_a_price_the_amounts_are_instance_hours_and_have_no_currency(receiver: WebhookDouble) -> None:
    channel(receiver).send(compose(a_case(), an_alert(), SNAPSHOT, EVIDENCE, NOW))
    spend = receiver.bodies[0]["job"]["spend"]
    assert (spend["so_far"], spend["saved_by_stopping"], spend["currency"]) == (0.25, 47.75, None)
    assert "no price is configured" in spend["basis"]


def test_all_hyperparameters_arrive_with_complete_values(receiver: WebhookDouble) -> None:
    chosen = {f"flag_{number}": "x" * 2500 for number in range(30)}
    job = replace(SNAPSHOT, hyperparameters=chosen)
    channel(receiver).send(told(a_case(), snapshot=job))
    assert receiver.bodies[0]["job"]["hyperparameters"] == chosen


def test_a_forgotten_job_and_unknown_tags_are_null(receiver: WebhookDouble) -> None:
    channel(receiver).send(told(a_case(), snapshot=None))
    waiting = replace(SNAPSHOT, tags=None, started_at=None, max_runtime=0)
    channel(receiver).send(told(a_case(), snapshot=waiting))
    forgotten, untold = (body["job"] for body in receiver.bodies)
    assert forgotten is None
    empty = ("tags", "runtime_seconds", "max_runtime_seconds", "spend")
    assert [untold[key] for key in empty] == [None] * 4


def test_a_curve_comes_with_its_source_and_the_needed_values(receiver: WebhookDouble) -> None:
    needed = (Reading("train-error", 24, 0.1123),)
    evidence = replace(EVIDENCE, needed=needed, curve_from="CloudWatch; a step is a minute of training")
    channel(receiver).send(replace(alert(), evidence=evidence))
    evidence = receiver.bodies[0]["evidence"]
    assert evidence["needed"] == [{"tensor": "train-error", "step": 24, "value": 0.1123}]
    assert evidence["curve_from"] == "CloudWatch; a step is a minute of training"
    assert len(evidence["curve"]) == len(EVIDENCE.curve)


def test_each_request_carries_the_messages_key_so_that_a_repeat_can_be_recognised(
    receiver: WebhookDouble,
) -> None:
    channel(receiver).send(alert())
    channel(receiver).send(replace(alert(), repeat=True))
    assert [request.headers["Idempotency-Key"] for request in receiver.received] == ["delivery-1-1"] * 2
    assert [body["repeat"] for body in receiver.bodies] == [False, True]


def test_an_update_says_so(receiver: WebhookDouble) -> None:
    channel(receiver).send(update())
    assert (receiver.bodies[0]["kind"], receiver.bodies[0]["stop"]) == ("update", STOPPED.reason)


def test_numbers_that_json_cannot_represent_are_strings(receiver: WebhookDouble) -> None:
    values = (float("nan"), float("inf"), float("-inf"))
    readings = tuple(Reading("loss", 1, value) for value in values)
    channel(receiver).send(replace(alert(), evidence=replace(EVIDENCE, deciding=readings)))
    assert [row["value"] for row in receiver.bodies[0]["evidence"]["deciding"]] == ["nan", "inf", "-inf"]


def test_a_receiver_with_another_secret_refuses_the_request(receiver: WebhookDouble) -> None:
    receiver.secret = "another secret"
    with pytest.raises(Undeliverable, match=r"401.*webhook\.secret"):
        channel(receiver).send(alert())
    assert receiver.received == []


def test_a_recorded_request_is_refused_later(receiver: WebhookDouble) -> None:
    receiver.clock = lambda: NOW + timedelta(hours=1)
    with pytest.raises(Undeliverable, match="401"):
        channel(receiver).send(alert())


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_status_means_delivered(receiver: WebhookDouble, status: int) -> None:
    receiver.answer(status)
    assert channel(receiver).send(alert()) == ""


@pytest.mark.parametrize(
    ("status", "header", "after"),
    [
        (429, "7", 7.0),
        (503, "Fri, 20 Nov 2026 10:00:35 GMT", 30.0),
        (429, None, None),
        (408, None, None),
        (425, None, None),
    ],
)
def test_a_retry_later_status_is_retried_after_the_requested_time(
    receiver: WebhookDouble, status: int, header: str | None, after: float | None
) -> None:
    receiver.answer(status, {"Retry-After": header} if header else {})
    error = refusal(receiver)
    assert isinstance(error, Retry)
    assert error.after == after


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_is_retried_and_the_message_may_have_arrived(
    receiver: WebhookDouble, status: int
) -> None:
    receiver.answer(status)
    error = refusal(receiver)
    assert isinstance(error, Retry)
    assert error.uncertain


@pytest.mark.parametrize("status", [400, 403, 404, 410, 413, 422])
def test_a_refusal_names_the_url_and_the_status(receiver: WebhookDouble, status: int) -> None:
    receiver.answer(status)
    error = refusal(receiver)
    assert isinstance(error, Undeliverable)
    assert receiver.url in str(error)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "schema error: no field version\nand a stack trace\nof many lines",
            "schema error: no field version",
        ),
        ("\n\n   indented \t text  ", "indented text"),
        ('{"message": "unknown version"}', "unknown version"),
        ('{"error": {"message": "unknown version", "code": 7}}', "unknown version"),
        ('{"detail": "unknown version", "status": 400}', "unknown version"),
        ("a\x1b[31m red \u202e word", "a red word"),
    ],
)
def test_a_refusal_shows_the_reason_in_its_body(receiver: WebhookDouble, body: str, reason: str) -> None:
    receiver.answer(400, body=body)
    error = refusal(receiver)
    assert isinstance(error, Undeliverable)
    assert f'answered 400 Bad Request: "{reason}"; check the address' in str(error)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html><body>nginx</body></html>",
        "  <!DOCTYPE html><html>",
        '{"code": 7}',
        '{"message": ["a"]}',
        "[1, 2]",
        "{" * 100_000,
        "[" * 4096,
        '{"error": {"message": {"deep": 1}}}',
        "\x00\x1b[0m",
    ],
)
def test_a_body_that_gives_no_reason_leaves_the_status(receiver: WebhookDouble, body: str) -> None:
    receiver.answer(400, body=body)
    said = str(refusal(receiver))
    assert "answered 400 Bad Request; check the address" in said


def test_a_huge_body_is_not_read_and_its_beginning_is_the_reason(receiver: WebhookDouble) -> None:
    receiver.answer(400, body="no " * 20_000_000)
    said = str(refusal(receiver))
    assert "no no no" in said
    assert len(said) < 500


def test_a_compressed_body_is_not_unpacked(receiver: WebhookDouble) -> None:
    receiver.answer(400, {"Content-Encoding": "gzip"}, body="no gzip at all")
    assert "answered 400 Bad Request; check the address" in str(refusal(receiver))
    assert receiver.received[0].headers["Accept-Encoding"] == "identity"


def test_the_reason_of_a_refusal_shows_no_secret(receiver: WebhookDouble) -> None:
    url = receiver.url.replace("//", "//user:s3cret@") + "?token=s3cret-token"
    receiver.answer(400, body=f"bad signature with {SECRET} at {url}, token=s3cret-token")
    with pytest.raises(Undeliverable) as refused:
        WebhookChannel(url, SECRET).send(alert())
    for secret in (SECRET, "s3cret", "s3cret-token"):
        assert secret not in str(refused.value)


def test_a_message_that_is_too_large_may_be_sent_in_another_form(receiver: WebhookDouble) -> None:
    receiver.answer(413, body="at most 64 kB")
    error = refusal(receiver)
    assert isinstance(error, FormRefused)
    assert "at most 64 kB" in str(error)


def test_a_redirect_is_not_followed_and_its_target_is_named(receiver: WebhookDouble) -> None:
    receiver.answer(307, {"Location": "https://elsewhere.example/hook?token=s3cret"})
    error = refusal(receiver)
    assert isinstance(error, Undeliverable)
    assert "https://elsewhere.example/hook:" in str(error)
    assert "s3cret" not in str(error)
    assert len(receiver.received) == 1


def test_a_redirect_that_leads_nowhere_is_a_refusal_like_any_other(receiver: WebhookDouble) -> None:
    receiver.answer(304)
    receiver.answer(304)
    assert "answered 304 Not Modified; check the address" in str(refusal(receiver))
    assert channel(receiver).probe().found == "connected; answers HEAD with 304 Not Modified"


def test_after_a_broken_connection_it_is_uncertain_whether_the_message_arrived(
    receiver: WebhookDouble,
) -> None:
    receiver.close_connection()
    error = refusal(receiver)
    assert isinstance(error, Retry)
    assert error.uncertain


def test_after_a_timeout_it_is_uncertain_whether_the_message_arrived(receiver: WebhookDouble) -> None:
    receiver.hang()
    error = refusal(receiver, timeout=0.2)
    assert isinstance(error, Retry)
    assert error.uncertain
    assert "did not answer in time" in str(error)


def test_after_a_refused_connection_the_message_certainly_did_not_arrive() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(Retry, match="cannot be reached") as refused:
            WebhookChannel(url, SECRET).send(alert())
    assert not refused.value.uncertain


def test_a_webhook_cannot_look_up_messages(receiver: WebhookDouble) -> None:
    with pytest.raises(CannotTell):
        channel(receiver).find(alert())


@pytest.mark.parametrize("status", [204, 404, 500])
def test_no_secret_is_in_any_error_or_log(
    receiver: WebhookDouble, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answer(status)
    url = receiver.url.replace("//", "//user:s3cret@") + "?token=s3cret"
    error = ""
    try:
        WebhookChannel(url, SECRET).send(alert())
    except DeliveryError as raised:
        error = str(raised)
    assert receiver.received[0].path.endswith("?token=s3cret"), "the receiver gets it all"
    assert receiver.received[0].headers["Authorization"].startswith("Basic ")
    assert "s3cret" not in error + caplog.text
    assert SECRET not in error + caplog.text + json.dumps(receiver.bodies)


# -- probing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 401, 405, 501])
def test_a_receiver_that_answers_head_as_receivers_do_is_fine_and_has_received_nothing(
    receiver: WebhookDouble, status: int
) -> None:
    receiver.answer(status)
    assert channel(receiver).probe() == Probe("connected")
    assert receiver.received == []


@pytest.mark.parametrize("status", [400, 415, 422])
def test_a_receiver_that_finds_fault_with_the_empty_request_is_fine(
    receiver: WebhookDouble, status: int
) -> None:
    receiver.answer(status)
    found, fix = channel(receiver).probe()
    assert found.startswith(f"connected; answers HEAD with {status}")
    assert fix == ""


@pytest.mark.parametrize(
    ("status", "headers", "fix"),
    [
        (404, {}, "check the path"),
        (410, {}, "check the path"),
        (403, {}, "lets Watcher's network in"),
        (401, {"WWW-Authenticate": "Basic"}, "put them into the URL"),
        (503, {}, "check its service"),
        (429, {}, "check its service"),
    ],
)
def test_an_answer_that_may_mean_a_refusal_is_something_to_look_at(
    receiver: WebhookDouble, status: int, headers: dict[str, str], fix: str
) -> None:
    receiver.answer(status, headers)
    probe = channel(receiver).probe()
    assert f"answers HEAD with {status}" in probe.found
    assert fix in probe.fix
    assert "watcher check --send" in probe.fix


def test_a_probe_names_where_a_redirect_leads_without_its_secret(receiver: WebhookDouble) -> None:
    receiver.answer(308, {"Location": "https://elsewhere.example/hook?token=s3cret"})
    probe = channel(receiver).probe()
    assert probe.found == "answers HEAD with 308 Permanent Redirect to https://elsewhere.example/hook"
    assert "redirects are not followed" in probe.fix


def test_a_receiver_that_does_not_answer_head_is_something_to_look_at(receiver: WebhookDouble) -> None:
    receiver.close_connection()
    receiver.hang()
    closed, silent = channel(receiver).probe(), channel(receiver, timeout=0.2).probe()
    assert closed.found.startswith("connected, but it did not answer HEAD (")
    assert silent.found == "connected, but it did not answer HEAD in time"
    assert "check its service" in closed.fix
    assert "check its service" in silent.fix


def test_a_refused_connection_fails_and_says_that_nothing_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(Retry, match="cannot be reached: nothing listens there; check the port"):
            WebhookChannel(url, SECRET).probe()


def test_a_name_that_does_not_resolve_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Retry, match="cannot be reached: its name does not resolve"):
        WebhookChannel("https://hooks.invalid/", SECRET).probe()


class _Answering(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[str]:
    """The URL of a server with a certificate that no authority has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=3650))
        .not_valid_after(NOW + timedelta(days=36500))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answering) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_a_certificate_that_is_not_valid_here_fails_with_its_reason(self_signed: str) -> None:
    with pytest.raises(
        Retry, match=r"its certificate is not valid here \(self.signed certificate\); renew it"
    ):
        WebhookChannel(self_signed, SECRET).probe()


def test_tls_to_a_server_without_it_fails(receiver: WebhookDouble) -> None:
    with pytest.raises(Retry, match=r"TLS fails .* check whether the address is http:// or https://"):
        WebhookChannel(receiver.url.replace("http:", "https:"), SECRET).probe()


# -- the test message ---------------------------------------------------------------------------------


def test_a_test_message_is_signed_and_cannot_be_mistaken_for_an_alert(receiver: WebhookDouble) -> None:
    assert channel(receiver).send_test("alerts arrive here", NOW) == "answered 204"
    [body] = receiver.bodies
    assert (body["kind"], body["title"], body["text"]) == ("test", "Test of Watcher", "alerts arrive here")
    assert (body["finding"], body["job"], body["evidence"]) == (None, None, None)
    assert receiver.received[0].headers["Idempotency-Key"] == body["id"] == "test-20261120T100005000000"


def test_a_test_message_has_the_keys_of_an_alert(receiver: WebhookDouble) -> None:
    channel(receiver).send(alert())
    channel(receiver).send_test("alerts arrive here", NOW)
    sent, test = receiver.bodies
    assert list(test) == list(sent)


def test_a_receiver_that_refuses_a_test_message_is_named(receiver: WebhookDouble) -> None:
    receiver.answer(404)
    with pytest.raises(Undeliverable, match=r"answered 404 Not Found; check the address"):
        channel(receiver).send_test("alerts arrive here", NOW)
