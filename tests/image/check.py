"""`make image-check`: the image contains what it should, and works on a read-only root file system.

Needs root, so the name of this file keeps it out of `make test`.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cfnlint.decode.cfn_yaml import load as load_template

from tests.image import engineless
from tests.image.engineless import Container, innermost
from tests.stacks import DEPLOY
from tests.trials import save_trial, upload
from watcher.daemon.threads import DRAIN_TIMEOUT_S
from watcher.sandbox.cookbook import PARAMETERS
from watcher.sandbox.process import Sandbox

BUCKET = "team"
FIRED = {
    "RuleConfigurationName": "LossNotDecreasing",
    "RuleEvaluationStatus": "IssuesFound",
    "StatusDetails": "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 24 "
    "resulted in the condition being met\n",
}
PACKAGES = "import importlib.metadata as m; print(*sorted({d.name.lower() for d in m.distributions()}))"
MAX_IDLE_MEMORY_BYTES = 120e6
"""Memory limit of an idle daemon."""


@pytest.fixture(scope="session")
def container() -> Iterator[Container]:
    if missing := engineless.what_is_missing():
        pytest.exit(missing, 2)
    engineless.build()
    with Container() as container:
        yield container


@pytest.fixture
def aws(sandbox: Sandbox) -> dict[str, str]:
    """The environment for an account with one job, which works because a chroot shares the loopback."""
    with closing(sandbox.client("s3")) as s3:
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="debug/churn-1/debug-output/index/0.json", Body=b"{}")
    hook = {"S3OutputPath": f"s3://{BUCKET}/debug"}
    sandbox.control.put_training_job("churn-1", TrainingJobStatus="InProgress", DebugHookConfig=hook)
    return {name: value for name, value in sandbox.env.items() if name.startswith("AWS_")}


# -- contents -------------------------------------------------------------------------------------


def test_the_image_has_exactly_the_locked_packages(container: Container):
    locked = re.findall(r"^([a-z0-9.-]+)==", engineless.LOCK.read_text(), re.MULTILINE)

    packages = container.run("python", "-c", PACKAGES).stdout.split()

    print(f"\n{container.size}, with {' '.join(packages)}")
    assert {name.replace("_", "-") for name in packages} == {*locked, "debugger-watcher"} - {"setuptools"}


@pytest.mark.parametrize("tool", ["pip", "pip3", "gcc", "make", "git", "curl"])
def test_the_image_has_no_build_or_download_tools(container: Container, tool: str):
    assert container.run("sh", "-c", f"command -v {tool}").stdout == ""
    assert container.run("python", "-c", f"import {tool}").returncode != 0


def test_the_sandbox_is_left_out_and_its_command_says_so(container: Container):
    done = container.run("watcher", "demo")

    assert done.returncode == 2
    assert "which the sandbox needs" in done.stderr


# -- running --------------------------------------------------------------------------------------


def test_the_image_runs_as_an_unprivileged_user_who_can_write_only_to_its_volumes(container: Container):
    assert (
        container.config["User"] == "10001:10001"
    )  # a number, because Kubernetes checks that it is not root's
    assert container.run("id", "-u").stdout == "10001\n"
    touched = container.run("touch", "/etc/x", "/opt/watcher/x", "/tmp/x", "/var/lib/watcher/x", "/var/x")

    refused = re.findall(r"cannot touch '(.*)': Read-only file system", touched.stderr)
    assert refused == ["/etc/x", "/opt/watcher/x", "/var/x"]
    assert touched.stderr.count("cannot touch") == 3


def test_the_images_command_accepts_arguments(container: Container):
    done = container.run(*container.config["Entrypoint"], "--help")

    assert done.returncode == 0
    assert "Usage: watcher" in done.stdout


def test_the_image_starts_with_the_command_of_the_template(container: Container):
    task = load_template(str(DEPLOY / "ecs.yaml"))["Resources"]["TaskDefinition"]["Properties"]
    done = container.run(*task["ContainerDefinitions"][0]["EntryPoint"], "--help")

    assert done.returncode == 0
    assert "Usage: watcher" in done.stdout


def test_watcher_check_passes_with_settings_from_the_variable(container: Container, aws: dict[str, str]):
    done = container.run("watcher", "check", "--json", WATCHER_TOML='[watch]\njobs = ["churn-*"]', **aws)

    assert done.returncode == 0, done.stdout + done.stderr
    checks = {check["name"]: check["found"] for check in json.loads(done.stdout)}
    assert checks["configuration"] == "WATCHER_TOML"
    assert checks["debug output"] == f"s3://{BUCKET}/debug/churn-1/debug-output"


def test_a_rule_is_evaluated_and_plotted(
    container: Container, sandbox: Sandbox, aws: dict[str, str], tmp_path: Path
):
    output, step = save_trial(tmp_path)
    with closing(sandbox.client("s3")) as s3:
        upload(output, s3, BUCKET, "bad")
    parameters = [word for name, text in PARAMETERS.items() for word in ("--param", f"{name}={text}")]
    saved = f"s3://{BUCKET}/debug/bad/debug-output"

    done = container.run(
        *("watcher", "evaluate", saved, "--rule", "LossNotDecreasing", *parameters),
        *("--plot", "/tmp/curve.png", "--json"),
        **aws,
    )

    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["step"] == step
    assert int(container.run("stat", "--format=%s", "/tmp/curve.png").stdout) > 10_000


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_accepts_only_status_200(container: Container, status: int | None, healthy: bool):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" and status else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        kind, *command = container.config["Healthcheck"]["Test"]
        elsewhere = [word.replace("8080", str(port if status else 1)) for word in command]
        done = container.run(*elsewhere, http_proxy="http://127.0.0.1:1")
        server.shutdown()

    assert kind == "CMD"
    assert (done.returncode == 0) is healthy, done.stderr


def test_the_daemon_starts_alerts_and_ends_on_sigterm(
    container: Container, sandbox: Sandbox, aws: dict[str, str]
):
    words = [*container.config["Entrypoint"], *container.config["Cmd"]]
    command = container.command(*words, WATCHER_TOML="[watch]\npoll_interval = 1", **aws)
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        assert daemon.stderr is not None
        ready = next(line for line in daemon.stderr if '"ready"' in line)
        seconds = time.monotonic() - begin
        process = innermost(daemon)
        sandbox.control.forget_calls()
        while sandbox.control.calls().get("sagemaker:Search", 0) < 5:
            time.sleep(0.1)
        idle = process.memory_info().rss
        print(f"\nready after {seconds:.1f} s, buildah's own start included; idle {idle / 1e6:.0f} MB")
        well = container.run(*container.config["Healthcheck"]["Test"][1:])
        sandbox.control.put_training_job(
            "churn-2", TrainingJobStatus="InProgress", DebugRuleEvaluationStatuses=[FIRED]
        )
        alert = next(line for line in daemon.stdout if "LossNotDecreasing" in line)
        asked = time.monotonic()
        process.send_signal(getattr(signal, container.config["StopSignal"]))
        code = daemon.wait(DRAIN_TIMEOUT_S + 2)
        drained = time.monotonic() - asked

    assert "sqlite:///watcher.db" in ready
    assert well.returncode == 0, well.stderr
    assert "found an issue in churn-2" in alert
    assert idle < MAX_IDLE_MEMORY_BYTES
    assert code == 0
    assert drained < DRAIN_TIMEOUT_S
    known = container.run("watcher", "findings", "--json")
    [finding] = json.loads(known.stdout)
    assert [delivery["state"] for delivery in finding["deliveries"]] == ["delivered"]
