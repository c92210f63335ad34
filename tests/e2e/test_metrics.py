"""The real daemon watches jobs without Debugger through their metrics in CloudWatch."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import arn, blocks, changed, issue, running
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.model import Reads
from watcher.sandbox.process import Sandbox

ATTACH = {"local": "attach", "attach": [{"rule": "LossNotDecreasing"}]}
DEFINITIONS = [{"Name": name, "Regex": f"{name}=([0-9.]+)"} for name in ("train:loss", "throughput")]


@pytest.fixture
def attaching(config: Config) -> Config:
    return changed(config, rules=ATTACH)


def place(sandbox: Sandbox, name: str, losses: list[float], **members: Any) -> None:
    """Place a job without a hook that has logged one loss per minute until now."""
    began = time.time() // 60 * 60 - 60 * (len(losses) + 2)
    sandbox.control.put_training_job(
        name,
        **{
            "TrainingStartTime": began,
            "AlgorithmSpecification": {"TrainingInputMode": "File", "MetricDefinitions": DEFINITIONS},
            **members,
        },
    )
    rows = [(began + 60 * minute + 20, loss) for minute, loss in enumerate(losses)]
    throughput = [(at, 100.0) for at, _ in rows]
    sandbox.control.put_metrics(name, {"train:loss": rows, "throughput": throughput})


STALLED = [1 / (minute + 1) for minute in range(20)] + [0.05] * 20


def test_a_loss_that_stalls_is_reported_with_its_curve_and_the_job_is_stopped(
    attaching: Config, sandbox: Sandbox, slack: SlackDouble
):
    place(sandbox, "bare", STALLED)
    with running(App(changed(attaching, route=[{"rule": "LossNotDecreasing", "stop": True}]))):
        eventually(lambda: sandbox.control.calls().get("sagemaker:StopTrainingJob"), "the stop")
        sandbox.control.put_training_job("bare", TrainingJobStatus="Stopped")
        eventually(lambda: slack.messages and "SageMaker confirms it" in blocks(slack), "the confirmation")
    assert len(slack.messages) == 1
    assert slack.messages[0]["text"].startswith(
        "Stopped: LossNotDecreasing found an issue in bare at step 30"
    )
    assert "did not change between step 20 and step 30; the rule wants a fall of 0.1 %" in blocks(slack)
    assert "From the job's metrics in CloudWatch: a step is a minute of training" in blocks(slack)
    assert re.search(r"train:loss  needed +0.04995", blocks(slack))
    assert "▁▁▁" in blocks(slack)
    assert "Not available" not in blocks(slack)


def test_a_loss_that_falls_is_not_reported_and_a_restarted_daemon_continues(
    attaching: Config, sandbox: Sandbox, slack: SlackDouble
):
    place(sandbox, "bare", [1 / (minute + 1) for minute in range(20)])
    first = App(attaching)
    first.run_once()
    first.close()
    assert slack.messages == []
    second = App(attaching)
    (record,) = second.store.jobs("bare")
    second.close()
    assert record.evaluations
    assert record.evaluations[0].reads is Reads.METRICS
    assert '"newest": 19' in record.evaluations[0].states["LossNotDecreasing"]


def test_a_metric_that_falls_again_has_recovered_and_its_alert_is_not_lost(
    attaching: Config, sandbox: Sandbox, slack: SlackDouble
):
    place(sandbox, "bare", [*STALLED, *(0.05 / (minute + 2) for minute in range(20))])
    app = App(attaching)
    app.run_once()  # reads all of this in one pass
    (record,) = app.store.jobs("bare")
    app.close()
    (outcome,) = record.snapshot.outcomes
    assert (outcome.status, outcome.step) == ("Recovered", 40)
    assert outcome.details.startswith("The loss falls again: train:loss 0.05 at step 30, 0.025 at step 40; ")
    assert record.evaluations
    assert record.evaluations[0].due_at is not None
    assert len(slack.messages) == 1


def test_four_hundred_jobs_with_two_metrics_need_two_requests(
    attaching: Config, sandbox: Sandbox, slack: SlackDouble
):
    members = {
        "TrainingStartTime": time.time() - 300,
        "AlgorithmSpecification": {"TrainingInputMode": "File", "MetricDefinitions": DEFINITIONS},
    }
    names = [f"job-{number}" for number in range(400)]
    sandbox.control.put_training_jobs({"TrainingJobName": name, **members} for name in names)
    rules = {"local": "attach", "attach": [{"rule": "StalledTrainingRule"}]}
    app = App(changed(attaching, rules=rules))
    app.reconciler.run()
    assert app.evaluations.evaluate_due()
    calls = sandbox.control.calls()
    assert calls["cloudwatch:GetMetricData"] == 2
    evaluations = [record.evaluations[0] for record in app.store.jobs()]
    assert len([one for one in evaluations if one and one.cursor and one.due_at]) == 400
    app.close()
    assert slack.messages == []


def test_a_job_that_another_process_handles_does_not_block_the_others(
    attaching: Config, sandbox: Sandbox, slack: SlackDouble
):
    for name in ("held", "free"):
        place(sandbox, name, STALLED)
    app = App(attaching)
    app.reconciler.run()
    app.store.hold([arn("held")], "another process", 60)
    app.stop()  # avoids waiting for the other process
    app.evaluations.evaluate_due()
    assert [finding.job for finding in app.store.findings()] == ["free"]
    assert app.store.next_evaluation() is not None
    app.close()


def test_a_refusal_of_cloudwatch_is_logged_once_and_the_rest_continues(
    attaching: Config, sandbox: Sandbox, slack: SlackDouble
):
    place(sandbox, "bare", STALLED)
    place(sandbox, "other", STALLED, DebugRuleEvaluationStatuses=[issue()])
    sandbox.control.inject_fault("cloudwatch:GetMetricData", "AccessDenied", "not you", status=403)
    app = App(attaching)
    app.run_once()
    assert len(slack.messages) == 1
    assert "LossNotDecreasing found an issue in other" in slack.messages[0]["text"]
    assert app.store.next_evaluation() is not None
    app.close()
