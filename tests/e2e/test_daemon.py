"""From a status change in SageMaker's API to the message in Slack, with real clients on both sides."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from structlog.testing import capture_logs

from tests.doubles.slack import SlackDouble
from tests.doubles.webhook import WebhookDouble
from tests.e2e.conftest import arn, blocks, changed, issue, running, texts
from tests.waiting import eventually
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.daemon.context import utc_now
from watcher.model import DeliveryState
from watcher.sandbox.process import Sandbox

RULE = {"RuleConfigurationName": "LossNotDecreasing", "RuleEvaluationStatus": "InProgress"}


def events(logs: list[dict[str, object]], event: str) -> list[dict[str, object]]:
    return [entry for entry in logs if entry["event"] == event]


def test_an_issue_is_reported_once_with_job_rule_and_step(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[RULE])
    with running(App(config)):
        eventually(lambda: sandbox.control.calls().get("sagemaker:Search", 0) > 2, "two passes")
        assert slack.messages == []
        sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue(step=14)])
        eventually(lambda: slack.messages, "an alert")
        passes = sandbox.control.calls()["sagemaker:Search"]
        eventually(lambda: sandbox.control.calls()["sagemaker:Search"] > passes + 2, "two more passes")
    (message,) = slack.messages
    assert "LossNotDecreasing" in message["text"]
    assert "churn" in message["text"]
    assert "14" in json.dumps(message["blocks"])


def test_the_alert_carries_the_log_of_the_rule(config: Config, sandbox: Sandbox, slack: SlackDouble):
    sandbox.control.put_training_job(
        "Churn-XGB-with-a-name-longer-than-that", DebugRuleEvaluationStatuses=[RULE]
    )
    sandbox.control.write_logs(
        "Churn-XGB-with-a-name-longer-than-that",
        ["booting", "Loss is not decreasing over the last 2 steps at step 14"],
        rule="LossNotDecreasing",
    )
    described = sandbox.client("sagemaker").describe_training_job(
        TrainingJobName="Churn-XGB-with-a-name-longer-than-that"
    )
    fired = described["DebugRuleEvaluationStatuses"][0] | issue()
    fired.pop("LastModifiedTime", None)
    sandbox.control.put_training_job(
        "Churn-XGB-with-a-name-longer-than-that", DebugRuleEvaluationStatuses=[fired]
    )
    with running(App(config)):
        eventually(lambda: slack.messages, "an alert")
    assert "Loss is not decreasing over the last 2 steps at step 14" in json.dumps(
        slack.messages[0]["blocks"]
    )


def test_a_profiler_rule_is_read_when_the_job_is_first_seen(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    report = {"RuleConfigurationName": "ProfilerReport", "RuleEvaluationStatus": "IssuesFound"}
    sandbox.control.put_training_job("churn", ProfilerRuleEvaluationStatuses=[report])
    with running(App(changed(config, route=[{"stop": True}]))):
        eventually(lambda: slack.messages, "an alert")
    assert "ProfilerReport" in slack.messages[0]["text"]
    assert "sagemaker:StopTrainingJob" not in sandbox.control.calls()


def test_an_outcome_after_the_end_of_its_job_is_reported(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[RULE])
    app = App(config)
    with running(app):
        eventually(app.store.watching, "the job is known")
        sandbox.control.put_training_job("churn", TrainingJobStatus="Completed", SecondaryStatus="Completed")
        eventually(lambda: app.store.jobs("churn")[0].snapshot.ended, "its end is seen")
        assert [job.name for job in app.store.watching()] == ["churn"]
        sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
        eventually(lambda: slack.messages, "an alert")
        eventually(lambda: not app.store.watching(), "the job is left alone")
    assert len(slack.messages) == 1


def test_jobs_that_ended_while_watcher_was_down_are_reported_when_it_restarts(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[RULE])
    app = App(config)
    app.run_once()
    app.close()
    sandbox.control.put_training_job(
        "churn",
        TrainingJobStatus="Failed",
        SecondaryStatus="Failed",
        FailureReason="AlgorithmError: exit code 1",
        DebugRuleEvaluationStatuses=[issue()],
    )
    app = App(config)
    assert app.run_once()
    app.close()
    (message,) = slack.messages
    assert "failed" in json.dumps(message)
    assert "LossNotDecreasing" in json.dumps(message)


def test_known_jobs_cost_one_search_for_each_hundred_and_no_describe(config: Config, sandbox: Sandbox):
    sandbox.control.put_training_jobs({"TrainingJobName": f"job-{number:03d}"} for number in range(230))
    app = App(config)
    app.reconciler.run()
    for job in sorted(job.arn for job in app.store.watching()):
        app.pipeline.look_again(job)
    waiting = app.work.waiting()
    sandbox.control.forget_calls()
    app.reconciler.run()
    assert sandbox.control.calls() == {"sagemaker:Search": 3 + 1}, "and one for the jobs that have ended"
    assert app.work.waiting() == waiting
    app.close()


def test_only_jobs_with_the_configured_names_and_tags_are_watched(config: Config, sandbox: Sandbox):
    tags = [{"Key": "team", "Value": "growth"}]
    sandbox.control.put_training_job("prod-1", Tags=tags)
    sandbox.control.put_training_job("prod-2")
    sandbox.control.put_training_job("test-1", Tags=tags)
    app = App(changed(config, watch={"jobs": ["prod-*"], "tags": {"team": "growth"}}))
    app.run_once()
    assert [job.name for job in app.store.watching()] == ["prod-1"]
    app.close()


def test_only_jobs_named_on_the_command_line_are_watched_until_their_end(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("mine", DebugRuleEvaluationStatuses=[RULE])
    sandbox.control.put_training_job("other", DebugRuleEvaluationStatuses=[issue()])
    app = App(config, [arn("mine")])
    with running(app):
        eventually(app.store.watching, "the job is known")
        sandbox.control.put_training_job(
            "mine", TrainingJobStatus="Failed", FailureReason="x", DebugRuleEvaluationStatuses=[issue()]
        )
        eventually(app.stopping.is_set, "the end")
    assert len(slack.messages) == 1
    assert all("mine" in text for text in texts(slack))
    assert "sagemaker:Search" not in sandbox.control.calls()


def test_without_search_permission_jobs_are_listed_and_this_is_logged_once(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.inject_fault("sagemaker:Search", "AccessDeniedException", "not allowed")
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with capture_logs() as logs, running(App(config)):
        eventually(lambda: slack.messages, "an alert")
        eventually(lambda: sandbox.control.calls()["sagemaker:Search"] > 2, "three passes")
    (said,) = events(logs, "aws_refused")
    assert said["operation"] == "sagemaker:Search"
    assert len(slack.messages) == 1


def test_without_search_permission_tags_are_requested(config: Config, sandbox: Sandbox, slack: SlackDouble):
    sandbox.control.inject_fault("sagemaker:Search", "AccessDeniedException", "not allowed")
    sandbox.control.put_training_job(
        "churn", Tags=[{"Key": "team", "Value": "growth"}], DebugRuleEvaluationStatuses=[issue()]
    )
    sandbox.control.put_training_job("other", DebugRuleEvaluationStatuses=[issue()])
    app = App(changed(config, watch={"tags": {"team": "growth"}}))
    app.run_once()
    app.close()
    assert ["churn" in text for text in texts(slack)] == [True]


def test_a_missing_permission_is_logged_once_and_the_rest_continues(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.inject_fault("sagemaker:DescribeTrainingJob", "AccessDeniedException", "not allowed")
    sandbox.control.inject_fault("logs:*", "AccessDeniedException", "not allowed")
    sandbox.control.put_training_job("quiet")
    fired = issue() | {
        "RuleEvaluationJobArn": "arn:aws:sagemaker:us-east-1:123456789012:processing-job/a-b-01234567"
    }
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[fired])
    with capture_logs() as logs, running(App(config)):
        eventually(lambda: slack.messages, "an alert")
        eventually(lambda: sandbox.control.calls()["sagemaker:Search"] > 4, "three passes")
    assert [entry["operation"] for entry in events(logs, "aws_refused")] == ["sagemaker:DescribeTrainingJob"]
    assert "logs:DescribeLogStreams" in blocks(slack)


def test_throttling_is_survived(config: Config, sandbox: Sandbox, slack: SlackDouble):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    sandbox.control.inject_fault("sagemaker:Search", times=2)
    with running(App(config)):
        eventually(lambda: slack.messages, "an alert")
    assert sandbox.control.calls()["sagemaker:Search"] >= 3


def test_an_outage_of_sagemaker_ends_with_the_next_pass(config: Config, sandbox: Sandbox, slack: SlackDouble):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    sandbox.control.inject_fault("sagemaker:Search", "InternalFailure", "down", status=500)
    app = App(config)
    with capture_logs() as logs:
        assert not app.run_once()
    app.close()
    assert len(events(logs, "aws_refused")) == 1
    assert slack.messages == []
    sandbox.control.clear_faults()
    app = App(config)
    assert app.run_once()
    app.close()
    assert len(slack.messages) == 1


def test_expired_credentials_are_logged_once_and_loaded_again_from_the_chain(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    sandbox.control.inject_fault("sagemaker:*", "ExpiredTokenException", "expired")
    app = App(config)
    with capture_logs() as logs, running(app):
        client = app.accounts.home.sagemaker
        eventually(lambda: sandbox.control.calls().get("sagemaker:Search", 0) > 2, "three passes")
        assert app.accounts.home.sagemaker is not client
        sandbox.control.clear_faults()
        eventually(lambda: slack.messages, "an alert")
    assert len(events(logs, "aws_refused")) == 1
    assert len(events(logs, "aws_answers_again")) == 1


def test_a_job_deleted_between_two_calls_is_released(config: Config, sandbox: Sandbox):
    sandbox.control.put_training_job("churn")
    app = App(config)
    app.reconciler.run()
    sandbox.control.delete_training_job("churn")
    assert app.pipeline.look_again(arn("churn")) is None
    assert app.store.watching() == []
    assert [record.snapshot.name for record in app.store.jobs()] == ["churn"]
    app.close()


def test_statuses_of_a_later_api_are_kept_and_shown(config: Config, sandbox: Sandbox, slack: SlackDouble):
    future = RULE | {"RuleEvaluationStatus": "Pondering"}
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[future])
    app = App(config)
    with capture_logs() as logs:
        app.pipeline.look_again(arn("churn"))
        sandbox.control.put_training_job(
            "churn", TrainingJobStatus="Hibernating", SecondaryStatus="Hibernating"
        )
        app.pipeline.look_again(arn("churn"))
    job = app.store.jobs("churn")[0].snapshot
    assert (job.status, job.outcomes[0].status) == ("Hibernating", "Pondering")
    assert [entry["status"] for entry in events(logs, "unknown_status")] == ["Pondering", "Hibernating"]
    assert [job.name for job in app.store.watching()] == ["churn"]
    assert slack.messages == []
    app.close()


def test_a_store_locked_by_another_program_is_logged_and_nothing_is_lost(
    config: Config, sandbox: Sandbox, slack: SlackDouble, tmp_path: Path
):
    app = App(config)
    other = sqlite3.connect(tmp_path / "watcher.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    with capture_logs() as logs, running(app):
        eventually(lambda: events(logs, "store_failed"), "an error")
        other.execute("ROLLBACK")
        eventually(lambda: slack.messages, "an alert")
    other.close()
    assert "lock" in str(events(logs, "store_failed")[0]["error"])
    assert len(slack.messages) == 1


def test_a_broken_channel_delays_no_other_and_is_kept(config: Config, sandbox: Sandbox, slack: SlackDouble):
    route = {"to": ["slack:#nowhere", "slack:#alerts"]}
    sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue()])
    app = App(changed(config, route=[route]))
    with capture_logs() as logs:
        app.run_once()
    states = {delivery.to: delivery.state for delivery in app.store.deliveries()}
    assert states == {"slack:#nowhere": DeliveryState.REFUSED, "slack:#alerts": DeliveryState.DELIVERED}
    refused = events(logs, "destination_refuses")[0]
    assert "channel_not_found" in str(refused["error"])
    app.close()


def test_webhooks_that_hang_delay_no_other_channel(config: Config, sandbox: Sandbox, slack: SlackDouble):
    hanging = 12
    with WebhookDouble("a shared secret", utc_now) as hook:
        for _ in range(hanging):
            hook.hang()
        settings = changed(
            config,
            webhook={"secret": hook.secret},
            route=[
                {
                    "to": [
                        *(f"webhook:{hook.url}?number={number}" for number in range(hanging)),
                        "slack:#alerts",
                    ]
                }
            ],
        )
        sandbox.control.put_training_job("first", DebugRuleEvaluationStatuses=[issue()])
        with running(App(settings)) as app:
            eventually(lambda: len(hook.received) == hanging, "requests that hang")
            sandbox.control.put_training_job("second", DebugRuleEvaluationStatuses=[issue()])
            eventually(lambda: len(slack.messages) == 2, "both alerts in Slack")
            webhook = [row for row in app.store.deliveries() if row.to.startswith("webhook:")]
            in_flight, pending = [DeliveryState.IN_FLIGHT] * hanging, [DeliveryState.PENDING] * hanging
            assert [row.state for row in webhook] == in_flight + pending
            hook.released.set()


def test_an_interrupted_search_does_not_mark_jobs_as_ended(config: Config, sandbox: Sandbox):
    sandbox.control.put_training_jobs({"TrainingJobName": f"job-{number:03d}"} for number in range(150))
    app = App(config)
    app.reconciler.run()
    waiting = app.work.waiting()
    sandbox.control.put_training_jobs({"TrainingJobName": f"new-{number:03d}"} for number in range(150))
    app.stop()
    app.reconciler.run()
    assert app.work.waiting() == waiting
    assert len(app.store.watching()) == 150
    app.close()
