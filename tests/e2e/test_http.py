"""The HTTP endpoints and the heartbeat of a whole daemon."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack, closing, suppress

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from tests.contract.tables import TABLE, create_table
from tests.doubles.pings import Pings
from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import changed, issue, running
from tests.e2e.daemon import Daemons, end
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.errors import ConfigError
from watcher.sandbox.process import Sandbox


@pytest.fixture
def listening(config: Config) -> Config:
    return changed(config, http={"listen": "127.0.0.1:0"})


def get(app: App, path: str, **headers: str) -> httpx.Response:
    server = eventually(lambda: app.server, "the daemon listens")
    return httpx.get(f"http://127.0.0.1:{server.port}{path}", headers=headers, trust_env=False)


def samples(app: App) -> dict[tuple[str, ...], float]:
    """Samples by name and label values, in the order of the label names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(get(app, "/metrics").text)
        for sample in family.samples
    }


def loops(app: App) -> set[str]:
    return {labels[0] for name, *labels in samples(app) if name == "watcher_loop_lag_seconds"}


def test_a_daemon_is_alive_and_ready_and_each_of_its_loops_runs(listening: Config):
    config = changed(listening, rules={"log_group": "/watcher"})

    with running(App(config)) as app:
        assert get(app, "/healthz").text == "every loop runs\n"
        assert get(app, "/readyz").text == "store and queue are reachable\n"
        assert loops(app) == {
            *("reconcile", "look-1", "look-2", "evaluate-1", "evaluate-2"),
            *("logs", "evaluation_log", "outbox"),
        }
        assert "Watcher" in get(app, "/").text


def test_other_machines_need_the_token_and_a_health_check_does_not(config: Config):
    remote = {"listen": "0.0.0.0:0", "allow_remote": True, "token": "0123456789abcdef"}

    with capture_logs() as logged, running(App(changed(config, http=remote))) as app:
        for path in ("/", "/metrics"):
            assert get(app, path).status_code == 401
            assert get(app, path, Authorization="Bearer 0123456789abcdef").status_code == 200
        assert get(app, "/readyz").text == "ok\n"
        assert get(app, "/readyz", Host="evil.example").status_code == 421

    assert "0123456789abcdef" not in str(logged)


def test_unfinished_requests_take_no_file_descriptor_that_the_daemon_needs(
    config: Config, daemons: Daemons, sandbox: Sandbox, slack: SlackDouble
):
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = free.getsockname()
    daemon = daemons.start(changed(config, http={"listen": f"127.0.0.1:{address[1]}"}))
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (256, 256))

    with ExitStack() as clients:

        def unfinished() -> socket.socket | None:
            with suppress(ConnectionError):
                return clients.enter_context(closing(socket.create_connection(address)))
            return None

        eventually(unfinished, "the daemon listens")
        for _ in range(400):
            client = unfinished()
            assert client
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
        health = httpx.get(f"http://127.0.0.1:{address[1]}/healthz", trust_env=False)
        sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
        eventually(lambda: slack.messages, "an alert")
        assert end(daemon) == [0]

    assert health.status_code == 200


def test_an_alert_is_counted_at_each_stage(listening: Config, sandbox: Sandbox, slack: SlackDouble):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])

    with running(App(listening)) as app:
        eventually(lambda: slack.messages, "an alert")
        eventually(lambda: app.store.next_due() is None, "it is settled")
        exported = samples(app)

    assert exported["watcher_rule_outcomes_total", "LossNotDecreasing", "debugger", "IssuesFound"] == 1
    assert exported["watcher_findings_total", "rule_issue"] == 1
    assert exported["watcher_deliveries_total", "slack", "alert", "delivered"] == 1
    assert exported["watcher_delivery_latency_seconds_count", "slack"] == 1
    assert exported["watcher_watched_jobs", "InProgress"] == 1
    assert exported["watcher_last_reconcile_timestamp_seconds",] > 1.7e9
    assert exported["watcher_delivery_overdue_seconds",] == 0


def test_each_request_to_aws_is_counted_with_its_result(listening: Config, sandbox: Sandbox):
    sandbox.control.inject_fault("sagemaker:Search", "ThrottlingException", "Rate exceeded", times=2)
    answered = ("watcher_aws_requests_total", "Search", "ok", "sagemaker")

    with running(App(listening)) as app:
        eventually(lambda: answered in samples(app), "a search that is answered")
        exported = samples(app)

    assert exported["watcher_aws_requests_total", "Search", "ThrottlingException", "sagemaker"] == 2


def test_a_missing_store_and_queue_are_named_and_the_daemon_continues(
    listening: Config, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("watcher.web.readiness.CHECK_INTERVAL_S", 0.0)
    dynamodb, sqs = create_table(sandbox), sandbox.client("sqs")
    queue = sqs.create_queue(QueueName="watcher")["QueueUrl"]
    config = changed(listening, store={"url": f"dynamodb://{TABLE}"}, watch={"queue_url": queue})

    with running(App(config)) as app:
        assert get(app, "/readyz").status_code == 200
        assert {"receive", "keep", "look-8"} <= loops(app)
        exported = samples(app)
        assert ("watcher_queue_messages", "waiting") in exported
        assert ("watcher_aws_requests_total", "Query", "ok", "dynamodb") in exported
        dynamodb.delete_table(TableName=TABLE)
        sqs.delete_queue(QueueUrl=queue)

        answer = get(app, "/readyz")
        assert answer.status_code == 503
        store, queued = answer.text.splitlines()
        assert TABLE in store
        assert "sqs:GetQueueAttributes" in queued
        assert get(app, "/healthz").status_code == 200


def test_a_second_daemon_on_a_machine_serves_no_page_unless_its_address_is_configured(config: Config):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        by_default = changed(config, http={"listen": listen})
        by_default.http.model_fields_set.clear()

        with capture_logs() as logged, running(App(by_default)) as app:
            eventually(lambda: [line for line in logged if line["event"] == "ready"], "ready")
        assert app.server is None
        assert [line["event"] for line in logged if line["log_level"] == "warning"] == ["not_listening"]

        second = App(changed(config, http={"listen": listen}))
        with pytest.raises(ConfigError, match=listen):
            second.run()
        second.close()


def test_a_hanging_heartbeat_is_reported_like_any_other_loop(
    listening: Config, monkeypatch: pytest.MonkeyPatch
):
    for limit in ("HEARTBEAT_INTERVAL_S", "MAX_TURN_S"):
        monkeypatch.setattr(f"watcher.daemon.app.{limit}", 0.1)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running(App(changed(listening, http={"heartbeat_url": address}))) as app:
            assert "heartbeat" in loops(app)
            answer = eventually(lambda: unhealthy(app), "/healthz reports a loop")
            silent.close()

    assert answer.text.startswith("the loop heartbeat has made no progress for ")


def unhealthy(app: App) -> httpx.Response | None:
    answer = get(app, "/healthz")
    return answer if answer.status_code == 503 else None


def test_the_heartbeat_url_is_pinged(config: Config):
    with Pings() as pings, running(App(changed(config, http={"heartbeat_url": pings.url}))):
        eventually(lambda: pings.received, "the first beat")


def test_only_one_of_several_processes_reads_the_rules_logs_and_another_when_it_ends(
    listening: Config, sandbox: Sandbox
):
    rule = {"RuleConfigurationName": "LossNotDecreasing", "RuleEvaluationStatus": "InProgress"}
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[rule])
    sandbox.control.write_logs("churn", ["loading"], rule="LossNotDecreasing")
    searches = ("watcher_aws_requests_total", "Search", "ok", "sagemaker")
    reads = ("watcher_aws_requests_total", "FilterLogEvents", "ok", "cloudwatch-logs")

    with running(App(listening)) as first:
        eventually(lambda: reads in samples(first), "the first one reads them")
        with running(App(listening)) as second:
            eventually(lambda: samples(second).get(searches, 0) >= 3, "some turns of the second one")
            assert reads not in samples(second)
            first.stop()
            eventually(lambda: reads in samples(second), "the second one reads them")
