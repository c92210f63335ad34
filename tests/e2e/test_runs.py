"""Each run of a training job is told and stopped by itself, whenever the daemon looks."""

from __future__ import annotations

import time

from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import changed, issue, running, texts
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox


def test_a_job_that_begins_and_fails_between_two_runs_of_cron_is_told_once(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    for number in range(4):
        app = App(config, once=True)
        assert app.run_once()
        app.close()
        if number == 0:
            sandbox.control.put_training_job("churn")
            sandbox.control.put_training_job("churn", TrainingJobStatus="Failed", FailureReason="exit 1")
    (text,) = texts(slack)
    assert "churn" in text
    assert "failed" in text


def test_a_second_run_of_the_same_name_is_told_and_stopped_like_the_first(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    config = changed(config, route=[{"to": ["slack:#alerts"], "stop": True}])
    with running(App(config)) as app:
        for number in (1, 2):
            sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
            eventually(lambda number=number: len(slack.messages) == number, "an alert")
            eventually(
                lambda number=number: sandbox.control.calls().get("sagemaker:StopTrainingJob", 0) == number,
                "a stop",
            )
            eventually(
                lambda number=number: "Stopped by Watcher" in str(slack.messages[number - 1]), "an update"
            )
            sandbox.control.delete_training_job("churn")
            time.sleep(0.002)  # runs are told apart by milliseconds
        eventually(lambda: not app.store.watching(), "that the job is gone")
        assert len(app.store.jobs("churn")) == 2


def test_a_job_whose_tag_is_taken_off_is_left_alone(config: Config, sandbox: Sandbox, slack: SlackDouble):
    config = changed(config, watch={"tags": {"watch": "yes"}, "poll_interval": 1}, route=[{"stop": True}])
    sandbox.control.put_training_job("churn", Tags=[{"Key": "watch", "Value": "yes"}])
    with running(App(config)) as app:
        eventually(app.store.watching, "the job is known")
        sandbox.control.put_training_job("churn", Tags=[], DebugRuleEvaluationStatuses=[issue()])
        eventually(lambda: not app.store.watching(), "that it is left alone")
        sandbox.control.forget_calls()
        eventually(lambda: sandbox.control.calls().get("sagemaker:Search", 0) > 4, "two passes")
    assert slack.messages == []
    assert set(sandbox.control.calls()) == {"sagemaker:Search"}
