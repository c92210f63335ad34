"""From a status change at SageMaker's API to the request at Slack, without the wait for the next poll.

    python -m tests.bench.latency ALERTS

The sandbox, Slack and Watcher are three processes (Slack's double lives in this one). Each alert carries
a real log excerpt and the values that decided it, read from a trial that smdebug's hook has saved. The
clock runs from the moment the poll begins, with the change just made, to Slack's receiving the request.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import rules
from tests.doubles.slack import SlackDouble
from watcher.app import App
from watcher.config import Config
from watcher.sandbox.cookbook import PARAMETERS, two_class_data
from watcher.sandbox.process import Sandbox

ROUNDS = 80


def main(alerts: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox.start(pace=0.05) as sandbox,
        SlackDouble() as slack,
    ):
        os.environ.update(sandbox.env)
        step = save_trial(Path(folder))
        trial = Path(folder, "trial", "debug-output")
        s3 = sandbox.client("s3")
        s3.create_bucket(Bucket="bench")
        config = Config.model_validate(
            {
                "store": {"url": f"sqlite:///{folder}/watcher.db"},
                "slack": {"bot_token": slack.token, "channel": "#alerts", "api_url": slack.api_url},
            }
        )
        app = App(config)
        outbox = threading.Thread(target=app.outbox.run)
        outbox.start()
        seconds = []
        for number in range(alerts):
            upload(trial, f"bench-{number:03d}", s3)
            seconds.append(one(app, sandbox, slack, f"bench-{number:03d}", step))
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
            }
        )
    )


def one(app: App, sandbox: Sandbox, slack: SlackDouble, name: str, step: int) -> float:
    """Seconds from the poll's begin to the request. Everything Watcher does lies in between."""
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
    told, begin = len(slack.messages), time.perf_counter()
    app.reconciler.run()
    while len(slack.messages) == told:
        time.sleep(0.001)
    seconds = time.perf_counter() - begin
    assert "the rule wants 5 %" in json.dumps(slack.messages[-1]["blocks"]), "the alert lacks its evidence"
    return seconds


def place(sandbox: Sandbox, name: str, status: dict[str, Any]) -> None:
    sandbox.control.put_training_job(
        name,
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


def save_trial(folder: Path) -> int:
    """What smdebug's hook saves of the cookbook's training; returns the step at which the rule fires."""
    import xgboost

    from watcher.sandbox.containers.xgboost_hook import create_hook

    csv = {
        channel: np.loadtxt(data.decode().splitlines(), delimiter=",")
        for channel, data in two_class_data().items()
    }
    sets = {channel: xgboost.DMatrix(rows[:, 1:], rows[:, 0]) for channel, rows in csv.items()}
    metrics = {"CollectionName": "metrics", "CollectionParameters": {"save_interval": "2"}}
    job = {
        "TrainingJobName": "trial",
        "DebugHookConfig": {"S3OutputPath": str(folder), "CollectionConfigurations": [metrics]},
    }
    hook = create_hook(job, folder, sets["train"], sets["validation"])
    losses: dict[str, dict[str, list[float]]] = {}
    xgboost.train(
        {"objective": "binary:logistic", "max_depth": 16, "eta": 0.1, "nthread": 1},
        sets["train"],
        ROUNDS,
        evals=[(data, channel) for channel, data in sets.items()],
        evals_result=losses,
        callbacks=[hook],
        verbose_eval=False,
    )
    rule = rules.load("LossNotDecreasing", PARAMETERS)
    rule.learn({"metrics": rules.Collection(include_regex=(".*",))})
    for step in range(0, ROUNDS, 2):
        saved = {f"{channel}-logloss": losses[channel]["logloss"][step] for channel in sets}
        if rule.observe(rules.Step(step), saved):
            return step
    raise AssertionError("the rule does not fire on the cookbook's data")


def upload(trial: Path, job: str, s3: Any) -> None:
    for path in trial.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), "bench", f"debug/{job}/debug-output/{path.relative_to(trial)}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
