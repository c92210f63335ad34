"""The HTTP endpoints, with the real server on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.samples import NOON, after, case, delivery, finding, incident, look, opens, rewrites, run
from tests.doubles.clock import Clock
from tests.waiting import WAIT_LIMIT_S
from watcher.aws.queue import Depth
from watcher.errors import ConfigError, Unavailable
from watcher.instruments import Instruments
from watcher.model import DeliveryState, IncidentState, incident_id
from watcher.store.memory import MemoryStore
from watcher.web.application import application
from watcher.web.gauges import Gauges
from watcher.web.loops import Loops
from watcher.web.readiness import CHECK_INTERVAL_S, Readiness
from watcher.web.server import Server
from watcher.web.status_page import StatusPage

NOT_IN_CHANNEL = "slack:#alerts refused: not_in_channel; invite the bot with /invite @watcher"
HTML = "<script>alert(1)</script>"


class Daemon:
    """The part of the daemon that is visible over HTTP."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.loops = Loops(self.clock.monotonic)
        self.refused = False
        self.readiness = Readiness(self.store, self.depth, lambda: NOON, self.clock.monotonic)
        self.instruments = Instruments()
        self.instruments.registry.register(Gauges(self.loops, self.readiness, None))
        page = StatusPage(
            store=self.store,
            url="sqlite:///watcher.db",
            loops=self.loops,
            readiness=self.readiness,
            clock=lambda: NOON,
            monotonic=self.clock.monotonic,
        )
        self.application = application(self.loops, self.readiness, self.instruments.registry, page)

    def depth(self) -> Depth:
        if self.refused:
            raise Unavailable("sqs:GetQueueAttributes did not answer", operation="sqs:GetQueueAttributes")
        return Depth(waiting=3, in_flight=2, dead=1)

    def find(self, name: str, *, state: IncidentState = IncidentState.OPEN, **sent: Any) -> None:
        """Store a job with an incident, whose alert is for Slack."""
        alert = delivery(name, "slack:#alerts", **sent)
        self.store.commit([look(name, opens(case(name, alert, incident=incident(name, state=state))))])

    def refuse(self, name: str) -> None:
        """Store the same, with Slack refusing the alert."""
        refused = {"error": NOT_IN_CHANNEL, "refused_at": NOON, "due_at": after(60)}
        self.find(name, state=IncidentState.OPEN, **refused)
        row = delivery(name, "slack:#alerts", **{**refused, "state": DeliveryState.REFUSED})
        self.store.amend(incident_id(run(name)), rewrites(row))


@contextmanager
def serving(daemon: Daemon, listen: str = "127.0.0.1:0") -> Iterator[httpx.Client]:
    server = Server(listen, daemon.application)
    thread = threading.Thread(target=server.run)
    thread.start()
    host = listen.rpartition(":")[0]
    try:
        with httpx.Client(base_url=f"http://{host}:{server.port}", trust_env=False) as client:
            yield client
    finally:
        server.close()
        thread.join(WAIT_LIMIT_S)
    assert not thread.is_alive()


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[httpx.Client]:
    with serving(daemon) as client:
        yield client


# -- /healthz and /readyz -------------------------------------------------------------------------


def test_it_is_alive_while_every_loop_runs(daemon: Daemon, client: httpx.Client):
    daemon.loops.add("receive", 300)

    answer = client.get("/healthz")

    assert (answer.status_code, answer.text) == (200, "every loop runs\n")


def test_a_hanging_loop_is_named_with_its_delay_and_a_running_one_is_not(
    daemon: Daemon, client: httpx.Client
):
    hanging = threading.Event()
    hung, released = threading.Event(), threading.Event()
    turned = {name: daemon.loops.add(name, 300) for name in ("look-1", "look-2")}

    def loop() -> None:
        while not released.is_set():
            turned["look-1"]()
            if hanging.is_set():
                hung.set()
                released.wait(WAIT_LIMIT_S)

    thread = threading.Thread(target=loop)
    thread.start()
    assert client.get("/healthz").status_code == 200
    hanging.set()
    assert hung.wait(WAIT_LIMIT_S)
    daemon.clock.turn(301)
    turned["look-2"]()

    answer = client.get("/healthz")

    assert answer.status_code == 503
    assert answer.text == "the loop look-1 has made no progress for 301 s (limit 300 s)\n"
    released.set()
    thread.join(WAIT_LIMIT_S)


def test_it_is_ready_while_store_and_queue_answer_and_names_one_that_does_not(
    daemon: Daemon, client: httpx.Client
):
    assert client.get("/readyz").status_code == 200

    daemon.refused = True
    daemon.clock.turn(CHECK_INTERVAL_S)

    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "sqs:GetQueueAttributes did not answer\n")
    assert client.get("/healthz").status_code == 200


def test_it_stays_ready_but_degraded_while_a_destination_refuses_alerts(daemon: Daemon, client: httpx.Client):
    daemon.refuse("churn")
    daemon.refuse("sales")

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.text == (
        "degraded: slack:#alerts has refused the alerts of 2 incidents since 2026-11-02 12:00:00 UTC: "
        "slack:#alerts refused: not_in_channel; invite the bot with /invite @watcher. "
        "Fix this, then run `watcher redeliver`\n"
    )


def test_it_is_ready_again_once_the_destination_takes_alerts(daemon: Daemon, client: httpx.Client):
    daemon.refuse("churn")
    assert "degraded" in client.get("/readyz").text

    arrived = delivery("churn", "slack:#alerts", state=DeliveryState.DELIVERED, told=1)
    daemon.store.amend(incident_id(run("churn")), rewrites(arrived))
    daemon.clock.turn(CHECK_INTERVAL_S)

    assert client.get("/readyz").text == "store and queue are reachable\n"


def test_what_is_not_reachable_is_said_before_what_is_refused(daemon: Daemon, client: httpx.Client):
    daemon.refuse("churn")
    daemon.refused = True

    answer = client.get("/readyz")

    assert answer.status_code == 503
    problem, degraded = answer.text.splitlines()
    assert problem == "sqs:GetQueueAttributes did not answer"
    assert degraded.startswith("degraded: slack:#alerts")


# -- /metrics -------------------------------------------------------------------------------------


def test_prometheus_can_read_the_metrics(daemon: Daemon, client: httpx.Client):
    daemon.loops.add("receive", 300)
    daemon.refuse("churn")
    answer = client.get("/metrics")

    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert samples["watcher_ready",] == 1
    assert samples["watcher_loop_lag_seconds", "receive"] == 0
    assert samples["watcher_queue_messages", "waiting"] == 3
    assert samples["watcher_queue_messages", "dead"] == 1
    assert samples["watcher_refused_deliveries", "slack"] == 1
    assert samples["watcher_refused_deliveries", "webhook"] == 0


def test_a_service_that_does_not_answer_has_no_sample(daemon: Daemon, client: httpx.Client):
    daemon.refused = True

    text = client.get("/metrics").text

    assert "watcher_queue_messages{" not in text
    assert "watcher_ready 0.0" in text


def test_openmetrics_is_served_on_request(client: httpx.Client):
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


# -- the status page ------------------------------------------------------------------------------


def test_the_page_shows_incidents_where_they_were_told_and_jobs(daemon: Daemon, client: httpx.Client):
    daemon.find("churn", state=IncidentState.ACKNOWLEDGED, **{"delivered_at": after(1)})
    daemon.find("fraud", error="404 Not Found")
    dead = delivery("fraud", "slack:#alerts", state=DeliveryState.DEAD, error="404 Not Found")
    daemon.store.amend(incident_id(run("fraud")), rewrites(dead))

    page = client.get("/").text

    assert page.index("<h2>Incidents</h2>") < page.index("<h2>Jobs</h2>")
    assert page.index(">fraud<") < page.index(">churn<")  # open before acknowledged
    assert "LossNotDecreasing found an issue" in page
    assert "slack:#alerts dead" in page
    assert "Given up (dead letters)" in page
    assert "404 Not Found" in page
    assert (
        'href="https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/jobs/churn"' in page
    )


def test_the_page_says_who_has_an_incident_and_until_when_it_is_snoozed(daemon: Daemon, client: httpx.Client):
    snoozed = {"snoozed_until": after(3600), "snoozed_by": "ben"}
    taken = incident("churn", state=IncidentState.ACKNOWLEDGED, acknowledged_by="anna", **snoozed)
    daemon.store.commit([look("churn", opens(case("churn", incident=taken)))])

    assert "anna, snoozed by ben until 2026-11-02 13:00 UTC" in client.get("/").text


def test_the_page_says_what_is_refused_and_what_to_do(daemon: Daemon, client: httpx.Client):
    daemon.refuse("churn")

    page = client.get("/").text

    assert "<h2>Refused</h2>" in page
    assert "invite the bot with /invite @watcher" in page
    assert "<code>watcher redeliver</code>" in page


def test_the_page_says_which_loop_hangs(daemon: Daemon, client: httpx.Client):
    daemon.loops.add("receive", 300)
    assert "all 1 run" in client.get("/").text

    daemon.clock.turn(600)

    assert "receive has made no progress for 10 min" in client.get("/").text


def test_text_of_a_job_is_escaped_on_the_page(daemon: Daemon, client: httpx.Client):
    named = finding("churn", rule=HTML)
    daemon.store.commit([look("churn", opens(case("churn", findings=(named,))))])

    answer = client.get("/")

    assert HTML not in answer.text
    assert "&lt;script&gt;" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_frequent_requests_read_the_store_only_once_in_a_while(daemon: Daemon, client: httpx.Client):
    client.get("/")
    daemon.find("churn")

    assert "churn" not in client.get("/").text
    daemon.clock.turn(CHECK_INTERVAL_S)
    assert "churn" in client.get("/").text


# -- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics"])
def test_only_reading_methods_are_allowed(client: httpx.Client, path: str):
    assert client.head(path).status_code == 200
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, path).status_code == 405


def test_any_other_path_is_not_found(client: httpx.Client):
    assert client.get("/status").status_code == 404


def test_a_client_with_an_unfinished_request_blocks_no_other(client: httpx.Client):
    address = (client.base_url.host, client.base_url.port)
    with closing(socket.create_connection(address)) as slow:  # type: ignore[arg-type]
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")

        assert client.get("/healthz").status_code == 200


def test_it_can_listen_on_ipv6(daemon: Daemon):
    with serving(daemon, "[::1]:0") as client:
        assert client.get("/healthz").status_code == 200


def test_when_it_cannot_listen_the_error_names_the_setting_and_the_fix(daemon: Daemon):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"http\.listen = .*Address already in use.*write another"):
            Server(listen, daemon.application)
