"""`watcher check`, on the sandbox and on Slack's double."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.doubles.iam import IamDouble
from tests.doubles.slack import SlackDouble
from tests.doubles.webhook import WebhookDouble
from tests.shell.conftest import CommandResult
from watcher.sandbox.process import Sandbox

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

Watcher = Callable[..., CommandResult]

BUCKET = "team-bucket"
TOPIC = "arn:aws:sns:us-east-1:123456789012:training-alerts"


@pytest.fixture
def slack() -> Iterator[SlackDouble]:
    with SlackDouble() as slack:
        yield slack


@pytest.fixture
def healthy(aws_environment: Sandbox) -> Sandbox:
    """An account with one job that has saved debug output."""
    s3 = aws_environment.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="output/churn-1/debug-output/index/0.json", Body=b"{}")
    aws_environment.control.put_training_job(
        "churn-1", TrainingJobStatus="InProgress", DebugHookConfig={"S3OutputPath": f"s3://{BUCKET}/output"}
    )
    return aws_environment


def states(ran: CommandResult) -> dict[str, str]:
    return {check["name"]: check["state"] for check in ran.json}


def found(ran: CommandResult, name: str) -> dict[str, Any]:
    return next(check for check in ran.json if check["name"] == name)


def test_in_a_healthy_account_every_check_passes_and_says_what_it_found(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble
):
    Path("watcher.toml").write_text(
        f'[slack]\nbot_token = "{slack.token}"\napi_url = "{slack.api_url}"\nchannel = "#alerts"'
    )

    ran = watcher("check", "--json")

    assert states(ran) == dict.fromkeys(
        (
            "configuration",
            "store",
            "Slack",
            "credentials",
            "jobs in progress",
            "job details",
            "rule logs",
            "debug output",
            "training metrics",
            "channel #alerts",
        ),
        "ok",
    )
    assert ran.code == 0
    assert found(ran, "credentials")["found"].startswith("arn:aws:")
    assert found(ran, "debug output")["found"] == f"s3://{BUCKET}/output/churn-1/debug-output"
    assert list(ran.json[0]) == ["name", "state", "found", "fix"]


def test_check_prints_a_readable_table(watcher: Watcher, healthy: Sandbox):
    ran = watcher("check")

    assert ran.code == 0
    assert "all settings have their defaults" in ran.out
    assert ran.out.count("\nok ") >= 6


def test_the_variable_with_the_settings_is_named_as_their_source(
    watcher: Watcher, healthy: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WATCHER_TOML", '[watch]\njobs = ["churn-*"]')

    assert found(watcher("check", "--json"), "configuration")["found"] == "WATCHER_TOML"


@pytest.mark.parametrize(
    ("operation", "check"),
    [
        ("sagemaker:DescribeTrainingJob", "job details"),
        ("logs:DescribeLogStreams", "rule logs"),
        ("logs:FilterLogEvents", "rule logs"),
        ("s3:GET", "debug output"),
    ],
)
def test_a_missing_permission_fails_only_its_own_check_and_is_named(
    watcher: Watcher, healthy: Sandbox, operation, check
):
    healthy.control.inject_fault(
        operation, "AccessDeniedException", "not authorized to perform it", status=403
    )

    ran = watcher("check", "--json")

    assert ran.code == 1
    assert [name for name, state in states(ran).items() if state == "failed"] == [check]
    assert found(ran, check)["fix"].startswith("allow ")


def test_a_refused_search_is_a_warning_because_listing_works(watcher: Watcher, healthy: Sandbox):
    healthy.control.inject_fault("sagemaker:Search", "AccessDeniedException", "not authorized")

    ran = watcher("check", "--json")

    assert found(ran, "jobs in progress")["state"] == "warning"
    assert "Watcher uses ListTrainingJobs instead" in found(ran, "jobs in progress")["found"]
    assert ran.code == 0


def test_refused_search_and_listing_fail_because_no_job_can_be_watched(watcher: Watcher, healthy: Sandbox):
    for operation in ("sagemaker:Search", "sagemaker:ListTrainingJobs"):
        healthy.control.inject_fault(operation, "AccessDeniedException", "not authorized")

    ran = watcher("check", "--json")

    assert found(ran, "jobs in progress")["state"] == "failed"
    assert found(ran, "jobs in progress")["fix"] == "allow sagemaker:ListTrainingJobs"


def test_expired_credentials_are_reported_once_and_aws_is_not_called_again(
    watcher: Watcher, healthy: Sandbox
):
    healthy.control.inject_fault("sts:GetCallerIdentity", "ExpiredToken", "The token has expired", status=403)
    healthy.control.forget_calls()

    ran = watcher("check", "--json")

    assert ran.code == 1
    assert list(states(ran)) == ["configuration", "store", "credentials", "console"]
    assert "Sign in again" in found(ran, "credentials")["found"]
    assert set(healthy.control.calls()) == {"sts:GetCallerIdentity"}


def test_missing_credentials_cause_no_traceback(watcher: Watcher, healthy: Sandbox, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    ran = watcher("check", "--json")

    assert ran.code == 1
    assert "no usable AWS credentials" in found(ran, "credentials")["found"]


def test_a_missing_region_is_a_failed_check(watcher: Watcher, healthy: Sandbox, monkeypatch, tmp_path):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    ran = watcher("check", "--json")

    assert ran.code == 1
    assert 'write region = "us-east-1"' in found(ran, "credentials")["found"]


def test_a_token_that_slack_refuses_fails_and_is_not_shown(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble
):
    Path("watcher.toml").write_text(f'[slack]\nbot_token = "xoxb-wrong"\napi_url = "{slack.api_url}"')

    ran = watcher("check", "--json")

    assert ran.code == 1
    assert found(ran, "Slack")["state"] == "failed"
    assert "invalid_auth" in found(ran, "Slack")["found"]
    assert "xoxb-wrong" not in ran.out + ran.err


def test_an_unreachable_slack_fails_with_what_to_check(watcher: Watcher, healthy: Sandbox):
    Path("watcher.toml").write_text(
        '[slack]\nbot_token = "xoxb-nobody-listens-here"\napi_url = "http://127.0.0.1:1/api/"\n'
    )

    ran = watcher("check", "--json")

    assert ran.code == 1
    check = found(ran, "Slack")
    assert (check["state"], "cannot be reached" in check["found"]) == ("failed", True)
    assert check["fix"] == "check the network and slack.api_url, then try again"


def test_an_unwritable_store_fails_and_the_rest_is_still_checked(watcher: Watcher, healthy: Sandbox):
    Path("watcher.toml").write_text('[store]\nurl = "sqlite:///nowhere/watcher.db"')

    ran = watcher("check", "--json")

    assert found(ran, "store")["state"] == "failed"
    assert found(ran, "job details")["state"] == "ok"


def test_without_any_debug_output_reading_it_is_skipped(watcher: Watcher, aws_environment: Sandbox):
    ran = watcher("check", "--json")

    assert ran.code == 0
    assert found(ran, "debug output")["state"] == "warning"
    assert found(ran, "job details")["state"] == "ok"


def test_unreadable_training_metrics_are_a_warning_unless_rules_are_attached(
    watcher: Watcher, healthy: Sandbox, tmp_path: Path
):
    healthy.control.inject_fault("cloudwatch:GetMetricData", "AccessDenied", "not authorized", status=403)

    mirrored = watcher("check", "--json")
    (tmp_path / "watcher.toml").write_text('rules.local = "attach"\nrules.attach = [{rule = "Overfit"}]')
    attached = watcher("check", "--json")

    assert found(mirrored, "training metrics")["state"] == "warning"
    assert "have no curve" in found(mirrored, "training metrics")["found"]
    assert found(attached, "training metrics")["state"] == "failed"
    assert found(attached, "training metrics")["fix"] == "allow cloudwatch:GetMetricData"


def test_keys_without_effect_yet_are_a_warning(watcher: Watcher, healthy: Sandbox):
    Path("watcher.toml").write_text('[slack]\napp_token = "xapp-1"')

    configuration = found(watcher("check", "--json"), "configuration")

    assert configuration["state"] == "warning"
    assert "slack.app_token" in configuration["found"]


def test_the_tags_permission_is_checked_only_when_tags_are_watched(watcher: Watcher, healthy: Sandbox):
    Path("watcher.toml").write_text('[watch.tags]\nteam = "risk"')

    assert states(watcher("check", "--json"))["job tags"] == "ok"


LOG_GROUP = "/watcher/evaluations"


@pytest.fixture
def with_log_group(watcher: Watcher) -> None:
    Path("watcher.toml").write_text(f'[rules]\nlog_group = "{LOG_GROUP}"')


@pytest.mark.usefixtures("with_log_group")
def test_a_missing_log_group_for_evaluations_fails_with_the_command_that_creates_it(
    watcher: Watcher, healthy: Sandbox
):
    check = found(watcher("check", "--json"), "evaluation log")

    assert check["state"] == "failed"
    assert check["found"] == f"rules.log_group: log group {LOG_GROUP} does not exist in us-east-1"
    assert f"aws logs create-log-group --region us-east-1 --log-group-name {LOG_GROUP}" in check["fix"]


@pytest.mark.usefixtures("with_log_group")
def test_writing_to_the_log_group_for_evaluations_is_tried_and_cleaned_up(watcher: Watcher, healthy: Sandbox):
    logs = healthy.client("logs")
    logs.create_log_group(logGroupName=LOG_GROUP)

    allowed = found(watcher("check", "--json"), "evaluation log")
    healthy.control.inject_fault("logs:PutLogEvents", "AccessDeniedException", "not authorized")
    denied = found(watcher("check", "--json"), "evaluation log")

    assert allowed["state"] == "ok"
    assert (denied["state"], denied["fix"]) == ("failed", "allow logs:PutLogEvents")
    assert logs.describe_log_streams(logGroupName=LOG_GROUP)["logStreams"] == []
    logs.close()


def test_an_account_that_refuses_its_role_fails_in_its_own_line(watcher: Watcher, healthy: Sandbox):
    role = "arn:aws:iam::444455556666:role/watcher"
    healthy.control.inject_fault("sts:AssumeRole", "AccessDenied", "not authorized", status=403)
    Path("watcher.toml").write_text(f'[[account]]\nrole_arn = "{role}"')

    ran = watcher("check", "--json")

    assert [name for name, state in states(ran).items() if state == "failed"] == [
        f"credentials (us-east-1 as {role})"
    ]
    assert found(ran, f"credentials (us-east-1 as {role})")["fix"] == "allow sts:AssumeRole"
    assert "Traceback" not in ran.err


# -- destinations ---------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[WebhookDouble]:
    with WebhookDouble("a shared secret", clock=lambda: datetime.now(UTC)) as receiver:
        yield receiver


def configure(slack: SlackDouble, *routes: str, channel: str = "") -> None:
    """Write the settings: each route is `JOB to DESTINATION …`."""
    lines = [f'webhook.secret = "a shared secret"\n[slack]\nbot_token = "{slack.token}"']
    lines += [f'api_url = "{slack.api_url}"', f'channel = "{channel}"']
    for route in routes:
        job, _, *to = route.split()
        lines += ["[[route]]", f'job = "{job}"', f"to = {json.dumps(to)}"]
    Path("watcher.toml").write_text("\n".join(lines))


def destinations(ran: CommandResult) -> dict[str, str]:
    """The states of the checks of destinations."""
    words = ("channel ", "webhook ", "topic ", "console", "test message ")
    return {name: state for name, state in states(ran).items() if name.startswith(words)}


def test_each_channel_of_each_route_is_tried_once_and_named_with_the_fix(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble
):
    configure(
        slack,
        "prod-* to slack:#prod slack:#nowhere",
        "dev-* to slack:#others slack:#prod",
        "old-* to slack:#old",
        channel="#alerts",
    )

    ran = watcher("check", "--json")

    assert ran.code == 1
    assert destinations(ran) == {
        "channel #prod": "ok",
        "channel #nowhere": "failed",
        "channel #others": "failed",
        "channel #old": "failed",
        "channel #alerts": "ok",
    }
    assert "channel_not_found" in found(ran, "channel #nowhere")["found"]
    assert "invite it with /invite @watcher" in found(ran, "channel #others")["found"]
    assert "unarchive it, or route to another one" in found(ran, "channel #old")["found"]
    assert len([check for check in ran.json if check["name"] == "channel #prod"]) == 1
    assert slack.messages == []


def test_webhooks_topics_and_the_console_are_tried_too(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble, receiver: WebhookDouble
):
    nobody = "http://127.0.0.1:1/hook"
    configure(slack, f"* to webhook:{receiver.url}?key=s3cret webhook:{nobody} sns:{TOPIC} console")

    ran = watcher("check", "--json")
    healthy.client("sns").create_topic(Name="training-alerts")
    with_topic = watcher("check", "--json")

    assert destinations(ran) == {
        f"webhook {receiver.url}": "ok",
        f"webhook {nobody}": "failed",
        f"topic {TOPIC}": "failed",
        "console": "ok",
    }
    assert "nothing listens there" in found(ran, f"webhook {nobody}")["found"]
    assert "check its ARN in the route, or create it" in found(ran, f"topic {TOPIC}")["found"]
    assert destinations(with_topic)[f"topic {TOPIC}"] == "ok"
    assert receiver.received == []
    assert "s3cret" not in ran.out + ran.err


def test_channels_are_not_tried_when_the_token_is_refused(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble
):
    slack.workspace.revoked = True
    configure(slack, "prod-* to slack:#prod", channel="#alerts")

    ran = watcher("check", "--json")

    assert ran.code == 1
    assert "token_revoked" in found(ran, "Slack")["found"]
    assert destinations(ran) == {"channel #prod": "warning", "channel #alerts": "warning"}
    assert found(ran, "channel #prod")["found"] == "not tried: the check of Slack failed"
    assert slack.calls == {"auth.test": 1}


def test_a_missing_scope_is_a_warning_with_the_scope_to_add(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble
):
    slack.workspace.scopes.remove("channels:read")
    configure(slack, channel="#alerts")

    ran = watcher("check", "--json")

    assert ran.code == 0
    assert destinations(ran) == {"channel #alerts": "warning"}
    assert found(ran, "channel #alerts")["fix"].startswith("add channels:read under OAuth & Permissions")


def test_a_rate_limit_of_slack_is_a_warning_because_it_says_nothing_about_alerts(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble
):
    slack.fail("users.conversations", "ratelimited", retry_after=30)
    configure(slack, channel="#alerts")

    ran = watcher("check", "--json")

    assert ran.code == 0
    assert destinations(ran) == {"channel #alerts": "warning"}
    assert found(ran, "channel #alerts")["fix"] == "check again in 30 s"


def test_a_topic_is_tried_once_and_with_watchers_own_role(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble
):
    healthy.client("sns").create_topic(Name="training-alerts")
    configure(slack, f"* to sns:{TOPIC}")
    with Path("watcher.toml").open("a") as file:
        file.write('\n[[account]]\nrole_arn = "arn:aws:iam::444455556666:role/watcher"')

    ran = watcher("check", "--json")

    assert destinations(ran) == {f"topic {TOPIC}": "ok"}


def test_send_posts_a_test_message_to_each_destination_and_says_what_arrived(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble, receiver: WebhookDouble
):
    healthy.client("sns").create_topic(Name="training-alerts")
    configure(
        slack,
        f"prod-* to slack:#prod webhook:{receiver.url}",
        f"dev-* to webhook:{receiver.url} sns:{TOPIC} console",
        channel="#alerts",
    )

    ran = watcher("check", "--send")

    assert ran.code == 0
    texts = [message["text"] for message in slack.messages]
    assert texts == [
        "Test of Watcher: alerts for job prod-*, rule * arrive here. This is not an alert.",
        "Test of Watcher: alerts for findings that match no route arrive here. This is not an alert.",
    ]
    [body] = receiver.bodies
    assert body["kind"] == "test"
    assert "alerts for job prod-*, rule *; job dev-*, rule * arrive here" in body["text"]
    assert "Test of Watcher: alerts for job dev-*, rule * arrive here." in ran.out.splitlines()[0]
    for said in (f"posted: {texts[0]}", "answered 204: Test", "accepted for the topic's subscribers as "):
        assert said in ran.out


def test_send_fails_when_one_destination_refuses_and_the_others_still_get_it(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble, receiver: WebhookDouble
):
    receiver.secret = "another secret"
    configure(slack, f"* to webhook:{receiver.url} slack:#alerts")

    without, sent = watcher("check", "--json"), watcher("check", "--json", "--send")

    assert (without.code, sent.code) == (0, 1)
    refused = found(sent, f"test message to webhook {receiver.url}")
    assert refused["state"] == "failed"
    assert "answered 401 Unauthorized; check that it has the same webhook.secret" in refused["found"]
    assert destinations(sent)["test message to channel #alerts"] == "ok"
    assert len(slack.messages) == 1


def test_send_prints_nothing_but_json_with_json(watcher: Watcher, healthy: Sandbox):
    ran = watcher("check", "--send", "--json")

    assert destinations(ran) == {"console": "ok", "test message to console": "warning"}
    assert found(ran, "test message to console")["found"] == "not sent: with --json, stdout is data"


# -- the queue ------------------------------------------------------------------------------------


@pytest.fixture
def queues(watcher: Watcher, healthy: Sandbox) -> Iterator[tuple[SQSClient, str, str]]:
    """A queue that the settings name, and its dead-letter queue."""
    sqs = healthy.client("sqs")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    target = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": 10})
    queue = sqs.create_queue(QueueName="changes", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    Path("watcher.toml").write_text(f'[watch]\nqueue_url = "{queue}"')
    yield sqs, queue, dead
    sqs.close()


def test_the_queue_is_checked_and_its_messages_are_left_to_the_daemon(
    watcher: Watcher, queues: tuple[SQSClient, str, str]
):
    sqs, queue, _ = queues
    sqs.send_message(QueueUrl=queue, MessageBody="{}")

    check = found(watcher("check", "--json"), "queue")

    assert check["state"] == "ok"
    assert check["found"] == "1 waiting, 0 in flight; the dead-letter queue is empty"
    assert [message["Body"] for message in sqs.receive_message(QueueUrl=queue)["Messages"]] == ["{}"]


def test_messages_in_the_dead_letter_queue_are_a_warning(
    watcher: Watcher, queues: tuple[SQSClient, str, str]
):
    sqs, _, dead = queues
    sqs.send_message(QueueUrl=dead, MessageBody="poison")

    check = found(watcher("check", "--json"), "queue")

    assert check["state"] == "warning"
    assert "1 in the dead-letter queue, which Watcher could not handle" in check["found"]
    assert "redrive" in check["fix"]


@pytest.mark.parametrize("lost", ["its redrive policy", "the queue that the policy names"])
def test_a_queue_without_a_dead_letter_queue_is_a_warning(
    watcher: Watcher, queues: tuple[SQSClient, str, str], lost: str
):
    sqs, queue, dead = queues
    if lost == "its redrive policy":
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": ""})
    else:
        sqs.delete_queue(QueueUrl=dead)

    check = found(watcher("check", "--json"), "queue")

    assert (check["state"], "no dead-letter queue" in check["found"]) == ("warning", True)


def test_a_queue_that_does_not_exist_fails_and_is_named(watcher: Watcher, queues: tuple[SQSClient, str, str]):
    sqs, queue, _ = queues
    sqs.delete_queue(QueueUrl=queue)

    ran = watcher("check", "--json")

    assert ran.code == 1
    assert found(ran, "queue")["state"] == "failed"
    assert found(ran, "queue")["found"] == f"watch.queue_url: no such queue: {queue}"
    assert "deploy/ecs.yaml" in found(ran, "queue")["fix"]


# -- stopping -------------------------------------------------------------------------------------

STOPS = "[[route]]\nstop = true"


def assume_role(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Give this process the session of a role, as a task on ECS has."""
    role = f"arn:aws:iam::123456789012:role/{name}"
    credentials = sandbox.client("sts").assume_role(RoleArn=role, RoleSessionName="task-1")["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", credentials["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", credentials["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", credentials["SessionToken"])


@pytest.mark.parametrize(
    ("allowed", "state", "fix"),
    [({"sagemaker:StopTrainingJob"}, "ok", ""), (set(), "failed", "allow sagemaker:StopTrainingJob")],
)
def test_the_permission_to_stop_is_simulated_for_the_role_of_the_session(
    watcher: Watcher, healthy: Sandbox, monkeypatch, allowed, state, fix
):
    assume_role(healthy, monkeypatch, "watcher")
    role = (
        "arn:aws:iam::123456789012:role/teams/ml/watcher"  # the role's path is not part of the session's ARN
    )
    Path("watcher.toml").write_text(STOPS)

    with IamDouble({role: allowed}) as iam:
        monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", iam.endpoint)
        ran = watcher("check", "--json")

    stopping = found(ran, "stopping jobs")
    assert (stopping["state"], stopping["fix"]) == (state, fix)
    assert stopping["found"].endswith(role)
    assert healthy.control.calls().get("sagemaker:StopTrainingJob", 0) == 0


def test_the_permission_to_stop_is_a_warning_when_iam_does_not_answer(
    watcher: Watcher, healthy: Sandbox, monkeypatch
):
    Path("watcher.toml").write_text(STOPS)

    with IamDouble({}) as iam:  # like the root user, for whom IAM does not simulate
        monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", iam.endpoint)
        ran = watcher("check", "--json")

    assert found(ran, "stopping jobs")["state"] == "warning"
    assert "sagemaker:StopTrainingJob" in found(ran, "stopping jobs")["fix"]


@pytest.mark.parametrize("text", ["", f"{STOPS}\n[stop]\ndry_run = true"])
def test_the_permission_to_stop_is_not_checked_when_no_route_stops_jobs(
    watcher: Watcher, healthy: Sandbox, text
):
    Path("watcher.toml").write_text(text)

    assert "stopping jobs" not in states(watcher("check", "--json"))


def test_a_missing_plotting_package_is_named(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    Path("watcher.toml").write_text(
        f'[slack]\nbot_token = "{slack.token}"\napi_url = "{slack.api_url}"\nchannel = "#alerts"'
    )

    slacks = found(watcher("check", "--json"), "Slack")

    assert slacks["state"] == "warning"
    assert "alerts have no plot" in slacks["found"]
    assert "pip install '.[plot]'" in slacks["fix"]


@pytest.mark.parametrize(
    ("scope", "state", "code"), [("files:write", "warning", 0), ("chat:write", "failed", 1)]
)
def test_a_missing_slack_scope_is_named_with_its_consequence(
    watcher: Watcher, healthy: Sandbox, slack: SlackDouble, scope: str, state: str, code: int
):
    slack.workspace.scopes.discard(scope)
    Path("watcher.toml").write_text(
        f'[slack]\nbot_token = "{slack.token}"\napi_url = "{slack.api_url}"\nchannel = "#alerts"'
    )

    ran = watcher("check", "--json")

    assert ran.code == code
    assert found(ran, "Slack")["state"] == state
    assert scope in found(ran, "Slack")["fix"]
