"""The templates and the policy of deploy/, and that they agree."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode.cfn_yaml import load as load_template

from tests.stacks import DEPLOY, POLICY, Stack, create, create_service
from watcher.config.load import load
from watcher.daemon.threads import DRAIN_TIMEOUT_S
from watcher.delivery import outbox
from watcher.sandbox.process import Sandbox
from watcher.store.dynamodb.items import EXPIRES_AT
from watcher.store.dynamodb.table import KEYS

TEMPLATE = load_template(str(DEPLOY / "ecs.yaml"))
MEMBER_TEMPLATE = load_template(str(DEPLOY / "member-account.yaml"))
RESOURCES = TEMPLATE["Resources"]
TASK = RESOURCES["TaskDefinition"]["Properties"]
[CONTAINER] = TASK["ContainerDefinitions"]
TOPIC = "arn:aws:sns:us-east-1:111122223333:TOPIC"
ABOUT_JOBS = (
    "FindJobs",
    "ReadJobs",
    "ReadLogs",
    "ReadMetrics",
    "ListDebugOutput",
    "ReadDebugOutput",
)


def test_cfn_lint_finds_no_problem():
    lint = Path(sys.executable).with_name("cfn-lint")
    templates = sorted(DEPLOY.glob("*.yaml"))

    done = subprocess.run([lint, *templates], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


# -- the policy -----------------------------------------------------------------------------------


def allowed_to(stack: Stack) -> dict[str, Any]:
    """The task's statements by Sid, with this stack's resource names replaced by those of policy.json."""
    names = {
        "Queue": "QUEUE",
        "DeadLetterQueue": "DEAD-LETTER-QUEUE",
        "EvaluationLogGroup": "LOG-GROUP",
        "Table": "TABLE",
    }
    text = json.dumps(stack.statements("TaskRole")).replace("123456789012", "111122223333")
    for resource, name in names.items():
        text = text.replace(stack.ids[resource].rpartition("/")[2], name)
    return by_sid(json.loads(text))


def by_sid(statements: list[Any]) -> dict[str, Any]:
    return {statement["Sid"]: statement for statement in statements}


def test_the_task_has_each_statement_of_policy_json(sandbox: Sandbox):
    stack = create_service(
        sandbox, AllowStopping="yes", AlertTopicArns=TOPIC, DebugOutputBuckets="BUCKET-OF-YOUR-JOBS"
    )

    assert allowed_to(stack) == by_sid(POLICY["Statement"])


def test_by_default_the_task_can_neither_stop_nor_publish(sandbox: Sandbox):
    stack = create_service(sandbox)

    assert by_sid(POLICY["Statement"]).keys() - allowed_to(stack).keys() == {
        "StopTaggedJobs",
        "PublishAlerts",
    }


def test_several_buckets_are_each_listed_and_read(sandbox: Sandbox):
    allowed = allowed_to(create_service(sandbox, DebugOutputBuckets="churn,fraud-*"))

    assert allowed["ListDebugOutput"]["Resource"] == ["arn:aws:s3:::churn", "arn:aws:s3:::fraud-*"]
    assert allowed["ReadDebugOutput"]["Resource"] == ["arn:aws:s3:::churn/*", "arn:aws:s3:::fraud-*/*"]


def test_in_a_member_account_the_role_has_the_statements_about_jobs():
    member = MEMBER_TEMPLATE["Resources"]
    [reading] = member["Role"]["Properties"]["Policies"]
    task = by_sid(RESOURCES["TaskPolicy"]["Properties"]["PolicyDocument"]["Statement"])

    assert reading["PolicyDocument"]["Statement"] == [task[sid] for sid in ABOUT_JOBS]
    assert statement(member["StopPolicy"]) == statement(RESOURCES["StopPolicy"])


def statement(policy: Any) -> Any:
    return policy["Properties"]["PolicyDocument"]["Statement"]


def test_only_the_task_with_the_external_id_can_act_in_a_member_account(sandbox: Sandbox):
    role = "arn:aws:iam::111122223333:role/ecs-TaskRole"
    bus = "arn:aws:events:us-east-1:111122223333:event-bus/ecs-members"
    stack = create(sandbox, "member-account.yaml", WatcherRoleArn=role, BusArn=bus, ExternalId="a-secret")

    assert stack.outputs["RoleArn"].endswith(":role/watcher")  # what AssumeMemberRoles allows
    trust = sandbox.client("iam").get_role(RoleName="watcher")["Role"]["AssumeRolePolicyDocument"]
    [statement] = trust["Statement"]
    assert statement["Principal"] == {"AWS": role}
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": "a-secret"}}
    [target] = sandbox.client("events").list_targets_by_rule(Rule=rule_name(stack))["Targets"]
    assert target["Arn"] == bus


def rule_name(stack: Stack) -> str:
    return stack.ids["Rule"].rpartition("/")[2]


# -- the task -------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """The variables that the task's settings can use as ${NAME}."""
    plain = {variable["Name"] for variable in CONTAINER["Environment"] if "Name" in variable}
    secret = {entry["Fn::If"][1]["Name"] for entry in CONTAINER["Secrets"]}
    return dict.fromkeys(plain | secret, "xoxb-or-anything")


def test_the_tasks_settings_load_and_use_its_queue_and_its_table(tmp_path):
    settings = tmp_path / "watcher.toml"
    settings.write_text(TEMPLATE["Parameters"]["Settings"]["Default"])
    given = environment() | {"QUEUE_URL": "https://sqs.example/queue", "STORE_URL": "dynamodb://table"}

    config = load(settings, given)

    assert config.watch.queue_url == "https://sqs.example/queue"
    assert config.store.url == "dynamodb://table"


def test_settings_that_are_kept_as_a_secret_are_shown_by_neither_the_stack_nor_the_task():
    [shown] = [entry["Fn::If"] for entry in CONTAINER["Environment"] if "Fn::If" in entry]
    kept = CONTAINER["Secrets"][0]["Fn::If"]
    [policy] = RESOURCES["ExecutionRole"]["Properties"]["Policies"]["Fn::If"][1]
    [allowed] = policy["PolicyDocument"]["Statement"]

    assert shown == [
        "WithSettingsArn",
        {"Ref": "AWS::NoValue"},
        {"Name": "WATCHER_TOML", "Value": {"Ref": "Settings"}},
    ]
    assert kept[:2] == ["WithSettingsArn", {"Name": "WATCHER_TOML", "ValueFrom": {"Ref": "SettingsArn"}}]
    assert set(allowed["Action"]) == {"secretsmanager:GetSecretValue", "ssm:GetParameters"}
    assert allowed["Resource"][0]["Fn::If"][:2] == ["WithSettingsArn", {"Ref": "SettingsArn"}]


def test_every_variable_used_in_the_settings_is_set():
    described = TEMPLATE["Parameters"]["Settings"]["Description"]

    assert set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", described)) <= set(environment())


def test_the_root_is_read_only_except_where_the_image_writes():
    declared = re.search(r"^VOLUME (\[.*\])$", (DEPLOY.parent / "Dockerfile").read_text(), re.MULTILINE)
    assert declared
    mounted = {mount["ContainerPath"]: mount for mount in CONTAINER["MountPoints"]}

    assert CONTAINER["ReadonlyRootFilesystem"] is True
    assert sorted(mounted) == sorted(json.loads(declared[1]))
    assert not any(mount["ReadOnly"] for mount in mounted.values())
    assert {mount["SourceVolume"] for mount in mounted.values()} == {each["Name"] for each in TASK["Volumes"]}


def test_the_task_starts_on_one_processor_with_the_command_of_the_image():
    found = re.search(r"^ENTRYPOINT (\[.*\])$", (DEPLOY.parent / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    *kept, watcher = CONTAINER["EntryPoint"]
    here = str(min(os.sched_getaffinity(0)))  # on some machines tests cannot run on processor 0
    where = "import os; print(os.sched_getaffinity(0), os.getppid())"
    command = [here if word == "0" else word for word in kept]
    done = subprocess.run(
        [*command, sys.executable, "-c", where], capture_output=True, text=True, check=False
    )

    assert [watcher] == json.loads(found[1])
    assert done.stdout == f"{{{here}}} {os.getpid()}\n"  # no process in between that could block signals


def test_the_task_has_the_health_check_of_the_image():
    dockerfile = (DEPLOY.parent / "Dockerfile").read_text()
    found = re.search(r"^HEALTHCHECK (.*)\\\n +CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert found
    options = dict(option.removeprefix("--").split("=") for option in shlex.split(found[1]))
    check = CONTAINER["HealthCheck"]

    assert check["Command"] == ["CMD", *json.loads(found[2])]
    assert options == {
        "interval": f"{check['Interval']}s",
        "timeout": f"{check['Timeout']}s",
        "start-period": f"{check['StartPeriod']}s",
    }


def test_the_task_has_enough_time_to_shut_down():
    assert CONTAINER["StopTimeout"] > DRAIN_TIMEOUT_S


def test_nothing_can_connect_to_the_task():
    group = RESOURCES["SecurityGroup"]["Properties"]

    assert "SecurityGroupIngress" not in group
    assert [rule["ToPort"] for rule in group["SecurityGroupEgress"]] == [443]
    assert not any(
        resource["Type"].startswith("AWS::ElasticLoadBalancing") for resource in RESOURCES.values()
    )


def test_the_table_is_the_one_that_the_store_requires():
    table = RESOURCES["Table"]["Properties"]

    assert {key["AttributeName"]: key["KeyType"] for key in table["KeySchema"]} == KEYS
    assert table["AttributeDefinitions"] == [{"AttributeName": key, "AttributeType": "S"} for key in KEYS]
    assert table["TimeToLiveSpecification"] == {"AttributeName": EXPIRES_AT, "Enabled": True}


def test_the_table_outlives_the_stack():
    assert RESOURCES["Table"]["DeletionPolicy"] == RESOURCES["Table"]["UpdateReplacePolicy"] == "Retain"


def test_a_failed_deployment_is_rolled_back():
    deployment = RESOURCES["Service"]["Properties"]["DeploymentConfiguration"]

    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}


def test_an_alarm_is_raised_as_long_as_a_destination_refuses_alerts():
    counted, alarm = RESOURCES["Refusals"]["Properties"], RESOURCES["DestinationRefuses"]["Properties"]
    [metric] = counted["MetricTransformations"]
    found = re.fullmatch(r'{ \$\.event = ("[a-z_]+") }', counted["FilterPattern"])
    assert found

    assert f"level({found[1]}," in inspect.getsource(outbox)
    assert counted["LogGroupName"] == {"Ref": "LogGroup"}
    assert (alarm["Namespace"], alarm["MetricName"]) == (metric["MetricNamespace"], metric["MetricName"])
    assert alarm["Period"] * (alarm["EvaluationPeriods"] - 1) >= outbox.MAX_REFUSED_DELAY_S


# -- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [TEMPLATE, MEMBER_TEMPLATE], ids=["ecs", "member-account"])
def test_every_parameter_and_output_has_a_description(template):
    for entry in [*template["Parameters"].values(), *template["Outputs"].values()]:
        assert entry["Description"].endswith(".")
