"""A daemon as a process, with hostile jobs and messages: the alert on an innocent job comes as if alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.doubles.debug_output import SavedJob
from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import changed, configured, issue
from tests.e2e.daemon import Daemons, end
from tests.e2e.queues import create_queues, event
from tests.hostile.test_evaluations import COLLECTIONS, HOSTILE, put
from tests.trials import upload
from tests.waiting import WAIT_LIMIT_S, eventually
from watcher.config.settings import Config
from watcher.sandbox.process import Sandbox

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]
AS_IF_ALONE_S = 10.0
"""Far above what an alert takes on a busy machine, and far below any pause or timeout that trouble could
cause: SQS's visibility timeout, a backoff, a lease."""


@pytest.fixture
def slack() -> Iterator[SlackDouble]:
    with SlackDouble() as double:
        yield double


@pytest.fixture
def daemons(sandbox: Sandbox) -> Iterator[Daemons]:
    daemons = Daemons(sandbox.env)
    yield daemons
    daemons.close()


@pytest.fixture
def config(sandbox: Sandbox, slack: SlackDouble, tmp_path: Path) -> Config:
    return configured(slack, tmp_path)


def told(slack: SlackDouble, job: str) -> bool:
    return any(job in str(message["blocks"]) for message in slack.messages)


def test_odd_messages_and_hints_neither_end_the_daemon_nor_delay_an_alert(
    config: Config, daemons: Daemons, slack: SlackDouble, sandbox: Sandbox
):
    queue = create_queues(sandbox)
    config = changed(config, watch={"poll_interval": 86_400, "queue_url": queue.url})
    daemon = daemons.start(config)
    sandbox.control.put_training_job("innocent")
    eventually(lambda: queue.depth() == (0, 0), "the daemon knows the job")
    sandbox.control.forget_calls()
    queue.send(
        '{"detail-type": "SageMaker Training Job State Change", "resources": 5}',
        "[" * 100_000,
        '{"look_again": ' + "9" * 5000 + "}",
        *(event(f"no-such-job-{number}") for number in range(600)),
    )

    began = time.monotonic()
    sandbox.control.put_training_job("innocent", DebugRuleEvaluationStatuses=[issue()])
    eventually(lambda: told(slack, "innocent"), "the alert")
    seconds = time.monotonic() - began

    described = sandbox.control.calls().get("sagemaker:DescribeTrainingJob", 0)
    assert described <= 20 + 5 * (time.monotonic() - began) + 10, (
        "names that do not exist are described slowly"
    )
    assert seconds < AS_IF_ALONE_S
    assert daemon.is_alive()
    assert end(daemon) == [0]


def test_what_hostile_jobs_have_saved_neither_ends_the_daemon_nor_delays_an_alert(
    config: Config, daemons: Daemons, slack: SlackDouble, sandbox: Sandbox, tmp_path: Path
):
    s3: Any = sandbox.client("s3")
    s3.create_bucket(Bucket="team")
    job = SavedJob(tmp_path / "saved")
    job.collections()
    for step in range(6):
        job.step(step, {"loss": np.array(0.9)})
    for number, content in enumerate(HOSTILE.values()):
        key = f"debug/hostile-{number}/debug-output/{COLLECTIONS}"
        s3.put_object(Bucket="team", Key=key, Body=content)
        put(sandbox, f"hostile-{number}")
    for number in range(60):
        put(sandbox, f"missing-{number:02}", "s3://no-such-bucket/debug")
    put(sandbox, "nowhere", "https://example.com/debug")
    put(sandbox, "innocent")
    upload(job.folder, s3, "team", "innocent")
    s3.close()

    daemon = daemons.start(config)
    assert daemon.handles_sigterm.wait(WAIT_LIMIT_S), "the daemon has begun"
    began = time.monotonic()
    eventually(lambda: told(slack, "innocent"), "the alert")
    assert time.monotonic() - began < AS_IF_ALONE_S
    eventually(lambda: told(slack, "nowhere"), "the finding on the job whose place is not on S3")
    assert daemon.is_alive()
    assert end(daemon) == [0]
