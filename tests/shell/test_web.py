"""The HTTP endpoints, with the real server on loopback."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.samples import NOON, after, case, delivery, finding, incident, look, opens, rewrites, run
from tests.doubles.clock import Clock
from tests.waiting import WAIT_LIMIT_S, eventually
from watcher.aws.queue import Depth
from watcher.config.settings import Http
from watcher.errors import ConfigError, Unavailable
from watcher.instruments import Instruments
from watcher.model import DeliveryState, IncidentState, incident_id
from watcher.store.memory import MemoryStore
from watcher.web.access import Access, Guarded
from watcher.web.application import application
from watcher.web.connections import ACCEPTED_AT_ONCE, MAX_CONNECTIONS, SECURITY_HEADERS
from watcher.web.gauges import Gauges
from watcher.web.loops import Loops
from watcher.web.readiness import CHECK_INTERVAL_S, Readiness
from watcher.web.server import Server
from watcher.web.status_page import NoPageYet, StatusPage

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
        self.page = StatusPage(
            store=self.store,
            url="sqlite:///watcher.db",
            loops=self.loops,
            readiness=self.readiness,
            clock=lambda: NOON,
            monotonic=self.clock.monotonic,
        )

    def application(self, http: Http, page: Callable[[], str] | None = None) -> Guarded:
        registry = self.instruments.registry
        return application(self.loops, self.readiness, registry, page or self.page, Access.of(http))

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
def serving(
    daemon: Daemon, listen: str = "127.0.0.1:0", page: Callable[[], str] | None = None, **settings: Any
) -> Iterator[httpx.Client]:
    http = Http(listen=listen, **settings)
    server = Server(listen, daemon.application(http, page))
    thread = threading.Thread(target=server.run)
    thread.start()
    host = listen.rpartition(":")[0].replace("0.0.0.0", "127.0.0.1")
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


def test_each_reason_is_one_line_without_control_characters(daemon: Daemon, client: httpx.Client):
    refused = {"error": "404\n\x1b[31mNot\u202e Found\u2028", "refused_at": NOON, "due_at": after(60)}
    daemon.find("churn", **refused)
    row = delivery("churn", "slack:#alerts", **{**refused, "state": DeliveryState.REFUSED})
    daemon.store.amend(incident_id(run("churn")), rewrites(row))

    answer = client.get("/readyz")

    assert answer.text.count("\n") == 1
    assert answer.text.removesuffix("\n").isprintable()
    assert "404" in answer.text


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


# -- who may read ---------------------------------------------------------------------------------

TOKEN = "0123456789abcdef"
ANYWHERE = "0.0.0.0:0"


PAGES = ("/", "/healthz", "/readyz", "/metrics")


def test_it_answers_to_the_names_of_this_machine(client: httpx.Client):
    for host in ("localhost", "LOCALHOST.:80", "127.0.0.1:8080", "[::1]:8080", "[::1]"):
        for path in PAGES:
            assert client.get(path, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "hosts",
    [
        ("evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"),
        ("[::2]", "10.1.2.3"),
        ("", ":8080", "evil.example@localhost", "[]", "localhost, evil.example"),
    ],
)
def test_a_name_that_is_not_its_own_is_refused_against_dns_rebinding(
    client: httpx.Client, hosts: tuple[str, ...]
):
    for host in hosts:
        for path in (*PAGES, "/none"):
            answer = client.get(path, headers={"Host": host})

            assert answer.status_code == 421
            assert answer.text.count("\n") == 1
            assert "add it to http.hosts" in answer.text
            assert "evil" not in answer.text


def test_it_answers_to_the_names_that_the_settings_add_and_to_the_address_that_a_request_came_to(
    daemon: Daemon,
):
    reached = {"listen": ANYWHERE, "token": TOKEN, "hosts": ("Watcher.example.com", "2001:db8::7")}
    with serving(daemon, **reached) as client:
        port = client.base_url.port
        for host in ("watcher.EXAMPLE.com:443", "[2001:DB8::7]:8080"):
            assert client.get("/healthz", headers={"Host": host}).status_code == 200
        assert client.get(f"http://127.0.0.2:{port}/healthz").status_code == 200
        assert client.get("/healthz", headers={"Host": "127.0.0.2"}).status_code == 421


@pytest.mark.parametrize("listen", ["127.0.0.1:0", ANYWHERE])
def test_with_a_token_every_page_needs_it_and_the_health_checks_show_only_their_status_without(
    daemon: Daemon, listen: str
):
    daemon.refuse("churn")
    with serving(daemon, listen, token=TOKEN) as client:
        for path in ("/", "/metrics", "/none"):
            refused = client.get(path)
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"].startswith("Bearer")
            assert "http.token" in refused.text
        for path in ("/healthz", "/readyz"):
            assert (client.get(path).status_code, client.get(path).text) == (200, "ok\n")
        daemon.loops.add("receive", 300)
        daemon.refused = True
        daemon.clock.turn(600)
        for path in ("/healthz", "/readyz"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert "receive" not in answer.text
            assert "sqs" not in answer.text


@pytest.mark.parametrize(
    ("authorization", "accepted"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN}", True),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("Bearer", False),
        ("Bearer \xe4\xf6\xfc", False),
    ],
)
def test_only_the_whole_token_is_accepted(daemon: Daemon, authorization: str, accepted: bool):
    daemon.refuse("churn")
    with serving(daemon, token=TOKEN) as client:
        headers = {"Authorization": authorization.encode("latin-1")}

        assert client.get("/metrics", headers=headers).status_code == (200 if accepted else 401)
        assert ("degraded" in client.get("/readyz", headers=headers).text) is accepted


def test_a_proxy_that_the_settings_name_needs_no_token_and_any_other_client_is_refused(daemon: Daemon):
    with serving(daemon, ANYWHERE, proxies=("127.0.0.0/8",)) as client:
        assert client.get("/").status_code == 200
    with serving(daemon, ANYWHERE, proxies=("10.0.1.7", "2001:db8::/32")) as client:
        forwarded = {"X-Forwarded-For": "10.0.1.7", "Forwarded": "for=10.0.1.7"}
        for headers in ({}, forwarded):
            answer = client.get("/", headers=headers)
            assert answer.status_code == 403
            assert "http.proxies" in answer.text
        assert client.get("/readyz", headers=forwarded).text == "ok\n"


def test_every_answer_carries_the_security_headers(daemon: Daemon):
    def broken() -> str:
        raise ZeroDivisionError

    def said(client: httpx.Client) -> bytes:
        """The answer to what is not HTTP."""
        with closing(connection(client)) as other:
            other.sendall(b"no HTTP\r\n\r\n")
            return b"".join(iter(lambda: other.recv(65536), b""))

    with serving(daemon, page=broken) as client:
        answers = {path: client.get(path) for path in (*PAGES, "/none")}
        answers["method"] = client.post("/healthz")
        answers["host"] = client.get("/", headers={"Host": "evil.example"})
        malformed = said(client)
    with serving(daemon, token=TOKEN) as client:
        answers["token"] = client.get("/")
    with serving(daemon, ANYWHERE, proxies=("10.0.1.7",)) as client:
        answers["proxy"] = client.get("/")

    assert [answer.status_code for answer in answers.values()] == [500, *[200] * 3, 404, 405, 421, 401, 403]
    for name, value in SECURITY_HEADERS.items():
        assert [answer.headers.get_list(name) for answer in answers.values()] == [[value]] * len(answers)
        assert f"{name}: {value}\r\n".encode().lower() in malformed.lower()
    assert malformed.startswith(b"HTTP/1.1 400 ")
    assert "frame-ancestors 'none'" in SECURITY_HEADERS["Content-Security-Policy"]


# -- clients that hold connections ----------------------------------------------------------------


def connection(client: httpx.Client) -> socket.socket:
    host, port = client.base_url.host, client.base_url.port
    assert port is not None
    return socket.create_connection((host, port))


def is_closed(other: socket.socket) -> bool:
    """Whether the server has closed the connection."""
    try:
        return not other.recv(65536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_1100_unfinished_requests_leave_file_descriptors_and_health_checks(
    daemon: Daemon, client: httpx.Client
):
    unfinished = (
        b"",
        b"GET /metrics HTTP/1.1\r\nHost: ",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    process = psutil.Process()
    before = process.num_fds()
    try:
        with ExitStack() as clients:
            held: list[socket.socket] = []
            for number in range(1100):
                held.append(clients.enter_context(closing(connection(client))))
                held[-1].sendall(unfinished[number % len(unfinished)])
                if number % 100 == 99:
                    of_the_server = process.num_fds() - before - len(held)
                    assert of_the_server <= MAX_CONNECTIONS + 4 * ACCEPTED_AT_ONCE
                    assert httpx.get(client.base_url.join("/healthz"), trust_env=False).status_code == 200

            eventually(
                lambda: sum(not is_closed(one) for one in held) <= MAX_CONNECTIONS, "the oldest are closed"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_request_that_does_not_end_is_closed_after_a_while(daemon: Daemon, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("watcher.web.connections.REQUEST_TIMEOUT_S", 0.1)
    with serving(daemon) as client, closing(connection(client)) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")

        eventually(lambda: is_closed(slow), "it is closed")


def test_a_connection_is_for_one_request(client: httpx.Client):
    with closing(connection(client)) as other:
        other.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        answers = b"".join(iter(lambda: other.recv(65536), b""))

    assert answers.count(b"HTTP/1.1 200 ") == 1


def test_of_too_many_requests_at_a_time_the_last_are_refused_but_health_checks_are_not(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("watcher.web.application.MAX_IN_WORK", 2)
    ended = threading.Event()
    asked = threading.Semaphore(0)

    def page() -> str:
        asked.release()
        ended.wait(WAIT_LIMIT_S)
        return "the page"

    with serving(daemon, page=page) as client, ThreadPoolExecutor() as pool:
        first = [pool.submit(client.get, "/") for _ in range(2)]
        for _ in first:
            assert asked.acquire(timeout=WAIT_LIMIT_S)

        refused = client.get("/metrics")
        assert (refused.status_code, refused.text) == (503, "too many requests at a time\n")
        assert client.get("/healthz").status_code == 200
        ended.set()
        assert [each.result().text for each in first] == ["the page"] * 2
        assert client.get("/metrics").status_code == 200


def test_a_client_that_does_not_read_its_answer_is_closed_after_a_while(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
):
    asked = threading.Event()

    def page() -> str:
        monkeypatch.setattr("watcher.web.connections.REQUEST_TIMEOUT_S", 0.1)
        asked.set()
        return "x" * 50_000_000  # more than the buffers of the operating system take

    process = psutil.Process()
    with serving(daemon, page=page) as client:
        before = process.num_fds()
        with closing(connection(client)) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert asked.wait(WAIT_LIMIT_S)

            eventually(lambda: process.num_fds() == before + 1, "only the client's descriptor is open")


def test_a_request_whose_answer_takes_too_long_is_closed(daemon: Daemon, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("watcher.web.connections.ANSWER_TIMEOUT_S", 0.1)
    ended = threading.Event()

    def page() -> str:
        ended.wait(WAIT_LIMIT_S)
        return ""

    with serving(daemon, page=page) as client, closing(connection(client)) as waiting:
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

        eventually(lambda: is_closed(waiting), "it is closed")
        ended.set()


def test_a_client_that_goes_on_after_a_malformed_body_gets_no_traceback(
    daemon: Daemon, client: httpx.Client, caplog: pytest.LogCaptureFixture
):
    with closing(connection(client)) as other:
        other.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert other.recv(65536).startswith(b"HTTP/1.1 405")
        other.sendall(b"no chunk\r\n")
        eventually(lambda: is_closed(other), "it is closed")

    assert caplog.records == []


def test_while_a_slow_store_holds_one_page_the_others_get_the_last(daemon: Daemon, client: httpx.Client):
    assert client.get("/").status_code == 200
    asked, answered = threading.Event(), threading.Event()
    jobs = daemon.store.jobs

    def slow() -> Any:
        asked.set()
        answered.wait(WAIT_LIMIT_S)
        return jobs()

    daemon.store.jobs = slow  # type: ignore[method-assign]
    daemon.clock.turn(CHECK_INTERVAL_S)
    daemon.find("churn")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(client.get, "/")
        assert asked.wait(WAIT_LIMIT_S)
        assert "churn" not in client.get("/").text
        answered.set()
        assert "churn" in first.result().text


def test_until_there_is_a_page_a_second_request_is_asked_to_come_again(daemon: Daemon):
    page = daemon.page
    second: list[str] = []

    def jobs() -> Any:
        with pytest.raises(NoPageYet) as refused:
            page()
        second.append(str(refused.value))
        return []

    daemon.store.jobs = jobs  # type: ignore[method-assign]
    page()

    assert second == ["this page is being made; load it again in a few seconds"]


def test_it_can_listen_on_ipv6(daemon: Daemon):
    with serving(daemon, "[::1]:0") as client:
        assert client.get("/healthz").status_code == 200


def test_when_it_cannot_listen_the_error_names_the_setting_and_the_fix(daemon: Daemon):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"http\.listen = .*Address already in use.*write another"):
            Server(listen, daemon.application(Http(listen=listen)))
