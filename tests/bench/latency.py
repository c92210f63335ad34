"""The time from a status change in SageMaker's API to the request at Slack, without the poll interval.

    python -m tests.bench.latency ALERTS

The sandbox, Slack and Watcher are three processes (Slack's double lives in this one). Each alert carries
a real log excerpt and the deciding values, read from a trial that smdebug's hook has saved. Time is measured
from the start of the poll, just after the change, to the arrival of the request at Slack. After each alert, a
bare client that keeps nothing does the least: it describes the job and posts a line.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from operator import truediv
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.doubles.slack import SlackDouble
from tests.trials import CREATED_AT, save_trial, upload
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.cookbook import PARAMETERS
from watcher.sandbox.process import Sandbox

UNSIGNED = "AWS4-HMAC-SHA256 Credential=bench/20261120/us-east-1/sagemaker/aws4_request"
"""What moto chooses the service by."""


def main(alerts: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox.start(pace=0.05) as sandbox,
        SlackDouble() as slack,
    ):
        os.environ.update(sandbox.env)
        trial, step = save_trial(Path(folder))
        s3 = sandbox.client("s3")
        s3.create_bucket(Bucket="bench")
        config = Config.model_validate(
            {
                "store": {"url": f"sqlite:///{folder}/watcher.db"},
                "slack": {"bot_token": slack.token, "channel": "#alerts", "api_url": slack.api_url},
            }
        )
        app = App(config)
        outbox = threading.Thread(target=app.outbox.run, args=(lambda: None,))
        outbox.start()
        seconds, bare = [], []
        for number in range(alerts):
            upload(trial, s3, "bench", f"bench-{number:03d}")
            seconds.append(one(app, sandbox, slack, f"bench-{number:03d}", step))
            bare.append(bare_one(sandbox, slack, f"bench-{number:03d}"))
        app.outbox.stop()
        outbox.join()
        app.close()
    print(
        json.dumps(
            {
                "alerts": alerts,
                "first": seconds[0],
                "median": statistics.median(seconds),
                "worst_but_first": max(seconds[1:]),
                "bare_median": statistics.median(bare),
                "to_bare": statistics.median(map(truediv, seconds, bare)),
            }
        )
    )


def one(app: App, sandbox: Sandbox, slack: SlackDouble, name: str, step: int) -> float:
    """Seconds from the start of the poll to the request, which includes everything that Watcher does."""
    place(sandbox, name, {"RuleEvaluationStatus": "InProgress"})
    sandbox.control.write_logs(
        name, [f"line {line}" for line in range(20)] + ["Loss is not decreasing"], rule="LossNotDecreasing"
    )
    app.reconciler.run()
    fired = {
        "RuleEvaluationStatus": "IssuesFound",
        "StatusDetails": "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing "
        f"at step {step} resulted in the condition being met\n",
    }
    record = sandbox.client("sagemaker").describe_training_job(TrainingJobName=name)
    arn = record["DebugRuleEvaluationStatuses"][0]["RuleEvaluationJobArn"]
    place(sandbox, name, fired | {"RuleEvaluationJobArn": arn})
    before, begin = len(slack.messages), time.perf_counter()
    app.reconciler.run()
    while len(slack.messages) == before:
        time.sleep(0.001)
    seconds = time.perf_counter() - begin
    assert "the rule wants 5 %" in json.dumps(slack.messages[-1]["blocks"]), "the alert lacks its evidence"
    return seconds


def bare_one(sandbox: Sandbox, slack: SlackDouble, name: str) -> float:
    """Seconds for two requests, each over a connection of its own, without a signature."""
    begin = time.perf_counter()
    asked = {"X-Amz-Target": "SageMaker.DescribeTrainingJob", "Authorization": UNSIGNED}
    described = request(sandbox.endpoint, "/", asked, {"TrainingJobName": name})
    [rule] = described["DebugRuleEvaluationStatuses"]
    line = {"channel": "#alerts", "text": f"{rule['RuleEvaluationStatus']} in {name}"}
    path = f"{urlsplit(slack.api_url).path}chat.postMessage"
    assert request(slack.api_url, path, {"Authorization": f"Bearer {slack.token}"}, line)["ok"]
    return time.perf_counter() - begin


def request(url: str, path: str, headers: dict[str, str], parameters: dict[str, str]) -> dict[str, Any]:
    connection = HTTPConnection(urlsplit(url).netloc)
    content = {"Content-Type": "application/json; charset=utf-8"}
    connection.request("POST", path, json.dumps(parameters), content | headers)
    found: dict[str, Any] = json.load(connection.getresponse())
    connection.close()
    return found


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows for the table of `make bench`."""
    yield "change → Slack, without the poll interval: median", f"{figures['median']:.3f} s", "< 0.3 s"
    yield "  ÷ a bare client that only describes and posts", f"{figures['to_bare']:.1f}", ""
    yield "  first alert (with imports)", f"{figures['first']:.3f} s", ""
    yield "  slowest of the others", f"{figures['worst_but_first']:.3f} s", ""


def place(sandbox: Sandbox, name: str, status: dict[str, Any]) -> None:
    sandbox.control.put_training_job(
        name,
        CreationTime=CREATED_AT,
        DebugHookConfig={"S3OutputPath": "s3://bench/debug"},
        DebugRuleConfigurations=[
            {
                "RuleConfigurationName": "LossNotDecreasing",
                "RuleEvaluatorImage": "debugger-rules",
                "RuleParameters": {"rule_to_invoke": "LossNotDecreasing", **PARAMETERS},
            }
        ],
        DebugRuleEvaluationStatuses=[{"RuleConfigurationName": "LossNotDecreasing", **status}],
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
