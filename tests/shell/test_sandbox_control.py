"""The control API: jobs in any state, faults, counted calls; and sandboxes as processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.waiting import WAIT_LIMIT_S, eventually
from watcher.errors import UsageError, WatcherError
from watcher.sandbox.environment import DEFAULT_BUCKET, of_running
from watcher.sandbox.process import Sandbox
from watcher.sandbox.server import running
from watcher.sandbox.settings import RULE_EVALUATOR, XGBOOST, Settings

ONCE = Config(retries={"total_max_attempts": 1})


def refusal(call: Callable[[], Any]) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as refused:
        call()
    response = refused.value.response
    return (
        response["ResponseMetadata"]["HTTPStatusCode"],
        response["Error"]["Code"],
        response["Error"].get("Message", ""),
    )


def test_a_job_that_does_not_exist_is_refused_with_sagemakers_message(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    expected = (400, "ValidationException", "Requested resource not found.")
    assert refusal(lambda: sagemaker.describe_training_job(TrainingJobName="none")) == expected
    assert refusal(lambda: sagemaker.stop_training_job(TrainingJobName="none")) == expected
    assert refusal(lambda: sagemaker.describe_processing_job(ProcessingJobName="none")) == expected


def test_a_placed_job_is_what_the_api_shows(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job(
        "placed",
        TrainingJobStatus="Hibernating",
        DebugRuleEvaluationStatuses=[{"RuleConfigurationName": "Loss", "RuleEvaluationStatus": "Pondering"}],
    )
    job = sandbox.client("sagemaker").describe_training_job(TrainingJobName="placed")
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Hibernating"
    (rule,) = job["DebugRuleEvaluationStatuses"]
    assert rule["RuleEvaluationStatus"] == "Pondering"
    assert not {"StatusDetails", "RuleEvaluationJobArn"} & rule.keys()


def test_a_rule_that_is_placed_while_its_job_is_being_stopped_does_not_interrupt_the_stop(
    sandbox: Sandbox,
) -> None:
    sandbox.control.put_training_job("churn")
    sagemaker = sandbox.client("sagemaker")
    sagemaker.stop_training_job(TrainingJobName="churn")
    sandbox.control.put_training_job(
        "churn",
        DebugRuleEvaluationStatuses=[
            {"RuleConfigurationName": "Loss", "RuleEvaluationStatus": "IssuesFound"}
        ],
    )

    def status() -> str:
        return str(sagemaker.describe_training_job(TrainingJobName="churn")["TrainingJobStatus"])

    eventually(lambda: status() == "Stopped", "the job is stopped")


def test_two_thousand_jobs_are_placed_and_found_in_twenty_pages(sandbox: Sandbox) -> None:
    sandbox.control.put_training_jobs({"TrainingJobName": f"job-{number}"} for number in range(2000))
    paginator = sandbox.client("sagemaker").get_paginator("search")
    found = [
        result["TrainingJob"]["TrainingJobName"]
        for page in paginator.paginate(Resource="TrainingJob", MaxResults=100)
        for result in page["Results"]
    ]
    assert len(found) == len(set(found)) == 2000
    assert sandbox.control.calls() == {"sagemaker:Search": 20}


def test_a_deleted_job_is_gone(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("gone")
    sandbox.control.delete_training_job("gone")
    assert sandbox.control.training_jobs() == []


def test_a_rules_lines_go_to_the_log_stream_of_its_processing_job(sandbox: Sandbox) -> None:
    status = {"RuleConfigurationName": "LossNotDecreasing", "RuleEvaluationStatus": "InProgress"}
    sandbox.control.put_training_job("Logged", DebugRuleEvaluationStatuses=[status])
    stream = sandbox.control.write_logs("Logged", ["first", "second"], rule="LossNotDecreasing")
    (rule,) = sandbox.control.training_jobs()[0]["DebugRuleEvaluationStatuses"]
    assert stream.startswith(f"Logged-LossNotDecreasing-{rule['RuleEvaluationJobArn'][-8:]}/algo-1-")
    events = sandbox.client("logs").filter_log_events(
        logGroupName="/aws/sagemaker/ProcessingJobs", logStreamNames=[stream]
    )["events"]
    assert [event["message"] for event in events] == ["first", "second"]


def test_an_invalid_control_request_is_explained(sandbox: Sandbox) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        sandbox.control.put_training_job("typo", TrainingJobState="Failed")
    assert "no member TrainingJobState" in "".join(refused.value.__notes__)
    with pytest.raises(httpx.HTTPStatusError) as refused:
        sandbox.control.write_logs("none", ["a line"])
    assert "Requested resource not found." in "".join(refused.value.__notes__)


def test_the_next_calls_fail_as_configured_and_later_calls_succeed(sandbox: Sandbox) -> None:
    sandbox.control.inject_fault("sagemaker:Search", times=2)
    sagemaker = sandbox.client("sagemaker", config=ONCE)
    for _ in range(2):
        assert refusal(lambda: sagemaker.search(Resource="TrainingJob")) == (
            400,
            "ThrottlingException",
            "Rate exceeded",
        )
    assert sagemaker.search(Resource="TrainingJob")["Results"] == []


def test_a_fault_can_start_after_a_number_of_calls(sandbox: Sandbox) -> None:
    sandbox.control.inject_fault("sagemaker:Search", times=1, after=2)
    sagemaker = sandbox.client("sagemaker", config=ONCE)
    for _ in range(2):
        sagemaker.search(Resource="TrainingJob")
    assert refusal(lambda: sagemaker.search(Resource="TrainingJob"))[1] == "ThrottlingException"
    sagemaker.search(Resource="TrainingJob")


def test_every_nth_call_fails(sandbox: Sandbox) -> None:
    sandbox.control.inject_fault("sagemaker:Search", every=3)
    sagemaker = sandbox.client("sagemaker", config=ONCE)
    for _ in range(2):
        assert refusal(lambda: sagemaker.search(Resource="TrainingJob"))[1] == "ThrottlingException"
        sagemaker.search(Resource="TrainingJob")
        sagemaker.search(Resource="TrainingJob")


def test_calls_fail_until_the_faults_are_cleared(sandbox: Sandbox) -> None:
    sandbox.control.inject_fault(
        "sagemaker:*", "AccessDeniedException", "not authorized to perform", status=400
    )
    sagemaker = sandbox.client("sagemaker", config=ONCE)
    for _ in range(3):
        assert refusal(sagemaker.list_training_jobs)[1] == "AccessDeniedException"
    sandbox.client("logs").describe_log_groups()
    sandbox.control.clear_faults()
    sagemaker.list_training_jobs()


@pytest.mark.parametrize(
    ("service", "operation", "call"),
    [
        ("logs", "logs:DescribeLogGroups", "describe_log_groups"),
        ("sts", "sts:GetCallerIdentity", "get_caller_identity"),
        ("s3", "s3:GET", "list_buckets"),
        ("events", "events:ListRules", "list_rules"),
    ],
)
def test_a_fault_uses_the_protocol_of_its_service(
    sandbox: Sandbox, service: str, operation: str, call: str
) -> None:
    sandbox.control.inject_fault(operation, "ServiceUnavailable", "try later", status=503)
    client = sandbox.client(service, config=ONCE)
    assert refusal(getattr(client, call)) == (503, "ServiceUnavailable", "try later")
    assert sandbox.control.calls() == {operation: 1}


def test_calls_are_counted_until_the_count_is_reset(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    sagemaker.list_training_jobs()
    sagemaker.list_training_jobs()
    assert sandbox.control.calls() == {"sagemaker:ListTrainingJobs": 2}
    sandbox.control.forget_calls()
    assert sandbox.control.calls() == {}


def test_a_reset_leaves_nothing_but_the_default_bucket(sandbox: Sandbox) -> None:
    sandbox.client("s3").create_bucket(Bucket="full")
    sandbox.control.put_training_job("placed")
    sandbox.control.inject_fault("*")
    sandbox.control.reset()
    assert [each["Name"] for each in sandbox.client("s3").list_buckets()["Buckets"]] == [DEFAULT_BUCKET]
    assert sandbox.control.training_jobs() == []


def test_a_bucket_can_have_the_name_of_the_control_api(sandbox: Sandbox) -> None:
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket="sandbox")
    s3.put_object(Bucket="sandbox", Key="calls", Body=b"mine")
    assert s3.get_object(Bucket="sandbox", Key="calls")["Body"].read() == b"mine"


def test_the_page_uses_only_existing_control_calls(sandbox: Sandbox) -> None:
    page = httpx.get(f"{sandbox.endpoint}/sandbox", trust_env=False)
    assert page.headers["content-type"].startswith("text/html")
    calls = re.findall(r"'(GET|PUT|POST|DELETE)', ['`]([a-z-]+)", page.text)
    assert {path for _, path in calls} == {"training-jobs", "faults", "calls", "reset"}
    for method, path in calls:
        target = f"{path}/page" if (method, path) == ("DELETE", "training-jobs") else path
        answer = httpx.request(method, f"{sandbox.endpoint}/sandbox/{target}", json={}, trust_env=False)
        assert answer.status_code not in {404, 405}, f"{method} {target}"


def test_sandboxes_run_side_by_side_without_sharing_anything(
    sandbox: Sandbox, start_sandbox: Callable[..., Sandbox]
) -> None:
    other = start_sandbox(region="eu-west-1")
    sandbox.control.put_training_job("here")
    other.control.put_training_job("there")
    assert [job["TrainingJobName"] for job in sandbox.control.training_jobs()] == ["here"]
    (job,) = other.control.training_jobs()
    assert job["TrainingJobArn"] == "arn:aws:sagemaker:eu-west-1:123456789012:training-job/there"


def test_regions_are_separate(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("here")
    elsewhere = sandbox.client("sagemaker", region_name="eu-west-1")
    assert elsewhere.search(Resource="TrainingJob")["Results"] == []


def test_a_sandbox_works_from_a_folder_that_has_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "watcher").mkdir()
    (tmp_path / "watcher" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    with Sandbox.start() as sandbox:
        assert sandbox.control.calls() == {}
    for program in (XGBOOST, RULE_EVALUATOR):
        done = subprocess.run([*program, "no-document"], capture_output=True, text=True, check=False)
        assert "No such file or directory: 'no-document'" in done.stderr


def test_a_sandbox_ends_with_the_process_that_started_it() -> None:
    script = (
        "import time; from watcher.sandbox.process import Sandbox; "
        "print(Sandbox.start()._process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        sandbox = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    sandbox.wait(timeout=WAIT_LIMIT_S)


def test_a_sandbox_in_the_foreground_prints_what_to_export_and_ends_on_sigterm() -> None:
    script = "from watcher.sandbox.server import serve; serve(port=0, pace=0.1)"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        advice = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        exported, _ = process.communicate(timeout=WAIT_LIMIT_S)
    assert process.returncode == 0
    variables = dict(line.removeprefix("export ").split("=", 1) for line in exported.splitlines())
    assert variables["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"} <= variables.keys()
    assert f"{variables['AWS_ENDPOINT_URL']}/sandbox" in advice


def test_a_second_terminal_gets_the_environment_of_the_running_sandbox(sandbox: Sandbox) -> None:
    port = sandbox.endpoint.rpartition(":")[2]
    script = 'eval "$(watcher sandbox --print-env)"; env -0'
    shell = subprocess.run(
        ["bash", "-c", script],
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "WATCHER_SANDBOX_PORT": port,
            "http_proxy": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        check=True,
    )

    assert shell.stderr == ""
    exported = dict(line.split("=", 1) for line in shell.stdout.split("\0") if line)
    assert exported.items() >= sandbox.env.items()


def test_the_environment_of_a_starting_sandbox_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ThreadPoolExecutor() as threads:
        variables = threads.submit(of_running, port)
        with running(Settings(), port) as (endpoint, _):
            assert variables.result(10)["AWS_ENDPOINT_URL"] == endpoint


def test_without_a_sandbox_there_is_nothing_to_export() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        port = other.server_port
        with pytest.raises(WatcherError, match=f"no sandbox answers on port {port}: start `watcher sandbox`"):
            of_running(port, timeout_s=0.2)
        other.shutdown()
    with pytest.raises(WatcherError, match=f"no sandbox answers on port {port}"):
        of_running(port, timeout_s=0)


def test_a_port_in_use_is_named_with_the_fix() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                UsageError, match=rf"port {port} \(Address already in use\): choose another --port"
            ),
            running(Settings(), port),
        ):
            pass


def test_unknown_settings_are_refused_before_anything_starts() -> None:
    with pytest.raises(TypeError, match="speed"):
        Sandbox.start(speed=1)


# -- web pages ------------------------------------------------------------------------------------

OF_ANOTHER_PAGE = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example:80"},
    {"Host": ""},
)
TO_THE_SANDBOX = (
    ("POST", "/sandbox/reset"),
    ("PUT", "/sandbox/training-jobs/churn"),
    ("DELETE", "/sandbox/training-jobs/churn"),
    ("OPTIONS", "/sandbox/reset"),
    ("GET", "/sandbox/environment"),
    ("GET", "/sandbox"),
    ("POST", "/moto-api/reset"),
    ("GET", "/?Action=DeleteQueue&QueueName=q"),
    ("POST", "/"),
)


def test_a_web_page_in_a_browser_cannot_drive_the_sandbox(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job("churn")
    with httpx.Client(base_url=sandbox.endpoint, trust_env=False) as page:
        for headers in OF_ANOTHER_PAGE:
            for method, path in TO_THE_SANDBOX:
                signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=test"} if path == "/" else {}
                answer = page.request(method, path, headers={**headers, **signed}, json={})

                assert answer.status_code == 403
                assert "The sandbox" in answer.json()["message"]
                assert "Access-Control-Allow-Origin" not in answer.headers

    assert [job["TrainingJobName"] for job in sandbox.control.training_jobs()] == ["churn"]


def test_the_sandboxs_own_page_drives_it_under_each_name_of_the_machine(sandbox: Sandbox) -> None:
    port = sandbox.endpoint.rpartition(":")[2]
    with httpx.Client(base_url=sandbox.endpoint, trust_env=False) as page:
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
            own = {"Host": host, "Origin": f"http://{host.lower()}", "Sec-Fetch-Site": "same-origin"}
            assert page.put("/sandbox/training-jobs/churn", headers=own, json={}).status_code == 200


def test_a_link_leads_to_the_sandboxs_page_which_cannot_be_framed(sandbox: Sandbox) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    answer = httpx.get(f"{sandbox.endpoint}/sandbox", headers=link, trust_env=False)

    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert httpx.get(f"{sandbox.endpoint}/sandbox/calls", headers=link, trust_env=False).status_code == 403


def test_a_reset_leaves_nothing_in_memory(sandbox: Sandbox) -> None:
    """A sandbox serves hundreds of tests. The first resets also fill caches, so only later ones count."""
    process = psutil.Process(sandbox._process.pid)

    def growth() -> int:
        before = process.memory_info().rss
        for _ in range(20):
            sandbox.control.reset()
        return process.memory_info().rss - before

    growth()
    assert growth() < 5 << 20
